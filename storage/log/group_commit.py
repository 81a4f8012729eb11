"""Group commit: what several threads want to write goes into one transaction.

A commit costs the same for one row as for a hundred, since it waits for the disk. A call that
cannot be done together with others, because an id was there before or because it is wrong, takes
the whole group's transaction back; then each is done in a transaction of its own.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from bandits.batching_queue import BatchingQueue, NotCombinable
from storage.databases import Database, SerializationConflict, Transaction

C = TypeVar("C")
R = TypeVar("R")


class CallType(Generic[C, R]):
    """A kind of calls: how one is done alone, and how several are done together.

    `together` may raise anything; then each is done alone.
    """

    def __init__(
        self,
        alone: Callable[[C], R],
        together: Callable[[Transaction, Sequence[C]], Sequence[R]],
    ) -> None:
        """Do a call by `alone`, which has its own transaction, or several in a given one."""
        self.alone = alone
        self.together = together


class _Call(Struct, frozen=True, eq=False):
    """A call, how it is done, and its kind: calls of one kind can be done together."""

    work: CallType[Any, Any]
    kind: Hashable
    asked: Any


class GroupCommit:
    """The queue of calls to one database."""

    def __init__(self, database: Database) -> None:
        """Write to `database`."""
        self._database = database
        self._queue: BatchingQueue[_Call, Any] = BatchingQueue(_alone, self._commit)

    def __len__(self) -> int:
        """Tell how many calls wait behind the group that is being committed."""
        return len(self._queue)

    def do(self, work: CallType[C, R], kind: Hashable, call: C) -> R:
        """Do a call, committed on return, together with what waits beside it.

        Args:
            work: how.
            kind: calls of one kind can be done together.
            call: what.

        Raises:
            Unavailable: the group could not be committed, or too many wait already; nothing of it
                was stored.
        """
        result: R = self._queue.do(_Call(work, kind, call))
        return result

    def _commit(self, group: Sequence[_Call]) -> Sequence[Any]:
        kinds: dict[Hashable, list[int]] = {}
        for place, call in enumerate(group):
            kinds.setdefault(call.kind, []).append(place)
        results: list[Any] = [None] * len(group)
        try:
            with self._database.writing() as transaction:
                for places in kinds.values():
                    together = group[places[0]].work.together
                    done = together(transaction, [group[i].asked for i in places])
                    for place, result in zip(places, done, strict=True):
                        results[place] = result
        except SerializationConflict as error:
            raise NotCombinable from error
        return results


def _alone(call: _Call) -> Any:
    return call.work.alone(call.asked)

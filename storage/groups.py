"""Group commit: what several threads want to write goes into one transaction.

A commit costs the same for one row as for a hundred, since it waits for the disk. Whoever comes
while another is committing waits; then one of those that wait, the leader, writes for all of them
in one transaction, and each gets its answer after the commit.

A call that cannot be done together with others, because an id was there before or because it is
wrong, takes the whole group's transaction back. Then each call is done alone, in a transaction of
its own, so that nobody fails for what a neighbour asked.
"""

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any, Generic, TypeVar

from bandits.errors import Unavailable
from storage.databases import Database, Raced, Transaction

C = TypeVar("C")
R = TypeVar("R")

MOST_CALLS = 200  # in one group, so that none waits long for the others
MOST_WAITING = 2_000  # behind the group that is being committed; whoever comes then comes again


class Work(Generic[C, R]):
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


class _Waiting:
    """A call in the queue; `woken` is free once it is done, is to be done alone, or leads."""

    __slots__ = ("call", "done", "error", "kind", "leads", "result", "woken", "work")

    def __init__(self, work: Work[Any, Any], kind: Hashable, call: Any) -> None:
        self.work = work
        self.kind = kind
        self.call = call
        self.leads = False
        self.done = False
        self.result: Any = None
        self.error: str | None = None
        self.woken = Lock()
        self.woken.acquire()


class Groups:
    """The queue of calls to one database."""

    def __init__(self, database: Database) -> None:
        """Write to `database`."""
        self._database = database
        self._changing = Lock()
        self._waiting: list[_Waiting] = []
        self._led = False

    def do(self, work: Work[C, R], kind: Hashable, call: C) -> R:
        """Do a call, committed on return, together with what waits beside it.

        Args:
            work: how.
            kind: calls of one kind can be done together.
            call: what.

        Raises:
            Unavailable: the group could not be committed, or too many wait already; nothing of it
                was stored.
        """
        mine = _Waiting(work, kind, call)
        with self._changing:
            if len(self._waiting) >= MOST_WAITING:
                raise Unavailable(f"{MOST_WAITING:,} calls wait to be recorded already")
            mine.leads, self._led = not self._led, True
            if not mine.leads:
                self._waiting.append(mine)
        if not mine.leads:
            mine.woken.acquire()  # its leader, or who led before it, lets it go on
        if mine.leads:
            self._lead(mine)
        if mine.error is not None:
            raise Unavailable(mine.error)
        result: R = mine.result if mine.done else work.alone(call)
        return result

    def _lead(self, mine: _Waiting) -> None:
        with self._changing:
            group = [mine, *self._waiting[: MOST_CALLS - 1]]
            del self._waiting[: MOST_CALLS - 1]
        try:
            if len(group) > 1:
                self._commit(group)
            else:
                mine.result = mine.work.alone(mine.call)
                mine.done = True
        finally:
            self._hand_over()
            for member in group[1:]:
                member.woken.release()

    def _hand_over(self) -> None:
        with self._changing:
            following = self._waiting.pop(0) if self._waiting else None
            self._led = following is not None
        if following is not None:
            following.leads = True
            following.woken.release()

    def _commit(self, group: Sequence[_Waiting]) -> None:
        kinds: dict[Hashable, list[_Waiting]] = {}
        for member in group:
            kinds.setdefault(member.kind, []).append(member)
        results: list[tuple[_Waiting, Any]] = []
        try:
            with self._database.writing() as transaction:
                for members in kinds.values():
                    done = members[0].work.together(transaction, [m.call for m in members])
                    results += zip(members, done, strict=True)
        except Raced:
            return
        except Unavailable as error:
            for member in group:
                member.error = str(error)
            return
        except Exception:  # noqa: BLE001 - whose fault it was, each finds out alone
            return
        for member, result in results:
            member.result, member.done = result, True

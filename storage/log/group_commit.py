"""Group commit: calls of several threads go into one transaction.

A commit costs the same for one row as for a hundred, since it waits for the disk. A call that comes
while none is being committed is done at once; those that come meanwhile wait, and are then done
together. A call that cannot be done together with others, because an id was there before or because
it is wrong, undoes the group's transaction; then each call is done in a transaction of its own.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, Protocol, TypeVar

from bandits.waits import BatchingQueue, NotCombinable
from storage.databases import Database, SerializationConflict, Transaction

MOST_ROWS = 200  # a call of more is a group of its own

R_co = TypeVar("R_co", covariant=True)


class Call(Protocol[R_co]):
    """A call that appends to the log, by itself or together with others of its kind."""

    @property
    def kind(self) -> Hashable:
        """Calls of equal kind can be done together, by the `run_group` of any of them."""
        ...

    def run(self) -> R_co:
        """Do this call in a transaction of its own."""
        ...

    def run_group(self, transaction: Transaction, calls: Sequence[Any]) -> Sequence[R_co]:
        """Do several calls of this kind; where it raises anything, each is done alone."""
        ...


def group_commit(database: Database) -> BatchingQueue[Call[Any], Any]:
    """Return the queue of calls that append to the log of a database."""
    return BatchingQueue(methodcaller("run"), partial(_commit, database))


def _commit(database: Database, calls: Sequence[Call[Any]]) -> Sequence[Any]:
    """Do calls in one transaction.

    Raises:
        NotCombinable: one of them has to be done alone; nothing was stored.
        Unavailable: the transaction could not be committed.
    """
    kinds: dict[Hashable, list[int]] = {}
    for place, call in enumerate(calls):
        kinds.setdefault(call.kind, []).append(place)
    results: list[Any] = [None] * len(calls)
    try:
        with database.writing() as transaction:
            for places in kinds.values():
                group = [calls[place] for place in places]
                group_results = group[0].run_group(transaction, group)
                for place, result in zip(places, group_results, strict=True):
                    results[place] = result
    except SerializationConflict as error:
        raise NotCombinable from error
    return results

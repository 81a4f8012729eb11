"""Withdrawals: events that are taken back, each by a row of its own; the event stays in the log.

A withdrawal may come before its event, which then never counts. Folds obey it as they obey events:
`storage.snapshots.observations`. Its batch is one of events, since it changes what events say.
"""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select

from bandits.actors import Actor
from bandits.store import StaleRead
from bandits.store.values import WithdrawalResult, WithdrawnEvent
from storage.databases import NamedRow, Transaction
from storage.log.batches import REFERENCES, open_batch
from storage.schema import batches, decisions, events, withdrawals
from storage.snapshots.voids import VoidLookup

_COLUMNS = ("decision", "event_id", "batch_id", "own_only")
_Key = tuple[int, str]  # number of a decision, and event id

_REPORTED = select(events.c.decision, events.c.event_id, batches.c.actor).join(
    batches, batches.c.id == events.c.batch_id
)
_WITHDRAWN = select(
    withdrawals.c.decision,
    withdrawals.c.event_id,
    withdrawals.c.own_only,
    batches.c.experiment_id,
    batches.c.actor,
    batches.c.created_at,
).join(batches, batches.c.id == withdrawals.c.batch_id)


def withdraw(  # noqa: PLR0913 - what is withdrawn, by whom and how
    transaction: Transaction,
    new: Sequence[WithdrawnEvent],
    *,
    actor: Actor,
    own_only: bool,
    partial: bool,
    at: float,
) -> WithdrawalResult:
    """Withdraw events of existing decisions, each once.

    Args:
        transaction: one that writes.
        new: the events, whether they are there or not.
        actor: who withdraws them,
        own_only: and may withdraw only what it reported itself.
        partial: withdraw the others where some are another actor's; else none.
        at: when, seconds since 1970.

    Raises:
        StaleRead: a decision was erased since its number was read.
    """
    transaction.lock(REFERENCES, shared=True)
    numbers = list({event.number for event in new})
    if transaction.count(decisions.c.serial, numbers) < len(numbers):
        raise StaleRead
    condition = transaction.is_any(events.c.decision, numbers)
    reporters: dict[_Key, Actor | None] = {
        (row[0], row[1]): row[2] for row in transaction.execute(_REPORTED.where(condition))
    }
    foreign = [
        place
        for place, event in enumerate(new)
        if own_only and reporters.get((event.number, event.event_id)) not in {actor, None}
    ]
    if foreign and not partial:
        return WithdrawalResult(foreign=foreign)
    seen = _in_force(transaction, numbers, actor)
    repeated: list[int] = []
    rows: defaultdict[int, list[_Key]] = defaultdict(list)
    for place in sorted(set(range(len(new))).difference(foreign)):
        key = new[place].number, new[place].event_id
        if key in seen:
            repeated.append(place)
        else:
            seen.add(key)
            rows[new[place].experiment_id].append(key)
    for experiment_id, keys in sorted(rows.items()):
        batch = open_batch(
            transaction, "reward", experiment_id, actor=actor, at=at, due_at=at, size=len(keys)
        )
        transaction.insert(withdrawals, _COLUMNS, [(*key, batch, own_only) for key in sorted(keys)])
    return WithdrawalResult(repeated, foreign)


def _in_force(transaction: Transaction, numbers: Sequence[int], actor: Actor) -> set[_Key]:
    """Read the events that are withdrawn by anybody's right, or by this actor; none of the void."""
    rows = read_withdrawals(transaction, numbers)
    return {(row.decision, row.event_id) for row in rows if not row.own_only or row.actor == actor}


def read_withdrawals(transaction: Transaction, numbers: Sequence[int]) -> list[NamedRow]:
    """Read the withdrawals of events of decisions, but for those that are void."""
    voids = VoidLookup(transaction)
    condition = transaction.is_any(withdrawals.c.decision, numbers)
    rows = transaction.execute(_WITHDRAWN.where(condition)).all()
    return [
        row for row in rows if voids.number(row.experiment_id, row.actor, row.created_at) is None
    ]


def is_withdrawn(rows: Sequence[NamedRow], event_id: str, actor: Actor | None) -> bool:
    """Return true where withdrawals of a decision take back an event that an actor reported."""
    return any(
        row.event_id == event_id and (not row.own_only or actor in {row.actor, None})
        for row in rows
    )

"""Appending metric events, each (decision, event id) once."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import bindparam, select

from bandits.errors import IdReused
from bandits.store import StaleRead
from bandits.store.values import DecisionRef, DecisionRefs, Events
from storage.databases import Transaction
from storage.log.batches import FOLLOWING, close_batch, open_batch
from storage.schema import PLACES, activations, batches, decisions, events, experiments

_COLUMNS = ("decision", "event_id", "batch_id", "metric", "value", "occurred_at", "late")

_Place = tuple[int, str]  # decision's number, event id


def read_targets(transaction: Transaction, ids: Sequence[str]) -> DecisionRefs:
    """Find the decisions of ids."""
    numbers = transaction.numbers(decisions.c.serial, decisions.c.id, ids)
    made = _batches(transaction, {number // PLACES for number in numbers})
    shared = {batch: each.target for batch, each in made.items()}
    known = [shared.get(number // PLACES) for number in numbers]
    waiting = {batch for batch, each in made.items() if each.waits}
    ended = {batch for batch, each in made.items() if each.ships}
    if waiting or ended:
        activated = _activated(transaction, [n for n in numbers if n // PLACES in waiting])
        shipped = _shipped(transaction, [n for n in numbers if n // PLACES in ended])
        for row, number in enumerate(numbers):
            if (batch := number // PLACES) in waiting or number in shipped:
                target = shared[batch]
                started_at = activated.get(number) if batch in waiting else target.started_at
                known[row] = replace(target, started_at=started_at, shipped=number in shipped)
    return DecisionRefs(known, numbers)


class _DecisionRow(NamedTuple):
    """What decisions of one batch share."""

    target: DecisionRef
    waits: bool  # for activation
    ships: bool  # its experiment does, so some of them may have been shipped


_BATCHES = (
    select(
        batches.c.id,
        experiments.c.key,
        batches.c.experiment_id,
        batches.c.created_at,
        batches.c.due_at.is_(None),
        experiments.c.shipped.is_not(None),
    )
    .join(experiments, experiments.c.id == batches.c.experiment_id)
    .where(batches.c.id.in_(bindparam("numbers", expanding=True)))
)


def _batches(transaction: Transaction, numbers: set[int]) -> dict[int, _DecisionRow]:
    made = {}
    found = transaction.execute(_BATCHES, {"numbers": sorted(numbers)})
    for number, key, experiment_id, created_at, waits, ships in found:
        made[number] = _DecisionRow(
            DecisionRef(key, experiment_id, created_at, shipped=False), waits, ships
        )
    return made


def _shipped(transaction: Transaction, numbers: Sequence[int]) -> frozenset[int]:
    """Tell which of these decisions were made after the stop."""
    if not numbers:
        return frozenset()
    some = transaction.among(decisions.c.serial, numbers)
    query = select(decisions.c.serial).where(decisions.c.shipped, some)
    return frozenset(transaction.execute(query).scalars())


def _activated(transaction: Transaction, numbers: Sequence[int]) -> dict[int, float]:
    """Tell when the decisions were activated that wait for that."""
    if not numbers:
        return {}
    query = (
        select(activations.c.decision, batches.c.created_at)
        .join(batches, batches.c.id == activations.c.batch_id)
        .where(transaction.among(activations.c.decision, numbers))
    )
    return {row[0]: row[1] for row in transaction.execute(query)}


def append_events(transaction: Transaction, given: Events, *, at: float) -> list[int]:
    """Append events of existing decisions; return the positions of those that were repeated.

    Raises:
        IdReused: an event was there before, or twice in `given`, with another metric or value.
        Outdated: a decision was erased since its number was read.
    """
    transaction.lock(FOLLOWING, shared=True)
    _check_still_there(transaction, given)
    new: list[int] = []
    for experiment_id, rows in _by_experiment(given):
        new += _append(transaction, experiment_id, given, rows, at)
    if len(new) == len(given):
        return []
    return sorted(set(range(len(given))).difference(new))


def _check_still_there(transaction: Transaction, given: Events) -> None:
    """Make sure that nobody erased a decision since its number was read.

    Raises:
        Outdated: somebody did.
    """
    numbers = list(set(given.numbers))
    if transaction.count(decisions.c.serial, numbers) < len(numbers):
        raise StaleRead


def _by_experiment(given: Events) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the rows of each experiment, in the order of their numbers."""
    experiment_ids = sorted({target.experiment_id for target in set(given.targets)})
    for experiment_id in experiment_ids:
        rows: Sequence[int] = range(len(given))
        if len(experiment_ids) > 1:
            rows = [r for r in rows if given.targets[r].experiment_id == experiment_id]
        yield experiment_id, rows


def _append(
    transaction: Transaction, experiment_id: int, given: Events, rows: Sequence[int], at: float
) -> Sequence[int]:
    """Append events of one experiment; return the rows of those that are new."""
    new = _distinct(given, rows)
    told = given.take(new)
    batch = open_batch(
        transaction,
        "reward",
        experiment_id,
        at=at,
        due_at=at,
        size=len(new),
        repeated=len(rows) - len(new),
        **_counts(told),
    )
    columns = (told.metrics, told.values, told.occurred_at, told.late)
    made = sorted(zip(told.numbers, told.event_ids, repeat(batch), *columns, strict=False))
    size = transaction.insert(events, _COLUMNS, made)
    if size < len(new):
        new = _unknown(transaction, given, new, batch)
        counts = _counts(given.take(new))
        close_batch(transaction, batch, size, repeated=len(rows) - size, **counts)
    return new


def _counts(told: Events) -> dict[str, int]:
    """Count what a batch of events tells of its time."""
    return {"late": sum(told.late), "skewed": sum(told.skewed)}


def _distinct(given: Events, rows: Sequence[int]) -> Sequence[int]:
    """Leave out rows of what came in an earlier one.

    Raises:
        IdReused: it comes again with another metric or value.
    """
    told = given.take(rows)
    if len(set(told.numbers)) == len(rows):
        return rows
    first: dict[_Place, int] = {}
    for row in rows:
        earlier = first.setdefault((given.numbers[row], given.event_ids[row]), row)
        _check_same(given, row, given.metrics[earlier], given.values[earlier])
    return list(first.values())


def _unknown(
    transaction: Transaction, given: Events, rows: Sequence[int], batch: int
) -> Sequence[int]:
    """Leave out rows of what was there before a batch.

    Raises:
        IdReused: it was, with another metric or value.
    """
    left = {(given.numbers[row], given.event_ids[row]): row for row in rows}
    columns = (events.c.decision, events.c.event_id, events.c.metric, events.c.value)
    some = transaction.among(events.c.decision, list({number for number, _ in left}))
    query = select(*columns).where(some, events.c.batch_id != batch)
    for number, event_id, metric, value in transaction.execute(query):
        row = left.pop((number, event_id), None)
        if row is not None:
            _check_same(given, row, metric, value)
    return list(left.values())


def _check_same(told: Events, row: int, metric: str, value: float) -> None:
    if (told.metrics[row], told.values[row]) != (metric, value):
        raise IdReused("event", told.event_ids[row])

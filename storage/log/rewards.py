"""Appending metric events, each (decision, event id) once."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import bindparam, select

from bandits.errors import IdReused
from bandits.logged import Appended, Events, Target, Targets
from bandits.store import Outdated
from storage.databases import Transaction
from storage.log.batches import FOLLOWING, close_batch, open_batch
from storage.tables import PLACES, activations, batches, decisions, events, experiments

_COLUMNS = ("decision", "event_id", "batch_id", "metric", "value", "occurred_at", "late")

_Place = tuple[int, str]  # decision's number, event id


def read_targets(transaction: Transaction, ids: Sequence[str]) -> Targets:
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
    return Targets(known, numbers)


class _Made(NamedTuple):
    """What decisions of one batch share."""

    target: Target
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


def _batches(transaction: Transaction, numbers: set[int]) -> dict[int, _Made]:
    made = {}
    found = transaction.execute(_BATCHES, {"numbers": sorted(numbers)})
    for number, key, experiment_id, created_at, waits, ships in found:
        made[number] = _Made(Target(key, experiment_id, created_at, shipped=False), waits, ships)
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


def append_events(transaction: Transaction, given: Events, *, at: float) -> Appended:
    """Append events of existing decisions.

    Raises:
        IdReused: an event was there before, or twice in `given`, with another metric or value.
        Outdated: a decision was erased since its number was read.
    """
    transaction.lock(FOLLOWING, shared=True)
    _check_still_there(transaction, given)
    accepted = late = 0
    for experiment_id, some in _by_experiment(given):
        size, n_late = _append(transaction, experiment_id, some, at)
        accepted += size - n_late
        late += n_late
    return Appended(accepted, len(given) - accepted - late, late)


def _check_still_there(transaction: Transaction, given: Events) -> None:
    """Make sure that nobody erased a decision since its number was read.

    Raises:
        Outdated: somebody did.
    """
    numbers = list(set(given.numbers))
    if transaction.count(decisions.c.serial, numbers) < len(numbers):
        raise Outdated


def _by_experiment(given: Events) -> Iterator[tuple[int, Events]]:
    """Yield the events of each experiment, in the order of their numbers."""
    experiment_ids = sorted({target.experiment_id for target in set(given.targets)})
    for experiment_id in experiment_ids:
        if len(experiment_ids) == 1:
            yield experiment_id, given
        else:
            rows = [r for r, t in enumerate(given.targets) if t.experiment_id == experiment_id]
            yield experiment_id, given.at(rows)


def _places(told: Events) -> Iterator[_Place]:
    return zip(told.numbers, told.event_ids, strict=True)


def _distinct(told: Events) -> Events:
    """Leave out what comes again.

    Raises:
        IdReused: it comes again with another metric or value.
    """
    n = len(told)
    if len(set(told.numbers)) == n or len(set(_places(told))) == n:
        return told
    first: dict[_Place, int] = {}
    for row, place in enumerate(_places(told)):
        earlier = first.setdefault(place, row)
        _check_same(told, row, told.metrics[earlier], told.values[earlier])
    return told.at(list(first.values()))


def _append(
    transaction: Transaction, experiment_id: int, told: Events, at: float
) -> tuple[int, int]:
    """Append events of one experiment.

    Returns:
        How many are new, and how many of these are late.
    """
    new = _distinct(told)
    n = len(new)
    late, skewed = sum(new.late), sum(new.skewed)
    batch = open_batch(
        transaction,
        "reward",
        experiment_id,
        size=n,
        at=at,
        due_at=at,
        repeated=len(told) - n,
        late=late,
        skewed=skewed,
    )
    columns = (new.metrics, new.values, new.occurred_at, new.late)
    rows = sorted(zip(new.numbers, new.event_ids, repeat(batch), *columns, strict=False))
    size = transaction.insert(events, _COLUMNS, rows)
    if size < n:
        new = _unknown(transaction, new, batch)
        late, skewed = sum(new.late), sum(new.skewed)
        repeated = len(told) - size
        close_batch(transaction, batch, size, repeated=repeated, late=late, skewed=skewed)
    return size, late


def _unknown(transaction: Transaction, told: Events, batch: int) -> Events:
    """Leave out what was there before a batch.

    Raises:
        IdReused: it was, with another metric or value.
    """
    left = {place: row for row, place in enumerate(_places(told))}
    columns = (events.c.decision, events.c.event_id, events.c.metric, events.c.value)
    some = transaction.among(events.c.decision, list(set(told.numbers)))
    query = select(*columns).where(some, events.c.batch_id != batch)
    for number, event_id, metric, value in transaction.execute(query):
        row = left.pop((number, event_id), None)
        if row is not None:
            _check_same(told, row, metric, value)
    return told.at(list(left.values()))


def _check_same(told: Events, row: int, metric: str, value: float) -> None:
    if (told.metrics[row], told.values[row]) != (metric, value):
        raise IdReused("event", told.event_ids[row])

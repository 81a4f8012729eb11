"""Appending metric events, each (decision, event id) once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import func, select

from bandits.errors import IdReused, NotFound
from bandits.logged import Appended, Event, Target
from storage.databases import Row, Transaction
from storage.log.batches import FOLLOWING, close_batch, open_batch
from storage.tables import PLACES, activations, batches, decisions, events, experiments

_COLUMNS = ("decision", "event_id", "batch_id", "metric", "value", "occurred_at", "late")
_AT_ONCE = 20_000  # ids in one statement

_Place = tuple[int, str]  # decision's number, event id


def read_targets(transaction: Transaction, ids: Sequence[str]) -> dict[str, Target]:
    """Find the decisions that exist among these distinct ids."""
    known: list[Row] = []
    query = select(decisions.c.id, decisions.c.serial)  # which the index on ids has
    for start in range(0, len(ids), _AT_ONCE):
        some = transaction.among(decisions.c.id, ids[start : start + _AT_ONCE])
        known += transaction.many(query.where(some))
    made = _batches(transaction, {serial // PLACES for _, serial in known})
    waiting = [serial for _, serial in known if made[serial // PLACES].waits]
    activated = _activated(transaction, waiting) if waiting else {}
    ended = [serial for _, serial in known if made[serial // PLACES].ships]
    shipped = _shipped(transaction, ended) if ended else frozenset()
    found = {}
    for decision_id, serial in known:
        key, experiment_id, started_at, waits, _ = made[serial // PLACES]
        if waits:
            started_at = activated.get(serial)
        found[decision_id] = Target(key, started_at, serial in shipped, experiment_id, serial)
    return found


class _Made(NamedTuple):
    """What decisions of one batch share."""

    experiment: str
    experiment_id: int
    created_at: float | None
    waits: bool  # for activation
    ships: bool  # its experiment does, so some of them may have been shipped


def _batches(transaction: Transaction, numbers: set[int]) -> dict[int, _Made]:
    mine = transaction.among(batches.c.id, sorted(numbers))
    query = select(
        batches.c.id,
        experiments.c.key,
        batches.c.experiment_id,
        batches.c.created_at,
        batches.c.due_at.is_(None),
        experiments.c.shipped.is_not(None),
    ).join(experiments, experiments.c.id == batches.c.experiment_id)
    return {row[0]: _Made(*row[1:]) for row in transaction.execute(query.where(mine)).all()}


def _shipped(transaction: Transaction, serials: Sequence[int]) -> frozenset[int]:
    """Tell which of these decisions were made after the stop."""
    found: set[int] = set()
    query = select(decisions.c.serial).where(decisions.c.shipped)
    for start in range(0, len(serials), _AT_ONCE):
        some = transaction.among(decisions.c.serial, serials[start : start + _AT_ONCE])
        found.update(transaction.execute(query.where(some)).scalars())
    return frozenset(found)


def _activated(transaction: Transaction, serials: Sequence[int]) -> dict[int, float]:
    """Tell when the decisions were activated that wait for that."""
    found: dict[int, float] = {}
    query = select(activations.c.decision, batches.c.created_at).join(
        batches, batches.c.id == activations.c.batch_id
    )
    for start in range(0, len(serials), _AT_ONCE):
        some = transaction.among(activations.c.decision, serials[start : start + _AT_ONCE])
        found.update((r[0], r[1]) for r in transaction.execute(query.where(some)).all())
    return found


def append_events(
    transaction: Transaction,
    given: Sequence[Event],
    targets: Mapping[str, Target] | None,
    *,
    at: float,
) -> Appended:
    """Append events of existing decisions.

    Args:
        transaction: one that writes.
        given: the events.
        targets: their decisions, where they were read before.
        at: when, seconds since 1970.

    Raises:
        IdReused: an event was there before, or twice in `given`, with another metric or value.
        NotFound: there is no such decision.
    """
    transaction.lock(FOLLOWING, shared=True)
    if targets is None:
        targets = read_targets(transaction, list(dict.fromkeys(e.decision_id for e in given)))
    by_experiment: dict[int, dict[_Place, Event]] = defaultdict(dict)
    repeated: dict[int, int] = defaultdict(int)
    for event in given:
        target = targets.get(event.decision_id)
        if target is None:
            raise NotFound("decision", event.decision_id)
        place = (target.number, event.event_id)
        first = by_experiment[target.experiment_id].setdefault(place, event)
        if first is not event:
            _check_same(event, first.metric, first.value)
            repeated[target.experiment_id] += 1
    _check_still_there(transaction, by_experiment)
    accepted = late = 0
    for experiment_id in sorted(by_experiment):
        placed = by_experiment[experiment_id]
        size, n_late = _append(transaction, experiment_id, placed, repeated[experiment_id], at)
        accepted += size - n_late
        late += n_late
    return Appended(accepted, len(given) - accepted - late, late)


def _check_still_there(
    transaction: Transaction, by_experiment: Mapping[int, Mapping[_Place, Event]]
) -> None:
    """Make sure that nobody erased a decision since its number was read.

    Raises:
        NotFound: somebody did.
    """
    numbers = sorted({number for placed in by_experiment.values() for number, _ in placed})
    for start in range(0, len(numbers), _AT_ONCE):
        asked = numbers[start : start + _AT_ONCE]
        some = transaction.among(decisions.c.serial, asked)
        count = select(func.count()).select_from(decisions).where(some)
        if transaction.execute(count).scalar_one() < len(asked):
            left = set(transaction.execute(select(decisions.c.serial).where(some)).scalars())
            every = [item for placed in by_experiment.values() for item in placed.items()]
            gone = {number: e.decision_id for (number, _), e in every if number not in left}
            raise NotFound("decision", next(gone[n] for n in asked if n in gone))


def _append(
    transaction: Transaction,
    experiment_id: int,
    placed: dict[_Place, Event],
    repeated: int,
    at: float,
) -> tuple[int, int]:
    """Append distinct events of one experiment, beside which others came `repeated`.

    Returns:
        How many are new, and how many of these are late.
    """
    counts = _counts(placed.values())
    batch = open_batch(
        transaction,
        "reward",
        experiment_id,
        size=len(placed),
        at=at,
        due_at=at,
        repeated=repeated,
        **counts,
    )
    rows = [
        (number, event_id, batch, e.metric, e.value, e.occurred_at, e.late)
        for (number, event_id), e in placed.items()
    ]
    rows.sort()  # by place, of which there are no two alike
    size = transaction.insert(events, _COLUMNS, rows)
    if size == len(rows):
        return size, counts["late"]
    counts = _counts(_without_known(transaction, placed, batch))
    repeated += len(rows) - size
    close_batch(transaction, batch, size, repeated=repeated, **counts)
    return size, counts["late"]


def _counts(events: Iterable[Event]) -> dict[str, int]:
    """Count what a batch of events tells of its time."""
    late = skewed = 0
    for event in events:
        late += event.late
        skewed += event.skewed
    return {"late": late, "skewed": skewed}


def _without_known(
    transaction: Transaction, placed: dict[_Place, Event], batch: int
) -> list[Event]:
    left = dict(placed)
    columns = (events.c.decision, events.c.event_id, events.c.metric, events.c.value)
    serials = sorted({serial for serial, _ in placed})
    for start in range(0, len(serials), _AT_ONCE):
        some = transaction.among(events.c.decision, serials[start : start + _AT_ONCE])
        query = select(*columns).where(some, events.c.batch_id != batch)
        for serial, event_id, metric, value in transaction.execute(query):
            event = left.pop((serial, event_id), None)
            if event is not None:
                _check_same(event, metric, value)
    return list(left.values())


def _check_same(event: Event, metric: str, value: float) -> None:
    if (event.metric, event.value) != (metric, value):
        raise IdReused("event", event.event_id)

"""Appending metric events, each (decision, event id) once."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select

from bandits.errors import IdReused, NotFound
from bandits.store import Appended, Event
from storage.batches import close_batch, open_batch
from storage.databases import Transaction
from storage.tables import batches, decisions, events

_COLUMNS = ("decision", "event_id", "batch_id", "metric", "value", "occurred_at", "late")
_AT_ONCE = 20_000  # ids in one statement

_Target = tuple[int, int]  # experiment, decision's serial
_Place = tuple[int, str]  # decision's serial, event id


def append_events(transaction: Transaction, given: Sequence[Event], *, at: float) -> Appended:
    """Append events of existing decisions.

    Raises:
        IdReused: an event was there before, or twice in `given`, with another metric or value.
        NotFound: there is no such decision.
    """
    targets = _targets(transaction, [e.decision_id for e in given])
    by_experiment: dict[int, dict[_Place, Event]] = defaultdict(dict)
    for event in given:
        experiment_id, serial = targets[event.decision_id]
        first = by_experiment[experiment_id].setdefault((serial, event.event_id), event)
        _check_same(event, first.metric, first.value)
    accepted = late = 0
    for experiment_id in sorted(by_experiment):
        new = _append(transaction, experiment_id, by_experiment[experiment_id], at)
        n_late = sum(e.late for e in new)
        accepted += len(new) - n_late
        late += n_late
    return Appended(accepted, len(given) - accepted - late, late)


def _targets(transaction: Transaction, ids: Sequence[str]) -> dict[str, _Target]:
    distinct = list(dict.fromkeys(ids))
    columns = (decisions.c.id, batches.c.experiment_id, decisions.c.serial)
    query = select(*columns).join(batches, batches.c.id == decisions.c.batch_id)
    found: dict[str, _Target] = {}
    for start in range(0, len(distinct), _AT_ONCE):
        some = transaction.among(decisions.c.id, distinct[start : start + _AT_ONCE])
        found.update((r[0], (r[1], r[2])) for r in transaction.execute(query.where(some)))
    if len(found) < len(distinct):
        raise NotFound("decision", next(i for i in distinct if i not in found))
    return found


def _append(
    transaction: Transaction,
    experiment_id: int,
    placed: dict[_Place, Event],
    at: float,
) -> list[Event]:
    """Append distinct events of one experiment; return the new ones."""
    batch = open_batch(transaction, "reward", experiment_id, at=at, due_at=at)
    rows = [
        (serial, event_id, batch, e.metric, e.value, e.occurred_at, e.late)
        for (serial, event_id), e in sorted(placed.items(), key=lambda item: item[0])
    ]
    size = transaction.insert(events, _COLUMNS, rows)
    close_batch(transaction, batch, size)
    if size == len(rows):
        return list(placed.values())
    return _without_known(transaction, placed, batch)


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

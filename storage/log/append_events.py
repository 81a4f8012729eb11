"""Appending metric events, each (decision, event id) once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import bindparam, select, update

from bandits.actors import Actor
from bandits.errors import IdReused
from bandits.event_ids import is_connection, sent_event_ids
from bandits.machines import EventTrace
from bandits.store import Beside, StaleRead
from bandits.store.values import DecisionRef, DecisionRefs, Events
from storage.databases import Row, Transaction
from storage.log.batches import REFERENCES, close_batch, open_batch
from storage.schema import (
    PLACES,
    activations,
    batches,
    cancellations,
    decisions,
    events,
    experiments,
)
from storage.snapshots.network_counts import FREEZE_SECONDS
from storage.snapshots.snapshots import note_gone
from storage.snapshots.voids import VoidLookup
from storage.store_context import FoldLockNeeded, StoreContext

_COLUMNS = ("decision", "event_id", "batch_id", "metric", "value", "occurred_at", "late")
_TRACED = (*_COLUMNS, *EventTrace._fields)
_REPLACED = (*_TRACED[2:], "as_of")
_UNTRACED = (None,) * len(EventTrace._fields)

_EventKey = tuple[int, str]  # decision's number, event id

_STORED = (
    select(
        events.c.decision,
        events.c.event_id,
        events.c.metric,
        events.c.value,
        events.c.as_of,
        batches.c.experiment_id,
        batches.c.actor,
        batches.c.created_at,
        batches.c.counted_version,
        experiments.c.voided,
    )
    .join_from(events, batches, batches.c.id == events.c.batch_id)
    .join(experiments, experiments.c.id == batches.c.experiment_id)
)
_REPLACE = (
    update(events)
    .where(events.c.decision == bindparam("of"), events.c.event_id == bindparam("named"))
    .values({name: bindparam(f"new_{name}") for name in _REPLACED})
)


class AppendEventsCall(Struct, frozen=True, eq=False):
    """A call that appends events.

    Attributes:
        context: database and experiments.
        events: of existing decisions, maybe none.
        actor: who reports them.
        at: when, seconds since 1970.
        beside: writes more in the same transaction; such a call is done by itself.
    """

    context: StoreContext
    events: Events
    actor: Actor
    at: float
    beside: Beside | None = None

    @property
    def kind(self) -> tuple[str, Actor]:
        """All events of one actor can be appended together."""
        return "reward", self.actor

    def run(self) -> list[int]:
        """Append the events; return the positions of those that were repeated."""
        return self.context.replace(self._append)

    def _append(self, transaction: Transaction, locked: Collection[int]) -> list[int]:
        repeated: list[int] = []
        if len(self.events):
            repeated = append_events(
                transaction, self.events, actor=self.actor, at=self.at, locked=locked
            )
        if self.beside is not None:
            self.beside(transaction, repeated)
        return repeated

    def run_group(
        self, transaction: Transaction, calls: Sequence["AppendEventsCall"]
    ) -> list[list[int]]:
        """Append the events of several calls."""
        columns = zip(*(call.events.columns for call in calls), strict=True)
        merged = Events(*(list(chain.from_iterable(parts)) for parts in columns))
        at = max(call.at for call in calls)
        repeated = append_events(transaction, merged, actor=self.actor, at=at)
        results: list[list[int]] = []
        first = 0
        for call in calls:
            rows = range(first, first + len(call.events))
            results.append([row - first for row in repeated if row in rows])
            first = rows.stop
        return results


class _BatchRef(NamedTuple):
    """Reference to the decisions of one batch."""

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


def read_targets(transaction: Transaction, ids: Sequence[str]) -> DecisionRefs:
    """Find the decisions of ids, to append events to them."""
    numbers = transaction.find_numbers(decisions.c.serial, decisions.c.id, ids)
    of_batch = _read_batches(transaction, {number // PLACES for number in numbers})
    targets = {batch: ref.target for batch, ref in of_batch.items()}
    refs = [targets.get(number // PLACES) for number in numbers]
    waiting = {batch for batch, ref in of_batch.items() if ref.waits}
    shipping = {batch for batch, ref in of_batch.items() if ref.ships}
    if waiting or shipping:
        activated = _activation_times(transaction, [n for n in numbers if n // PLACES in waiting])
        shipped = _select_shipped(transaction, [n for n in numbers if n // PLACES in shipping])
        unstarted = [n for n in numbers if n // PLACES in waiting and n not in activated]
        cancelled = _select_cancelled(transaction, unstarted)
        for row, number in enumerate(numbers):
            if (batch := number // PLACES) in waiting or number in shipped:
                target = targets[batch]
                refs[row] = replace(
                    target,
                    started_at=activated.get(number) if batch in waiting else target.started_at,
                    shipped=number in shipped,
                    cancelled=number in cancelled,
                )
    return DecisionRefs(refs, numbers)


def _read_batches(transaction: Transaction, numbers: set[int]) -> dict[int, _BatchRef]:
    refs = {}
    rows = transaction.execute(_BATCHES, {"numbers": sorted(numbers)})
    for number, key, experiment_id, created_at, waits, ships in rows:
        target = DecisionRef(key, experiment_id, created_at, shipped=False)
        refs[number] = _BatchRef(target, waits, ships)
    return refs


def _select_shipped(transaction: Transaction, numbers: Sequence[int]) -> frozenset[int]:
    """Select those of these decisions that were made after the stop."""
    if not numbers:
        return frozenset()
    query = select(decisions.c.serial).where(
        decisions.c.shipped, transaction.is_any(decisions.c.serial, numbers)
    )
    return frozenset(transaction.execute(query).scalars())


def _select_cancelled(transaction: Transaction, numbers: Sequence[int]) -> frozenset[int]:
    """Select those of these decisions that were cancelled."""
    if not numbers:
        return frozenset()
    condition = transaction.is_any(cancellations.c.decision, numbers)
    query = select(cancellations.c.decision).where(condition)
    return frozenset(transaction.execute(query).scalars())


def _activation_times(transaction: Transaction, numbers: Sequence[int]) -> dict[int, float]:
    """Read when these decisions were activated, of those that were."""
    if not numbers:
        return {}
    query = (
        select(activations.c.decision, batches.c.created_at)
        .join(batches, batches.c.id == activations.c.batch_id)
        .where(transaction.is_any(activations.c.decision, numbers))
    )
    return {row[0]: row[1] for row in transaction.execute(query)}


def append_events(
    transaction: Transaction,
    new: Events,
    *,
    actor: Actor,
    at: float,
    locked: Collection[int] = (),
) -> list[int]:
    """Append events of existing decisions; return the positions of those that were repeated.

    One that is void gives way to a new one of its id.

    Raises:
        FoldLockNeeded: some do in an experiment that is not among the `locked` ones.
        IdReused: an event was there before, or twice in `new`, with another metric, value or
            `as_of`.
        StaleRead: a decision was erased since its number was read.
    """
    transaction.lock(REFERENCES, shared=True)
    numbers = list(set(new.numbers))
    if transaction.count(decisions.c.serial, numbers) < len(numbers):
        raise StaleRead
    new = _under_earlier_ids(transaction, new, actor)
    appended: list[int] = []
    for experiment_id, rows in _by_experiment(new):
        appended += _append_batch(
            transaction, experiment_id, new, rows, actor=actor, at=at, locked=locked
        )
    if len(appended) == len(new):
        return []
    return sorted(set(range(len(new))).difference(appended))


def _by_experiment(new: Events) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield the rows of each experiment, in the order of their numbers."""
    experiment_ids = sorted({target.experiment_id for target in set(new.targets)})
    for experiment_id in experiment_ids:
        rows: Sequence[int] = range(len(new))
        if len(experiment_ids) > 1:
            rows = [r for r in rows if new.targets[r].experiment_id == experiment_id]
        yield experiment_id, rows


def _append_batch(  # noqa: PLR0913 - what is appended, by whom and when
    transaction: Transaction,
    experiment_id: int,
    new: Events,
    rows: Sequence[int],
    *,
    actor: Actor,
    at: float,
    locked: Collection[int],
) -> Sequence[int]:
    """Append events of one experiment; return the rows of those that were not there before."""
    distinct = _distinct(new, rows)
    events_once = new.take(distinct)
    batch = open_batch(
        transaction,
        "reward",
        experiment_id,
        actor=actor,
        at=at,
        due_at=at,
        size=len(distinct),
        repeated=len(rows) - len(distinct),
        late=sum(events_once.late),
        skewed=sum(events_once.skewed),
        **_freezing(events_once, at),
    )
    size = transaction.insert(events, *_rows(events_once, batch))
    if size == len(distinct):
        return distinct
    appended, void = _without_earlier(transaction, new, distinct, batch)
    if void:
        if experiment_id not in locked:
            raise FoldLockNeeded([experiment_id])
        _replace(transaction, new.take(sorted(void)), batch)
        note_gone(transaction, experiment_id, filter(None, void.values()))
    kept = new.take(appended)
    counts = {"late": sum(kept.late), "skewed": sum(kept.skewed)}
    close_batch(transaction, batch, len(kept), repeated=len(rows) - len(kept), **counts)
    return appended


def _freezing(new: Events, at: float) -> dict[str, float]:
    """Return when the networks of events may be counted, nothing where none is known."""
    return {"freezes_at": at + FREEZE_SECONDS} if any(new.traces) else {}


def _rows(new: Events, batch: int) -> tuple[Sequence[str], list[Row]]:
    """Return columns of events, and the rows of a batch, sorted by decision and event id."""
    keys = (new.numbers, new.event_ids, repeat(batch))
    columns = (new.metrics, new.values, new.occurred_at, new.late)
    rows: list[Row] = list(zip(*keys, *columns, strict=False))
    names: Sequence[str] = _COLUMNS
    if any(new.traces):
        names = _TRACED
        rows = [(*row, *(t or _UNTRACED)) for row, t in zip(rows, new.traces, strict=True)]
    if new.as_of.count(None) < len(new):
        names = (*names, "as_of")
        rows = [(*row, as_of) for row, as_of in zip(rows, new.as_of, strict=True)]
    return names, sorted(rows, key=itemgetter(0, 1))


def _replace(transaction: Transaction, new: Events, batch: int) -> None:
    """Put events in the places of those of the same ids."""
    names, rows = _rows(new, batch)
    parameters = [
        {
            "of": decision,
            "named": event_id,
            **dict.fromkeys((f"new_{name}" for name in _REPLACED), None),
            **{f"new_{name}": value for name, value in zip(names[2:], rest, strict=True)},
        }
        for decision, event_id, *rest in rows
    ]
    transaction.execute(_REPLACE, parameters)


def _under_earlier_ids(transaction: Transaction, new: Events, actor: Actor) -> Events:
    """Give events of a connection the ids that it reported them under before it had its own.

    Its events were then stored under the ids that the sender gave them. One that comes again has to
    be found there. A row of somebody else under such an id is not the connection's.
    """
    if not is_connection(actor):
        return new
    query = (
        select(events.c.decision, events.c.event_id)
        .join(batches, batches.c.id == events.c.batch_id)
        .where(transaction.is_any(events.c.decision, list(set(new.numbers))))
        .where(batches.c.actor == actor)
    )
    earlier = {(row[0], row[1]) for row in transaction.execute(query)}
    sent_ids = sent_event_ids(actor, new.event_ids)
    columns = zip(new.numbers, sent_ids, new.event_ids, strict=True)
    event_ids = [sent if (number, sent) in earlier else own for number, sent, own in columns]
    return replace(new, event_ids=event_ids)


def _distinct(new: Events, rows: Sequence[int]) -> Sequence[int]:
    """Leave out rows of events that came in an earlier row.

    Raises:
        IdReused: one comes again with another metric, value or `as_of`.
    """
    if len(set(new.take(rows).numbers)) == len(rows):
        return rows
    first: dict[_EventKey, int] = {}
    others: list[int] = []
    for row in rows:
        earlier = first.setdefault((new.numbers[row], new.event_ids[row]), row)
        content = new.metrics[earlier], new.values[earlier], new.as_of[earlier]
        if not _is_same(new, row, *content):
            others.append(row)
    _refuse(new, others)
    return list(first.values())


def _without_earlier(
    transaction: Transaction, new: Events, rows: Sequence[int], batch: int
) -> tuple[Sequence[int], Mapping[int, tuple[int, int] | None]]:
    """Leave out rows of events that were there before a batch, and count.

    Returns:
        The others; and those of them that have the id of one that is void, each with the first and
        the last version of snapshots that knew of that, if any did.

    Raises:
        IdReused: one was there, with another metric, value or `as_of`.
    """
    left = {(new.numbers[row], new.event_ids[row]): row for row in rows}
    same_decisions = transaction.is_any(events.c.decision, list({number for number, _ in left}))
    query = _STORED.where(same_decisions, events.c.batch_id != batch)
    voids = VoidLookup(transaction)
    others: list[int] = []
    void: dict[int, tuple[int, int] | None] = {}
    for (
        number,
        event_id,
        metric,
        value,
        as_of,
        experiment_id,
        actor,
        at,
        counted,
        voided,
    ) in transaction.execute(query).all():
        row = left.get((number, event_id))
        if row is None:
            continue
        covering = None if voided is None else voids.row(experiment_id, actor, at)
        if covering is not None:
            counts = counted is not None and counted < covering.version
            void[row] = (counted, covering.version - 1) if counts else None
            continue
        del left[number, event_id]
        if not _is_same(new, row, metric, value, as_of):
            others.append(row)
    _refuse(new, others)
    return list(left.values()), void


def _is_same(new: Events, row: int, metric: str, value: float, as_of: float | None) -> bool:
    """Return true for the same event; its `as_of` is compared where both reports tell it."""
    same_time = as_of is None or new.as_of[row] in {as_of, None}
    return same_time and (new.metrics[row], new.values[row]) == (metric, value)


def _refuse(new: Events, rows: Sequence[int]) -> None:
    """Refuse rows whose event came with another metric, value or `as_of`.

    Raises:
        IdReused: there are any.
    """
    if rows:
        raise IdReused("event", new.event_ids[min(rows)], sorted(rows))

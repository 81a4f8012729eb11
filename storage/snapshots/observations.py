"""Reading decisions and the events that count for them, in the columns that the learner takes.

What counts is what a fold has seen: see `storage.snapshots.fold`. Fallbacks, and what was sent
after the stop, are left out everywhere.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from msgspec import Struct, field
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    and_,
    exists,
    false,
    func,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.types import NullType

from bandits.array_types import AnyArray, FloatArray, IntArray
from bandits.store.values import DecisionColumns, ExperimentRecord
from storage.databases import Found, Transaction
from storage.schema import (
    PLACES,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    of_batch,
)

PORTION = 100_000  # decisions at a time
_BATCHES_AT_ONCE = 5_000
_ROWS_AT_ONCE = 10_000

_Columns = tuple[tuple[Any, ...], ...]

LEARNABLE = ~decisions.c.fallback & ~decisions.c.shipped

_activated = batches.alias("activated")
_of_cancellation = batches.alias("of_cancellation")
_of_event = batches.alias("of_event")


def _seen(version: ColumnElement[int | None], before: int | None) -> ColumnElement[bool]:
    return version.is_not(None) if before is None else version < before


def _by(version: ColumnElement[int | None], as_of: int | None) -> ColumnElement[bool]:
    return version.is_not(None) if as_of is None else version <= as_of


def is_cancelled(*, seen_before: int | None = None) -> ColumnElement[bool]:
    """Tell whether a decision's cancellation was seen, or seen before a version."""
    its_batch = _of_cancellation.c.id == cancellations.c.batch_id
    mine = cancellations.c.decision == decisions.c.serial
    seen = _seen(_of_cancellation.c.counted_version, seen_before)
    return exists().select_from(cancellations.join(_of_cancellation, its_batch)).where(mine, seen)


# Of many rows: as the driver gives them, since to convert each costs more than to read it.
_COLUMNS = (
    decisions.c.serial,
    decisions.c.arm,
    type_coerce(decisions.c.holdout, Integer),
    type_coerce(decisions.c.context, NullType),
    decisions.c.propensity,
    type_coerce(decisions.c.restriction, NullType),
)
_CHOSEN = select(*_COLUMNS).where(of_batch(batches.c.id), LEARNABLE)
_ACTIVATED = (
    select(*_COLUMNS, activations.c.batch_id)
    .join(activations, activations.c.decision == decisions.c.serial)
    .where(LEARNABLE)
)
_NUMBERED = select(*_COLUMNS, func.coalesce(activations.c.batch_id, batch_of)).outerjoin_from(
    decisions, activations, activations.c.decision == decisions.c.serial
)
_BATCHES = (
    batches.c.id,
    batches.c.created_at,
    batches.c.configuration_version,
    batches.c.policy_version,
    batches.c.closed_version,
)
_EVENTS = (
    select(events.c.decision, events.c.metric, events.c.value, _of_event.c.created_at)
    .join(_of_event, _of_event.c.id == events.c.batch_id)
    .where(~events.c.late)
)


class Starts(Struct):
    """Numbers of batches that start decisions' clocks, by kind."""

    chosen: list[int] = field(default_factory=list)
    activated: list[int] = field(default_factory=list)

    def add(self, number: int, kind: str) -> None:
        """Take in one batch."""
        (self.chosen if kind == "choose" else self.activated).append(number)

    @property
    def numbers(self) -> list[int]:
        """All of them."""
        return self.chosen + self.activated


class Observations:
    """The decisions of one experiment as a transaction sees them."""

    def __init__(
        self, transaction: Transaction, record: ExperimentRecord, *, as_of: int | None = None
    ) -> None:
        """Read through `transaction`, under the record's configuration.

        Args:
            transaction: one that reads.
            record: the experiment.
            as_of: go through what was learned and pending at this version; by now unless given.
        """
        self._as_of = as_of
        experiment = record.configuration.experiment
        self._transaction = transaction
        self._experiment_id = record.id
        self._n_features = experiment.encoder().n_features
        self._metrics = {name: i for i, name in enumerate(experiment.reward.names)}

    def started_by(self, starts: Starts, *, seen_before: int | None = None) -> DecisionColumns:
        """Read what these batches started and nobody cancelled.

        Args:
            starts: the batches.
            seen_before: only events and cancellations seen before this version count.
        """
        parts: list[_Columns] = []
        left = ~is_cancelled(seen_before=seen_before)
        chosen = self._transaction.for_each(batches, [batches.c.id], _CHOSEN.where(left))
        for query, column, numbers in (
            (chosen, batches.c.id, starts.chosen),
            (_ACTIVATED.where(left), activations.c.batch_id, starts.activated),
        ):
            for start in range(0, len(numbers), _BATCHES_AT_ONCE):
                mine = self._transaction.among(column, numbers[start : start + _BATCHES_AT_ONCE])
                parts += self._read(query.where(mine))
        return self._decided(parts, seen_before, None)

    def numbered(
        self,
        serials: Sequence[int],
        *,
        closed_before: int | None = None,
        seen_before: int | None = None,
    ) -> DecisionColumns:
        """Read the decisions of these serials, cancelled or not.

        Args:
            serials: theirs.
            closed_before: only those whose window closed before this version are `closed`; all
                whose window closed unless given.
            seen_before: only events seen before this version count.
        """
        parts: list[_Columns] = []
        for start in range(0, len(serials), PORTION):
            mine = self._transaction.among(decisions.c.serial, serials[start : start + PORTION])
            parts += self._read(_NUMBERED.where(mine))
        return self._decided(parts, seen_before, closed_before)

    def learned(self) -> Iterator[DecisionColumns]:
        """Go through everything learned, in portions."""
        return self._portions(_by(batches.c.folded_version, self._as_of))

    def pending(self) -> Iterator[DecisionColumns]:
        """Go through everything sent and not learned yet, in portions."""
        folded = func.coalesce(_by(batches.c.folded_version, self._as_of), false())
        return self._portions(and_(_by(batches.c.counted_version, self._as_of), ~folded))

    def _portions(self, condition: ColumnElement[bool]) -> Iterator[DecisionColumns]:
        seen_before = None if self._as_of is None else self._as_of + 1
        starts, size = Starts(), 0
        for number, kind, n in self._start_batches(condition):
            if size and size + n > PORTION:
                yield self.started_by(starts, seen_before=seen_before)
                starts, size = Starts(), 0
            starts.add(number, kind)
            size += n
        if size:
            yield self.started_by(starts, seen_before=seen_before)

    def _start_batches(self, condition: ColumnElement[bool]) -> Iterator[tuple[int, str, int]]:
        """Go through start batches by time, some thousands at a time."""
        place = tuple_(batches.c.created_at, batches.c.id)
        query = (
            select(batches.c.id, batches.c.kind, batches.c.size, batches.c.created_at)
            .where(
                batches.c.experiment_id == self._experiment_id,
                batches.c.kind.in_(["choose", "activate"]),
                batches.c.due_at.is_not(None),
                condition,
            )
            .order_by(batches.c.created_at, batches.c.id)
            .limit(_BATCHES_AT_ONCE)
        )
        rows = self._transaction.execute(query).all()
        while rows:
            for row in rows:
                yield row.id, row.kind, row.size
            last = rows[-1]
            following = query.where(place > (last.created_at, last.id))
            rows = self._transaction.execute(following).all()

    def _read(self, query: Select[Any]) -> Iterator[_Columns]:
        """Turn rows into columns, some thousands at a time: all at once slow Python down."""
        for rows in self._transaction.execute(query).partitions(_ROWS_AT_ONCE):
            yield tuple(zip(*rows, strict=True))

    def _decided(
        self, parts: Sequence[_Columns], seen_before: int | None, closed_before: int | None
    ) -> DecisionColumns:
        serials, arms, holdout, contexts, propensities, restrictions, started_in = (
            list(chain.from_iterable(part[i] for part in parts)) for i in range(7)
        )
        numbers = np.array(serials, dtype=np.int64)
        made_in, starting = numbers // PLACES, np.array(started_in, dtype=np.int64)
        made = self._batches(made_in)
        started = made if np.array_equal(starting, made_in) else self._batches(starting)
        event_rows, event_metrics, event_values, event_times = self._events(numbers, seen_before)
        return DecisionColumns(
            np.array(arms, dtype=np.int64),
            self._contexts(contexts),
            np.array(holdout, dtype=np.bool_),
            started[:, 0],
            event_rows,
            event_metrics,
            event_values,
            event_times,
            np.array(propensities, dtype=np.float64),
            [r or b"" for r in restrictions],
            made[:, 1].astype(np.int64),
            made[:, 2].astype(np.int64),
            started[:, 3] < (np.inf if closed_before is None else closed_before),
        )

    def _batches(self, numbers: IntArray) -> FloatArray:
        """Return time, configuration, snapshot and closing of the batch of each row, (n, 4).

        Activations have neither configuration nor snapshot: 0; what is open closes at infinity.
        """
        distinct, places = np.unique(numbers, return_inverse=True)
        found: list[Found] = []
        for start in range(0, len(distinct), _BATCHES_AT_ONCE):
            some = distinct[start : start + _BATCHES_AT_ONCE].tolist()
            mine = self._transaction.among(batches.c.id, some)
            found += self._transaction.execute(select(*_BATCHES).where(mine)).all()
        table = np.array(
            [
                (time, configuration or 0, policy or 0, np.inf if closed is None else closed)
                for _, time, configuration, policy, closed in sorted(found, key=lambda b: b.id)
            ]
        )
        return table.reshape(-1, 4)[places]

    def _contexts(self, packed: Sequence[bytes | None]) -> FloatArray:
        n, d = len(packed), self._n_features
        if d == 1:
            return np.broadcast_to(1.0, (n, 1))
        known = b"".join([p for p in packed if p is not None])
        return np.frombuffer(known, dtype="<f8").astype(np.float64, copy=False).reshape(n, d)

    def _events(
        self, serials: IntArray, seen_before: int | None
    ) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        seen = _seen(_of_event.c.counted_version, seen_before)
        parts: list[_Columns] = []
        for start in range(0, len(serials), PORTION):
            some = serials[start : start + PORTION].tolist()
            mine = self._transaction.among(events.c.decision, some)
            parts += self._read(_EVENTS.where(seen, mine))
        of, metrics, values, times = (
            list(chain.from_iterable(part[i] for part in parts)) for i in range(4)
        )
        order = np.argsort(serials)
        places = np.searchsorted(serials, np.array(of, dtype=np.int64), sorter=order)
        positions: AnyArray = np.array([self._metrics[m] for m in metrics], dtype=np.int64)
        amounts, moments = (np.array(c, dtype=np.float64) for c in (values, times))
        return order[places], positions, amounts, moments

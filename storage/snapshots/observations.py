"""Observations: decisions and the events that count for them, in columns, as a fold learns them.

Events and cancellations count once a fold has counted their batch: see `storage.snapshots.fold`.
Fallbacks, and decisions made after the stop, are left out everywhere, and so is what is void: see
`storage.snapshots.voids`. Where rules against machines are in force, events that are not a person's
are left out too: an email's own events are judged, those that a reader takes for counted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain, compress
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    exists,
    false,
    func,
    or_,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.types import NullType

from bandits.actors import key_number
from bandits.array_types import AnyArray, BoolArray, FloatArray, IntArray
from bandits.machines import EventVerdict, VerdictReason, judge_events
from bandits.store.values import BatchPlace, DecisionColumns, ExperimentRecord
from storage.databases import STATEMENTS_KEPT, NamedRow, Transaction
from storage.schema import (
    PLACES,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    of_batch,
    withdrawals,
)
from storage.snapshots.network_counts import (
    DELIVERED,
    TraceColumns,
    read_network_counts,
    tracked_events,
)
from storage.snapshots.rules_in_force import read_rules
from storage.snapshots.voids import NOTHING_VOID, Voids, read_voids

PORTION = 100_000  # decisions at a time
_BATCHES_AT_ONCE = 5_000
_ROWS_AT_ONCE = 10_000

_VERDICTS = np.array([reason.verdict for reason in VerdictReason], dtype=np.int64)
_OCCURRED_AT = 1  # place of that time among the columns of a trace

_Columns = Sequence[Sequence[Any]]
_NONE: Mapping[str, Any] = {}

LEARNABLE = ~decisions.c.fallback & ~decisions.c.shipped

_activated = batches.alias("activated")
_of_cancellation = batches.alias("of_cancellation")
_of_event = batches.alias("of_event")
_of_withdrawal = batches.alias("of_withdrawal")
_ANY_WITHDRAWN = select(withdrawals.c.decision).limit(1)
_NEVER = 2**31 - 1  # later than any version


# Every fold runs these statements, so they are made once, and get their values here.
BEFORE = bindparam("before", type_=Integer)  # a version


def is_cancelled(voids: Voids = NOTHING_VOID, *, earlier: bool = False) -> ColumnElement[bool]:
    """Return the condition that a decision's cancellation was counted, or before `BEFORE`.

    One that is void does not cancel it.
    """
    version = _of_cancellation.c.counted_version
    counted = version < BEFORE if earlier else version.is_not(None)
    its_batch = _of_cancellation.c.id == cancellations.c.batch_id
    its_decision = cancellations.c.decision == decisions.c.serial
    joined = cancellations.join(_of_cancellation, its_batch)
    outside = voids.outside(_of_cancellation)
    return exists().select_from(joined).where(its_decision, counted, *outside)


# Of many rows: as the driver gives them, since to convert each costs more than to read it.
_COLUMNS = (
    decisions.c.serial,
    decisions.c.arm,
    type_coerce(decisions.c.holdout, Integer),
    type_coerce(decisions.c.context, NullType),
    decisions.c.propensity,
    type_coerce(decisions.c.eligible_set, NullType),
)
_SUBJECT = type_coerce(decisions.c.subject, NullType)  # read where there is a control group


class _Queries(Struct, frozen=True):
    """Queries of decisions, each with the batch that started the clocks as its last column."""

    chosen: Select[Any]  # without the last column, which joining each batch adds
    activated: Select[Any]
    numbered: Select[Any]

    @classmethod
    def of_columns(
        cls, voids: Voids, cancelled: ColumnElement[bool], *columns: ColumnElement[Any]
    ) -> "_Queries":
        """Make the queries that read these columns, two of them of what is in force."""
        of_activation = activations.c.decision == decisions.c.serial
        started_in = func.coalesce(activations.c.batch_id, batch_of)
        return cls(
            select(*columns).where(of_batch(batches.c.id), LEARNABLE, ~cancelled),
            select(*columns, activations.c.batch_id)
            .join(activations, of_activation)
            .where(LEARNABLE, ~cancelled, *voids.chosen_outside()),
            select(*columns, started_in).outerjoin_from(decisions, activations, of_activation),
        )


@lru_cache(STATEMENTS_KEPT)
def _queries(voids: Voids, *, grouped: bool, earlier: bool) -> _Queries:
    """Make queries that read subjects if `grouped`, and only what counted before `BEFORE`."""
    columns = (*_COLUMNS, _SUBJECT) if grouped else _COLUMNS
    return _Queries.of_columns(voids, is_cancelled(voids, earlier=earlier), *columns)


@lru_cache(STATEMENTS_KEPT)
def _chosen_by_batch(kind: type[Transaction], chosen: Select[Any]) -> Select[Any]:
    return kind.join_each(batches, [batches.c.id], chosen)


_BATCHES = select(
    batches.c.created_at,
    func.coalesce(batches.c.configuration_version, 0),
    func.coalesce(batches.c.policy_version, 0),
    batches.c.closed_version,
    batches.c.folded_version,
    batches.c.actor,
).order_by(batches.c.id)
_EVENTS = (
    select(
        events.c.decision,
        events.c.metric,
        events.c.value,
        _of_event.c.created_at,
        _of_event.c.counted_version,
    )
    .join(_of_event, _of_event.c.id == events.c.batch_id)
    .where(~events.c.late, _of_event.c.counted_version.is_not(None))
)


_TRACES = (
    func.coalesce(events.c.kind, -1),  # of an event without a trace
    func.coalesce(events.c.happened_at, events.c.occurred_at),
    func.coalesce(events.c.link, 0),
    func.coalesce(events.c.network, 0),
    func.coalesce(events.c.agent, 0),
    func.coalesce(events.c.signs, 0),
    func.coalesce(events.c.mailbox, 0),
)


@lru_cache(STATEMENTS_KEPT)
def _events_query(
    voids: Voids, *, traced: bool, named: bool, withdrawn: bool, ordered: bool
) -> Select[Any]:
    query = _EVENTS.where(*voids.outside(_of_event))
    query = query.add_columns(*_TRACES) if traced else query
    query = query.add_columns(_withdrawn_version(voids)) if withdrawn else query
    query = query.add_columns(func.coalesce(events.c.as_of, 0.0)) if ordered else query
    return query.add_columns(events.c.event_id) if named else query


def _withdrawn_version(voids: Voids) -> ColumnElement[int]:
    """Select the version that counted the first withdrawal of an event, `_NEVER` without any."""
    own = or_(
        ~withdrawals.c.own_only,
        _of_withdrawal.c.actor == _of_event.c.actor,
        _of_event.c.actor.is_(None),
    )
    query = (
        select(func.min(_of_withdrawal.c.counted_version))
        .select_from(
            withdrawals.join(_of_withdrawal, _of_withdrawal.c.id == withdrawals.c.batch_id)
        )
        .where(
            withdrawals.c.decision == events.c.decision,
            withdrawals.c.event_id == events.c.event_id,
            own,
            *voids.outside(_of_withdrawal),
        )
        .correlate(events, _of_event)
    )
    return func.coalesce(query.scalar_subquery(), _NEVER)


def _in_order(columns: Sequence[list[Any]]) -> list[list[Any]]:
    """Sort rows by their last two columns, which are left: `as_of`, which is dropped, and ids."""
    *others, as_of, ids = columns
    order = sorted(range(len(ids)), key=lambda row: (as_of[row], ids[row]))
    return [[column[row] for row in order] for column in (*others, ids)]


class _EventColumns(NamedTuple):
    """e events that count for n decisions, but for those that are not a person's.

    They come in the order of (`as_of`, event id) where of some metric the latest value counts.

    Attributes:
        rows: (e,) int, which decision each is of.
        names: (e,) int, the position of its name.
        values: (e,).
        times: (e,) when it was reported.
        versions: (e,) int, the version that counted it.
        withdrawn: (e,) int, the version that counted its withdrawal; `_NEVER` of most.
        traces: seven columns (e,) of numbers, as `_TRACES` has them, where rules are in force.
        ids: e ids, where they are asked for.
    """

    rows: IntArray
    names: IntArray
    values: FloatArray
    times: FloatArray
    versions: IntArray
    withdrawn: IntArray
    traces: tuple[AnyArray, ...] = ()
    ids: Sequence[str] = ()

    def take(self, mask: BoolArray) -> "_EventColumns":
        """Return those of a mask (e,)."""
        return _EventColumns(
            self.rows[mask],
            self.names[mask],
            self.values[mask],
            self.times[mask],
            self.versions[mask],
            self.withdrawn[mask],
            tuple(column[mask] for column in self.traces),
            tuple(compress(self.ids, mask.tolist())),
        )

    def counted(self, before: int | None) -> "_EventColumns":
        """Return those that count by all versions before one, by all there are unless given."""
        version = _NEVER if before is None else before
        mask = (self.versions < version) & (self.withdrawn >= version)
        return self if mask.all() else self.take(mask)


class NumberedDecisions(NamedTuple):
    """n decisions, when each was made, and their serials, (n,)."""

    columns: DecisionColumns
    made_at: FloatArray
    serials: IntArray


class Observations:
    """The decisions of one experiment as a transaction sees them."""

    def __init__(
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        *,
        as_of: int | None = None,
        voids: Voids | None = None,
    ) -> None:
        """Read through `transaction`, under the record's configuration.

        Args:
            transaction: one that reads.
            record: the experiment.
            as_of: read the learned and pending decisions of this version; the newest unless given.
            voids: what is void, as is stored unless given.
        """
        self.voids = read_voids(transaction, record, as_of=as_of) if voids is None else voids
        self._rules = read_rules(transaction, record, as_of=as_of)
        self._withdraws = transaction.execute(_ANY_WITHDRAWN).first() is not None
        self._as_of = as_of
        self._transaction = transaction
        self._record = record
        self._grouped = record.configuration.experiment.holdout > 0
        self._numbered = _queries(self.voids, grouped=self._grouped, earlier=False).numbered

    def started_by(
        self, starts: Sequence[NamedRow], *, counted_before: int | None = None
    ) -> DecisionColumns:
        """Read the decisions whose clocks these batches started and that are not cancelled.

        Args:
            starts: `id`, `kind`, `created_at` and `actor` of each batch.
            counted_before: only events and cancellations counted before this version count.
        """
        parts = self._started(starts, counted_before)
        return self._with_events(parts, counted_before, None)

    def _started(self, starts: Sequence[NamedRow], counted_before: int | None) -> list[_Columns]:
        """Read the decisions that these batches started, without their events."""
        starts = self.voids.left(starts) if self.voids.deeds else starts
        if not starts:
            return []
        before = _NONE if counted_before is None else {"before": counted_before}
        queries = _queries(self.voids, grouped=self._grouped, earlier=counted_before is not None)
        chosen = [batch.id for batch in starts if batch.kind == "choose"]
        query = _chosen_by_batch(type(self._transaction), queries.chosen)
        parts = self._read(query, batches.c.id, chosen, _BATCHES_AT_ONCE, before)
        if len(chosen) < len(starts):
            activated = [batch.id for batch in starts if batch.kind != "choose"]
            query, column = queries.activated, activations.c.batch_id
            parts += self._read(query, column, activated, _BATCHES_AT_ONCE, before)
        return parts

    def numbered(
        self,
        serials: Sequence[int],
        *,
        closed_before: int | None = None,
        counted_before: int | None = None,
    ) -> DecisionColumns:
        """Read the decisions of these serials, cancelled or not.

        Args:
            serials: theirs.
            closed_before: only those whose window closed before this version are `closed`; all
                whose window closed unless given.
            counted_before: only events counted before this version count.
        """
        if not serials:
            return self._none
        parts = self._read(self._numbered, decisions.c.serial, serials, PORTION)
        return self._with_events(parts, counted_before, closed_before)

    def before_and_after(
        self, serials: Sequence[int], version: int
    ) -> tuple[DecisionColumns, DecisionColumns]:
        """Read decisions with the events counted before a version, and with all that are counted.

        Those whose window closed before that version are `closed`.
        """
        if not serials:
            return self._none, self._none
        parts = self._read(self._numbered, decisions.c.serial, serials, PORTION)
        if not parts:
            return self._none, self._none
        read = self._without_events(parts, version)
        reported = self._events(read.serials)
        before = self._counted(read, reported.counted(version))
        return before, self._counted(read, reported.counted(None))

    def reasons(self, serials: Sequence[int]) -> dict[int, dict[str, int]]:
        """Read the reasons of events that were judged, by the serial of the decision and event id.

        They are `bandits.machines.VerdictReason`; only events that were counted are judged.
        """
        if not self._rules.any:
            return {}
        parts = self._read(self._numbered, decisions.c.serial, serials, PORTION)
        if not parts:
            return {}
        read = self._without_events(parts, None)
        reported = self._events(read.serials, named=True).counted(None)
        reasons = self._judge(read, reported)
        by_decision: defaultdict[int, dict[str, int]] = defaultdict(dict)
        if reasons is not None:
            of_events = zip(
                read.serials[reported.rows].tolist(), reported.ids, reasons.tolist(), strict=True
            )
            for serial, event_id, reason in of_events:
                if reason >= 0:
                    by_decision[serial][event_id] = reason
        return dict(by_decision)

    def learned(self) -> Iterator[DecisionColumns]:
        """Read all decisions learned from, in portions."""
        return self._portions(self._marked(batches.c.folded_version))

    def pending(self) -> Iterator[DecisionColumns]:
        """Read all decisions sent and not learned from yet, in portions."""
        folded = func.coalesce(self._marked(batches.c.folded_version), false())
        return self._portions(and_(self._marked(batches.c.counted_version), ~folded))

    def sent(self) -> Iterator[NumberedDecisions]:
        """Read all decisions that a fold has counted, learned from or not, in portions."""
        for starts in self._start_portions(self._marked(batches.c.counted_version)):
            parts = self._started(starts, None)
            if parts:
                read = self._without_events(parts, None)
                yield read._replace(
                    columns=self._counted(read, self._events(read.serials).counted(None))
                )

    def starts_after(self, place: BatchPlace | None, most: int) -> Sequence[NamedRow]:
        """Read the counted start batches after a place, of about `most` decisions, at least one."""
        starts: list[NamedRow] = []
        size = 0
        for batch in self._start_batches(batches.c.counted_version.is_not(None), place):
            if size and size + batch.size > most:
                break
            starts.append(batch)
            size += batch.size
            if len(starts) == _BATCHES_AT_ONCE:
                break
        return starts

    def _marked(self, version: ColumnElement[int | None]) -> ColumnElement[bool]:
        return version.is_not(None) if self._as_of is None else version <= self._as_of

    def _portions(self, condition: ColumnElement[bool]) -> Iterator[DecisionColumns]:
        counted_before = None if self._as_of is None else self._as_of + 1
        for starts in self._start_portions(condition):
            yield self.started_by(starts, counted_before=counted_before)

    def _start_portions(self, condition: ColumnElement[bool]) -> Iterator[list[NamedRow]]:
        """Read the batches that start clocks, in portions of at most `PORTION` decisions."""
        starts: list[NamedRow] = []
        size = 0
        for batch in self._start_batches(condition):
            if size and size + batch.size > PORTION:
                yield starts
                starts, size = [], 0
            starts.append(batch)
            size += batch.size
        if size:
            yield starts

    def _start_batches(
        self, condition: ColumnElement[bool], after: BatchPlace | None = None
    ) -> Iterator[NamedRow]:
        """Read the batches that start clocks by time, from a place on, some thousands at a time."""
        place = tuple_(batches.c.created_at, batches.c.id)
        query = (
            select(
                batches.c.id,
                batches.c.kind,
                batches.c.size,
                batches.c.created_at,
                batches.c.actor,
            )
            .where(
                batches.c.experiment_id == self._record.id,
                batches.c.kind.in_(["choose", "activate"]),
                batches.c.due_at.is_not(None),
                condition,
            )
            .order_by(batches.c.created_at, batches.c.id)
            .limit(_BATCHES_AT_ONCE)
        )
        following = query if after is None else query.where(place > after)
        while rows := self._transaction.execute(following).all():
            yield from rows
            following = query.where(place > (rows[-1].created_at, rows[-1].id))

    def _read(
        self,
        query: Select[Any],
        column: Column[int],
        values: Sequence[int],
        at_once: int,
        parameters: Mapping[str, Any] = _NONE,
    ) -> list[_Columns]:
        """Read the rows whose column has one of many values, `at_once` in a statement, as columns.

        They are turned into columns some thousands at a time: all at once slow Python down.
        """
        parts: list[_Columns] = []
        statement = self._transaction.where_any(query, column)
        for start in range(0, len(values), at_once):
            packed = self._transaction.pack(values[start : start + at_once])
            bound = {"values": packed, **parameters}
            portions = self._transaction.plain_portions(statement, bound, _ROWS_AT_ONCE)
            parts += (tuple(zip(*rows, strict=True)) for rows in portions)
        return parts

    def _with_events(
        self, parts: Sequence[_Columns], counted_before: int | None, closed_before: int | None
    ) -> DecisionColumns:
        """Add the decisions' batches and events to their own columns."""
        if not parts:
            return self._none
        read = self._without_events(parts, closed_before)
        return self._counted(read, self._events(read.serials).counted(counted_before))

    def _without_events(
        self, parts: Sequence[_Columns], closed_before: int | None
    ) -> NumberedDecisions:
        """Add the decisions' batches to their own columns."""
        serials, arms, holdout, contexts, propensities, eligible, *subjects, starting = map(
            list, map(chain.from_iterable, zip(*parts, strict=True))
        )
        numbers = np.array(serials, dtype=np.int64)
        made_in, started_in = numbers // PLACES, np.array(starting, dtype=np.int64)
        origin = self._batches(made_in)
        started = origin if np.array_equal(started_in, made_in) else self._batches(started_in)
        integers, floats = np.zeros(0, dtype=np.int64), np.zeros(0)
        columns = DecisionColumns(
            np.array(arms, dtype=np.int64),
            self._contexts(contexts),
            np.array(holdout, dtype=np.bool_),
            started[:, 0],
            integers,
            integers,
            floats,
            floats,
            np.array(propensities, dtype=np.float64),
            [encoded or b"" for encoded in eligible],
            origin[:, 1].astype(np.int64),
            origin[:, 2].astype(np.int64),
            started[:, 3] < (np.inf if closed_before is None else closed_before),
            started_in,
            self._subject_keys(subjects[0]) if self._grouped else np.zeros(len(numbers), np.uint64),
            ~np.isnan(started[:, 4]),
            origin[:, 5].astype(np.int64),
        )
        return NumberedDecisions(columns, origin[:, 0], numbers)

    def _counted(self, read: NumberedDecisions, reported: _EventColumns) -> DecisionColumns:
        """Add to decisions those of their events that count."""
        reasons = self._judge(read, reported) if self._rules.any else None
        if reasons is None:
            return self._with(read.columns, reported)
        judged = reasons >= 0
        persons = ~judged | (_VERDICTS[reasons] == EventVerdict.PERSON)
        return replace(
            self._with(read.columns, reported.take(persons)),
            verdict_rows=reported.rows[judged],
            verdict_metrics=reported.names[judged],
            verdict_reasons=reasons[judged],
            verdict_mailboxes=reported.traces[-1][judged],
        )

    @staticmethod
    def _with(columns: DecisionColumns, reported: _EventColumns) -> DecisionColumns:
        return replace(
            columns,
            event_rows=reported.rows,
            event_metrics=reported.names,
            event_values=reported.values,
            event_times=reported.times,
        )

    def _judge(self, read: NumberedDecisions, reported: _EventColumns) -> IntArray | None:
        """Judge e events by the rules in force.

        Returns:
            The reason of each, (e,) int; −1 where it is not judged. None where no event is.
        """
        traced = np.zeros(len(reported.rows), dtype=np.bool_)
        kinds, occurred_at, links, networks, agents, signs, _ = reported.traces
        columns = read.columns
        versions = self._rules.split(columns.started_at, columns.start_batches)
        for _, of_version in versions:
            traced |= (kinds >= 0) & of_version[reported.rows]
        if not traced.any():
            return None
        delivered_at = self._delivered_at(read, reported)
        tracked = tracked_events(
            TraceColumns(
                kinds[traced],
                occurred_at[traced],
                reported.times[traced],
                links[traced],
                networks[traced],
                agents[traced],
                signs[traced],
            ),
            reported.rows[traced],
            delivered_at[reported.rows[traced]],
        )
        counts = read_network_counts(self._transaction, tracked.networks, tracked.minutes)
        reasons = np.full(len(reported.rows), -1)
        places = np.flatnonzero(traced)
        for version, of_version in versions:
            mask = of_version[reported.rows[traced]]
            judged = judge_events(tracked.take(mask), counts, version)
            reasons[places[mask]] = judged.reasons
        return reasons

    def _delivered_at(self, read: NumberedDecisions, reported: _EventColumns) -> FloatArray:
        """Return when each of n decisions' emails was delivered, else when it was made, (n,).

        A delivery from before the activation counts as of that, which is too late for this.
        """
        started_at = read.columns.started_at
        delivered_at = np.full(len(started_at), np.inf)
        deliveries = reported.names == self._event_positions.get(DELIVERED)
        rows, times = reported.rows[deliveries], reported.traces[_OCCURRED_AT][deliveries]
        np.minimum.at(delivered_at, rows, times)
        moved = (delivered_at <= started_at) & (started_at != read.made_at)
        return np.where(np.isinf(delivered_at) | moved, read.made_at, delivered_at)

    @cached_property
    def _none(self) -> DecisionColumns:
        return DecisionColumns.nothing(self._n_features)

    @cached_property
    def _n_features(self) -> int:
        return self._record.configuration.experiment.encoder().n_features

    @cached_property
    def _event_positions(self) -> dict[str, int]:
        names = self._record.configuration.experiment.reward.event_names
        return dict(zip(names, range(len(names)), strict=True))

    def _batches(self, numbers: IntArray) -> FloatArray:
        """Return what a fold needs of each row's batch, (n, 6).

        They are its time, configuration, snapshot, closing, learning, and the API key that wrote
        it. Activations have neither configuration nor snapshot: 0, as without a key; what is open
        or not learned is NaN.
        """
        distinct, places = np.unique(numbers, return_inverse=True)
        statement = self._transaction.where_any(_BATCHES, batches.c.id)
        rows: list[Any] = []
        for start in range(0, len(distinct), _BATCHES_AT_ONCE):
            portion = distinct[start : start + _BATCHES_AT_ONCE].tolist()
            packed = {"values": self._transaction.pack(portion)}
            plain = self._transaction.fetch_plain(statement, packed)
            rows += [(*row[:-1], key_number(row[-1])) for row in plain]
        return np.array(rows, dtype=np.float64).reshape(-1, 6)[places]

    def _contexts(self, packed: Sequence[bytes | None]) -> FloatArray:
        n, d = len(packed), self._n_features
        if d == 1:
            return np.broadcast_to(1.0, (n, 1))
        stored = b"".join([context for context in packed if context is not None])
        return np.frombuffer(stored, dtype="<f8").astype(np.float64, copy=False).reshape(n, d)

    def _subject_keys(self, hashes: Sequence[bytes]) -> AnyArray:
        """Return the first 64 bits of each subject's hash, (n,) uint64."""
        words = np.frombuffer(b"".join(hashes), dtype=">u8").reshape(len(hashes), -1)
        return words[:, 0].astype(np.uint64)

    def _events(self, serials: IntArray, *, named: bool = False) -> _EventColumns:
        """Read the events of these decisions that were counted, also those that were withdrawn.

        What counts before a version is not told in the statement: where PostgreSQL guesses that few
        batches are earlier, it reads all of their events, and compares each with every decision.
        """
        ordered = self._record.configuration.experiment.reward.has_latest
        query = _events_query(
            self.voids,
            traced=self._rules.any,
            named=named or ordered,
            withdrawn=self._withdraws,
            ordered=ordered,
        )
        parts = self._read(query, events.c.decision, serials.tolist(), PORTION)
        none: list[list[Any]] = [[] for _ in query.selected_columns]
        columns = list(map(list, map(chain.from_iterable, zip(*parts, strict=True)))) or none
        if ordered:
            columns = _in_order(columns)
        ids = columns.pop() if named or ordered else ()
        withdrawn = columns.pop() if self._withdraws else [_NEVER] * len(columns[0])
        event_serials, names, values, times, versions, *traces = columns
        order = np.argsort(serials)
        of_decision = np.array(event_serials, dtype=np.int64)
        places = np.searchsorted(serials, of_decision, sorter=order)
        return _EventColumns(
            order[places],
            np.array(list(map(self._event_positions.__getitem__, names)), dtype=np.int64),
            np.array(values, dtype=np.float64),
            np.array(times, dtype=np.float64),
            np.array(versions, dtype=np.int64),
            np.array(withdrawn, dtype=np.int64),
            tuple(
                np.array(column, dtype=np.float64 if i == _OCCURRED_AT else np.int64)
                for i, column in enumerate(traces)
            ),
            ids,
        )

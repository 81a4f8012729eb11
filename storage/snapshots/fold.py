"""Fold in the store: due batches, taken exactly once, in the transaction of the next snapshot.

A fold of version v marks before it reads: it selects the batches that it takes, marks them with v,
and from there on finds rows by marks alone. Batches that others commit meanwhile have no mark, so
no part of them is read; the next fold takes them. A batch has three marks:

- `counted_version`: the fold that counted it. Decisions of a start batch (chosen, or activated
  where that starts the clocks) are sent from then on; an event or a cancellation counts from then.
- `folded_version`: the fold that learned from it. A start batch is learned from when it is due,
  any other when it is counted.
- `closed_version`: the fold that closed it, for results. A start batch is closed when its reward
  window is over and it is folded, any other when it is counted.

The order in which batches are committed, counted and learned makes no difference: an event that is
counted before its decision is learned waits for it, and a cancellation counted first keeps its
decision out for good. Where nothing changes, marks are kept though no snapshot is written: such
batches need not be read again.

A batch that is void is marked like any other, so that it can be restored, and read by no fold.

Where machines are left out, a batch with opens and clicks waits until their networks are counted:
see `storage.snapshots.network_counts`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple, replace
from sqlalchemy import Column, Integer, Select, and_, bindparam, case, select, update

from bandits.array_types import FloatArray
from bandits.store.values import (
    AllocationKey,
    DecisionColumns,
    ExperimentRecord,
    FoldIncrement,
    Resummation,
    RulesInForce,
    Snapshot,
    StoredDecision,
)
from storage.databases import STATEMENTS_KEPT, NamedRow, Transaction
from storage.log.queries import read_numbered
from storage.schema import (
    CHOSEN,
    NEW,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    of_batch,
    withdrawals,
)
from storage.snapshots import backlog
from storage.snapshots.actor_counts import count_answered, count_rows
from storage.snapshots.allocations import insert_allocations
from storage.snapshots.data_quality import COLUMNS, add_counts
from storage.snapshots.network_counts import freeze_networks
from storage.snapshots.observations import BEFORE, LEARNABLE, Observations, is_cancelled
from storage.snapshots.receipt_allocations import are_sampled, insert_receipt_allocations
from storage.snapshots.resummations import read_resummation, save_resummation
from storage.snapshots.revision import Revision
from storage.snapshots.rule_change import RuleChange
from storage.snapshots.rules_in_force import counted_too_soon, read_rules, write_rules
from storage.snapshots.snapshots import SqlHistoryReader, insert_snapshot
from storage.snapshots.voids import Voids

_AT_ONCE = 10_000  # decisions in one statement

_activated = batches.alias("activated")
_waited = batches.c.due_at.is_(None)
_counted = case((_waited, _activated.c.counted_version), else_=batches.c.counted_version)
_folded = case((_waited, _activated.c.folded_version), else_=batches.c.folded_version)


def _from_start(*columns: Any) -> Select[Any]:
    """Select columns of decisions to learn from, with the batches that may start them."""
    joined = (
        decisions.join(batches, batches.c.id == batch_of)
        .outerjoin(activations, activations.c.decision == decisions.c.serial)
        .outerjoin(_activated, _activated.c.id == activations.c.batch_id)
    )
    return select(*columns).select_from(joined).where(LEARNABLE)


def started_at_version(aggregate: Callable[[Any], Any]) -> Select[Any]:
    """Select an aggregate of the versions that first counted decisions as sent."""
    return _from_start(aggregate(_counted))


_of_experiment = batches.c.experiment_id == bindparam("of_experiment")
_BATCHES = select(
    batches.c.id,
    batches.c.kind,
    batches.c.size,
    batches.c.created_at,
    batches.c.due_at,
    batches.c.actor,
    *COLUMNS,
)


def _first(*conditions: Any, order: Column[Any]) -> Select[Any]:
    query = _BATCHES.where(_of_experiment, *conditions).order_by(order)
    return query.limit(bindparam("most", type_=Integer))


# Every fold runs these statements, so they are made once, and get their values here.
_UNCOUNTED = _first(NEW, order=batches.c.id)
_UNCOUNTED_FROZEN = _first(NEW, batches.c.freezes_at.is_(None), order=batches.c.id)
_UNCOUNTED_CHOICES = _first(NEW, CHOSEN, order=batches.c.id)
_MATURED = _first(
    batches.c.counted_version.is_not(None),
    batches.c.folded_version.is_(None),
    batches.c.due_at <= bindparam("until"),
    order=batches.c.due_at,
)
_CLOSING = _first(
    batches.c.folded_version.is_not(None),
    batches.c.closed_version.is_(None),
    batches.c.created_at <= bindparam("until"),
    order=batches.c.created_at,
)
_MARKS = {
    mark: update(batches).values({mark: bindparam("of_version")})
    for mark in ("counted_version", "folded_version", "closed_version")
}
_EXPIRING = select(batches.c.id, batches.c.kind, batches.c.created_at, batches.c.actor).where(
    _of_experiment,
    batches.c.kind.in_(["choose", "activate"]),
    batches.c.created_at >= bindparam("since"),
    batches.c.created_at < bindparam("until"),
    batches.c.folded_version < BEFORE,
    batches.c.due_at.is_not(None),
)
_KEYS = (
    select(batches.c.configuration_version, batches.c.policy_version, decisions.c.eligible_set)
    .join_from(batches, decisions, of_batch(batches.c.id))
    .where(LEARNABLE, _of_experiment, CHOSEN)
    .distinct()
)
_CHOSEN_SERIALS = select(decisions.c.serial).join_from(batches, decisions, of_batch(batches.c.id))
_ACTIVATED_SERIALS = select(activations.c.decision)
_UNCOUNTED_KEYS = _KEYS.where(NEW)


class _InForce(Struct, frozen=True):
    """Queries of decisions whose batch, and whose activation, is not void.

    Attributes:
        cancelled: serial, counting and learning version of those with a cancellation.
        reported: serial, learning version and metric of those sent before `BEFORE`, by event.
        withdrawn: the same, by event that is withdrawn.
        counted: serial and learning version of those that are counted and not cancelled.
    """

    cancelled: Select[Any]
    reported: Select[Any]
    withdrawn: Select[Any]
    counted: Select[Any]


@lru_cache(STATEMENTS_KEPT)
def _in_force(voids: Voids) -> _InForce:
    outside = (*voids.outside(batches), *voids.outside(_activated))
    sent = (_counted < BEFORE, ~is_cancelled(voids, earlier=True))
    return _InForce(
        _from_start(decisions.c.serial, _counted, _folded)
        .join(cancellations, cancellations.c.decision == decisions.c.serial)
        .where(*outside),
        _from_start(decisions.c.serial, _folded, events.c.metric)
        .join(events, events.c.decision == decisions.c.serial)
        .where(~events.c.late, *sent, *outside),
        _from_start(decisions.c.serial, _folded, events.c.metric)
        .join(withdrawals, withdrawals.c.decision == decisions.c.serial)
        .join(
            events,
            and_(
                events.c.decision == withdrawals.c.decision,
                events.c.event_id == withdrawals.c.event_id,
            ),
        )
        .where(~events.c.late, *sent, *outside),
        _from_start(decisions.c.serial, _folded).where(
            _counted.is_not(None), ~is_cancelled(voids), *outside
        ),
    )


class _FoldSelection(Struct, frozen=True):
    """The batches that a fold takes.

    Attributes:
        entered: start batches that are counted now and not due yet,
        entered_due: and those that are due.
        matured: start batches counted earlier that are due now.
        closing: start batches folded earlier whose reward window is over now.
        at_once: all others, which are counted, folded and closed by one fold: rewards,
            cancellations, and choices that wait for an activation.
    """

    entered: Sequence[NamedRow] = ()
    entered_due: Sequence[NamedRow] = ()
    matured: Sequence[NamedRow] = ()
    closing: Sequence[NamedRow] = ()
    at_once: Sequence[NamedRow] = ()


class SqlFold:
    """One fold in progress: `bandits.store.fold.Fold`."""

    def __init__(  # noqa: PLR0913 - what is folded, and what of it
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        history: SqlHistoryReader,
        now: float,
        *,
        cancels: Sequence[int] | None = None,
        revision: Revision | RuleChange | None = None,
    ) -> None:
        """Mark and read what is due by `now`; the experiment's lock must be held.

        Args:
            transaction: one that writes.
            record: the experiment, as it is under the lock.
            history: reads earlier snapshots and configurations.
            now: seconds since 1970.
            cancels: batches of cancellations, to take these and nothing else.
            revision: of what is void or of the rules, to take what it changes and nothing else.
        """
        self.record = record
        self.history = history
        self.previous = history.newest()
        self.saved = False
        self.more = False
        self._transaction = transaction
        self._version = record.learned_version + 1
        self._at = now if self.previous is None else max(now, self.previous.at)
        takes_all = cancels is None and revision is None
        self._rules = self._settle_rules() if takes_all else read_rules(transaction, record)
        self._observations = Observations(transaction, record)
        # Decisions that start after a stop would close after the result is final: they never do.
        latest = self._at if record.closes_at is None else min(self._at, record.closes_at)
        self._over = latest - record.configuration.experiment.reward.window_seconds
        if revision is not None:
            selection = _FoldSelection()
        else:
            selection = self._select() if cancels is None else self._select_cancels(cancels)
        self.resummation = read_resummation(transaction, record)
        self._sampled = [*selection.entered, *selection.entered_due]
        if cancels is not None and record.configuration.policy.statistic.contextual:
            self._sampled = self._uncounted_choices()
        self.unstarted = self._unstarted(selection, erasing=cancels is not None)
        self._mark(selection)
        due = self._read(selection)
        if revision is not None:
            due = self._revised(due, revision)
        self.due = due if any(map(len, astuple(due))) else None

    @property
    def rescoring(self) -> bool:
        """True while some decisions are judged by other rules against machines than the rest."""
        return self._rules.place is not None

    def learned(self) -> Iterator[DecisionColumns]:
        """Read all decisions learned from once this fold is saved, in portions."""
        return self._observations.learned()

    def pending(self) -> Iterator[DecisionColumns]:
        """Read all decisions sent and not learned from once this fold is saved, in portions."""
        return self._observations.pending()

    def save_allocations(self, allocations: Mapping[AllocationKey, FloatArray]) -> None:
        """Insert allocations that are not there yet."""
        insert_allocations(self._transaction, self.record, allocations)

    def sample(self, share: float) -> dict[int, StoredDecision]:
        """Read a share of the decisions that this fold counts first, or an erasure would lose."""
        serials: list[int] = []
        for query, column, numbers in (
            (_CHOSEN_SERIALS, batches.c.id, self._started("choose")),
            (_ACTIVATED_SERIALS, activations.c.batch_id, self._started("activate")),
        ):
            if numbers:
                serials += self._transaction.execute_any(query, column, numbers).scalars()
        every = np.array(sorted(serials), dtype=np.int64)
        sampled = every[are_sampled(every, share)].tolist()
        stored = read_numbered(self._transaction, sampled)
        return dict(zip(sampled, stored, strict=True))

    def _started(self, kind: str) -> list[int]:
        """List the batches of a kind whose decisions are to be sampled."""
        return [batch.id for batch in self._sampled if batch.kind == kind]

    def save_receipt_allocations(self, rows: Mapping[int, FloatArray]) -> None:
        """Insert the probabilities of single decisions, by serial."""
        insert_receipt_allocations(self._transaction, self.record, rows)

    def save(self, snapshot: Snapshot, resummation: Resummation | None = None) -> None:
        """Insert the snapshot; the batches are marked already, in the same transaction."""
        if snapshot.version != self._version:
            raise ValueError(f"this fold makes version {self._version}, not {snapshot.version}")
        insert_snapshot(self._transaction, self.record, snapshot)
        if resummation is not None:
            save_resummation(self._transaction, self.record, resummation)
        self.saved = True

    def _unstarted(self, selection: _FoldSelection, *, erasing: bool) -> Sequence[AllocationKey]:
        """List the keys of decisions that wait to start, and in an erasure of all uncounted ones.

        An erasure empties snapshots that decisions may rest on which no fold has counted.
        """
        if self.record.configuration.policy.statistic.contextual:
            return ()
        of_experiment = {"of_experiment": self.record.id}
        if erasing:
            rows = self._transaction.execute(_UNCOUNTED_KEYS, of_experiment)
        else:
            waiting = [b.id for b in selection.at_once if b.kind == "choose"]
            if not waiting:
                return ()
            rows = self._transaction.execute_any(_KEYS, batches.c.id, waiting, of_experiment)
        return [(configuration, policy, kept or b"") for configuration, policy, kept in rows]

    def _uncounted_choices(self) -> list[NamedRow]:
        """Read the first batches of decisions that no fold has counted, as many as one would."""
        values = {"of_experiment": self.record.id, "most": backlog.MOST_BATCHES}
        size, first = 0, []
        for batch in self._transaction.execute(_UNCOUNTED_CHOICES, values).all():
            if size and size + batch.size > backlog.row_limit(self.record):
                break
            first.append(batch)
            size += batch.size
        return first

    def _settle_rules(self) -> RulesInForce:
        """Count networks that are due where machines are left out, and return the rules in force.

        Where nothing is learned yet, these are the configuration's from now on.
        """
        rules = read_rules(self._transaction, self.record)
        version = self.record.configuration.experiment.machine_rules
        if version is None and not rules.any:
            return rules
        self.more = freeze_networks(self._transaction, now=self._at)
        changed = version != rules.version and self.record.learned_version == 0
        if changed and not counted_too_soon(self._transaction, self.record):
            rules = RulesInForce(version, version)
            write_rules(self._transaction, self.record, rules, version=self._version)
        return rules

    def _select(self) -> _FoldSelection:
        """Select the batches that are due, as many as one fold takes."""
        judges = self._rules.any or self.record.configuration.experiment.machine_rules is not None
        uncounted_query = _UNCOUNTED_FROZEN if judges else _UNCOUNTED
        first = self._first(uncounted_query, most=backlog.row_limit(self.record))
        uncounted = backlog.limit_origins(self._transaction, first) if first else first
        self.more = self.more or len(uncounted) < len(first)
        add_counts(self._transaction, self.record, uncounted)
        left = self._observations.voids.left(uncounted)
        count_rows(self._transaction, self.record, left)
        entered: list[NamedRow] = []
        entered_due: list[NamedRow] = []
        at_once: list[NamedRow] = []
        for batch in uncounted:
            if batch.due_at is None or batch.kind in {"reward", "cancel"}:
                at_once.append(batch)
            elif batch.due_at <= self._at:
                entered_due.append(batch)
            else:
                entered.append(batch)
        matured = self._first(_MATURED, until=self._at)
        closing = self._first(_CLOSING, until=self._over)
        return _FoldSelection(entered, entered_due, matured, closing, at_once)

    def _select_cancels(self, numbers: Sequence[int]) -> _FoldSelection:
        return _FoldSelection(
            at_once=self._transaction.execute_any(_BATCHES, batches.c.id, numbers).all()
        )

    def _first(
        self, query: Select[Any], *, until: float | None = None, most: int | None = None
    ) -> Sequence[NamedRow]:
        """Read the first batches, as many as a fold takes: `most` rows, where given."""
        values: dict[str, float] = {"of_experiment": self.record.id, "most": backlog.MOST_BATCHES}
        if until is not None:
            values["until"] = until
        rows = self._transaction.execute(query, values).all()
        self.more = self.more or len(rows) == backlog.MOST_BATCHES
        limit = backlog.MOST_ROWS if most is None else most
        size = 0
        for place, batch in enumerate(rows):
            if size and size + batch.size > limit:
                self.more = True
                return rows[:place]
            size += batch.size
        return rows

    def _mark(self, selection: _FoldSelection) -> None:
        start = [*selection.entered_due, *selection.matured]
        over = [batch for batch in start if batch.created_at <= self._over]
        for taken, mark in (
            ([*selection.entered, *selection.entered_due], "counted_version"),
            (start, "folded_version"),
            ([*selection.closing, *over], "closed_version"),
        ):
            numbers = [batch.id for batch in chain(taken, selection.at_once)]
            if numbers:
                version = {"of_version": self._version}
                self._transaction.execute_any(_MARKS[mark], batches.c.id, numbers, version)

    def _read(self, selection: _FoldSelection) -> FoldIncrement:
        at_once = self._observations.voids.left(selection.at_once)
        cancels = [batch.id for batch in at_once if batch.kind == "cancel"]
        rewards = [batch.id for batch in at_once if batch.kind == "reward"]
        withdrawn, removed = self._cancelled(cancels)
        if cancels:
            count_answered(self._transaction, self.record, cancels, self._observations.voids)
        corrected, reported = self._reported(rewards)
        read, version = self._observations, self._version
        numbered = partial(read.numbered, closed_before=version, counted_before=version)
        before, after = read.before_and_after(sorted(corrected - removed), version)
        others = sorted(reported - corrected - removed - withdrawn)
        events_before, events_after = read.before_and_after(others, version)
        return FoldIncrement(
            entered=read.started_by(selection.entered),
            entered_due=read.started_by(selection.entered_due),
            matured=read.started_by(selection.matured),
            withdrawn=numbered(sorted(withdrawn)),
            removed=numbered(sorted(removed)),
            before=before,
            after=after,
            expired=read.started_by(self._expiring(), counted_before=version),
            closing=read.started_by(selection.closing),
            events_before=events_before,
            events_after=events_after,
            resumed=read.numbered([]),
            relearned=read.numbered([]),
        )

    def _revised(self, due: FoldIncrement, revision: Revision | RuleChange) -> FoldIncrement:
        """Save a revision; add the decisions that it concerns, as they were and as they are now."""
        withdrawn, removed = self._counted_among(revision.serials)
        voids = revision.save(self._version)
        self._observations = Observations(self._transaction, self.record, voids=voids)
        self._rules = read_rules(self._transaction, self.record)
        resumed, relearned = self._counted_among(revision.serials)
        return replace(
            due, withdrawn=withdrawn, removed=removed, resumed=resumed, relearned=relearned
        )

    def _counted_among(self, serials: Sequence[int]) -> tuple[DecisionColumns, DecisionColumns]:
        """Read those of these decisions that count as pending, and those that are learned from."""
        pending: list[int] = []
        learned: list[int] = []
        query = _in_force(self._observations.voids).counted
        for start in range(0, len(serials), _AT_ONCE):
            portion = serials[start : start + _AT_ONCE]
            rows = self._transaction.execute_any(query, decisions.c.serial, portion)
            for serial, folded in rows:
                (pending if folded is None else learned).append(serial)
        read = self._observations.numbered
        return read(sorted(pending)), read(sorted(learned))

    def _cancelled(self, cancels: Sequence[int]) -> tuple[set[int], set[int]]:
        """Find the pending and the learned decisions that these batches cancel."""
        withdrawn: set[int] = set()
        removed: set[int] = set()
        if cancels:
            query = _in_force(self._observations.voids).cancelled
            rows = self._transaction.execute_any(query, cancellations.c.batch_id, cancels)
            for serial, counted, folded in rows:
                if folded is not None and folded < self._version:
                    removed.add(serial)
                elif counted is not None and counted < self._version:
                    withdrawn.add(serial)
        return withdrawn, removed

    def _reported(self, rewards: Sequence[int]) -> tuple[set[int], set[int]]:
        """Find the decisions that were sent before and have an event in these batches, or lose one.

        First those that were learned before and have one of a declared metric, which corrects what
        was learned; then all. Where events are judged, each of them may change what others are.
        """
        corrected: set[int] = set()
        reported: set[int] = set()
        if not rewards:
            return corrected, reported
        declared = self.record.configuration.experiment.reward.metrics
        queries = _in_force(self._observations.voids)
        before = {"before": self._version}
        execute = self._transaction.execute_any
        sent = execute(queries.reported, events.c.batch_id, rewards, before).all()
        withdrawn = execute(queries.withdrawn, withdrawals.c.batch_id, rewards, before).all()
        for serial, folded, metric in chain(sent, withdrawn):
            reported.add(serial)
            corrects = metric in declared or self._rules.any
            if folded is not None and folded < self._version and corrects:
                corrected.add(serial)
        return corrected, reported

    def _expiring(self) -> Sequence[NamedRow]:
        """Find the batches that leave the forgetting window with this fold."""
        forgetting = self.record.configuration.experiment.forgetting
        if self.previous is None or forgetting is None or forgetting.window_seconds is None:
            return ()
        values = {
            "of_experiment": self.record.id,
            "since": self.previous.at - forgetting.window_seconds,
            "until": self._at - forgetting.window_seconds,
            "before": self._version,
        }
        return self._transaction.execute(_EXPIRING, values).all()

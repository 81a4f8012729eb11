"""Folding: taking in what is due, exactly once, in the transaction that inserts the snapshot.

A fold of version v marks before it reads: it selects the batches that it takes, marks them with v,
and from there on finds rows through marks alone. What others commit meanwhile has no mark, so
nothing of it is seen by halves; the next fold takes it. A batch has three marks:

- `counted_version`: the fold that saw it. Decisions of a start batch (chosen, or activated where
  that starts the clocks) are sent from then on; an event or a cancellation counts from then on.
- `folded_version`: the fold that took it into what is learned. A start batch is when it is due,
  any other when it is seen.
- `closed_version`: the fold that took it into what results rest on. A start batch is when its
  reward window is over and it is folded, any other when it is seen.

The order in which batches are committed, seen and learned makes no difference: an event that is
seen before its decision is learned waits for it, and a cancellation seen first keeps its decision
out for good. Where nothing that is known changes, marks are kept though no snapshot is written:
such batches need not be seen again.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from sqlalchemy import Select, case, select, update

from bandits.store.fold import HistoryReader
from bandits.store.values import DecisionColumns, ExperimentRecord, FoldIncrement, Snapshot
from storage.databases import Found, Transaction
from storage.schema import NEW, activations, batch_of, batches, cancellations, decisions, events
from storage.snapshots import backlog
from storage.snapshots.data_quality import COLUMNS, keep_mishaps
from storage.snapshots.observations import LEARNABLE, Observations, Starts, is_cancelled
from storage.snapshots.snapshots import insert_snapshot, newest_snapshot

_activated = batches.alias("activated")
_waited = batches.c.due_at.is_(None)
_counted = case((_waited, _activated.c.counted_version), else_=batches.c.counted_version)
_folded = case((_waited, _activated.c.folded_version), else_=batches.c.folded_version)


class _FoldSelection(Struct, frozen=True):
    """The batches that a fold takes."""

    entered: Starts
    entered_due: Starts
    matured: Starts
    closing: Starts
    over: list[int]  # of those that enter or mature, the ones whose window is over as well
    rewards: list[int]
    cancels: list[int]
    waiting: list[int]  # chosen, to be started by an activation of their own

    @classmethod
    def of_cancels(cls, cancels: list[int]) -> "_FoldSelection":
        """Take batches of cancellations and nothing else."""
        return cls(Starts(), Starts(), Starts(), Starts(), [], [], cancels, [])

    @property
    def _at_once(self) -> list[int]:
        return self.rewards + self.cancels + self.waiting

    @property
    def counted(self) -> list[int]:
        """Those seen for the first time."""
        return self.entered.numbers + self.entered_due.numbers + self._at_once

    @property
    def folded(self) -> list[int]:
        """Those taken into what is learned."""
        return self.entered_due.numbers + self.matured.numbers + self._at_once

    @property
    def closed(self) -> list[int]:
        """Those done with."""
        return self.closing.numbers + self.over + self._at_once


class SqlFold:
    """One fold in progress."""

    def __init__(
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        past: HistoryReader,
        now: float,
        *,
        cancels: Sequence[int] | None = None,
    ) -> None:
        """Mark and read what is due by `now`; the experiment's lock must be held.

        Args:
            transaction: one that writes.
            record: the experiment, as it is under the lock.
            past: what its decisions rested on.
            now: seconds since 1970.
            cancels: batches of cancellations, to take these and nothing else.
        """
        self.record = record
        self.past = past
        self.previous = newest_snapshot(transaction, record)
        self.saved = False
        self.more = False
        self._transaction = transaction
        self._observations = Observations(transaction, record)
        self._version = record.learned_version + 1
        self._at = now if self.previous is None else max(now, self.previous.at)
        # What starts after a stop would close after the result is final: it never does.
        latest = self._at if record.closes_at is None else min(self._at, record.closes_at)
        self._over = latest - record.configuration.experiment.reward.window_seconds
        taken = self._take() if cancels is None else _FoldSelection.of_cancels(list(cancels))
        self._mark(taken)
        due = self._read(taken)
        changed = any(len(getattr(due, name)) for name in due.__struct_fields__)
        self.due = due if changed else None

    def learned(self) -> Iterator[DecisionColumns]:
        """Go through everything that is learned once this fold is saved, in portions."""
        return self._observations.learned()

    def pending(self) -> Iterator[DecisionColumns]:
        """Go through everything sent and not learned once this fold is saved, in portions."""
        return self._observations.pending()

    def save(self, snapshot: Snapshot) -> None:
        """Insert the snapshot; the batches are marked already, in the same transaction."""
        if snapshot.version != self._version:
            raise ValueError(f"this fold makes version {self._version}, not {snapshot.version}")
        insert_snapshot(self._transaction, self.record, snapshot)
        self.saved = True

    def _take(self) -> _FoldSelection:
        taken = _FoldSelection.of_cancels([])
        found = list(self._first(NEW, most=backlog.seen_at_most(self.record)))
        unseen = backlog.affordable(self._transaction, found)
        self.more = self.more or len(unseen) < len(found)
        keep_mishaps(self._transaction, self.record, unseen)
        for row in unseen:
            if row.due_at is None:
                taken.waiting.append(row.id)
            elif row.kind == "reward":
                taken.rewards.append(row.id)
            elif row.kind == "cancel":
                taken.cancels.append(row.id)
            elif row.due_at <= self._at:
                self._learn(taken, taken.entered_due, row)
            else:
                taken.entered.add(row.id, row.kind)
        for row in self._first(
            batches.c.counted_version.is_not(None),
            batches.c.folded_version.is_(None),
            batches.c.due_at <= self._at,
            order=batches.c.due_at,
        ):
            self._learn(taken, taken.matured, row)
        for row in self._first(
            batches.c.folded_version.is_not(None),
            batches.c.closed_version.is_(None),
            batches.c.created_at <= self._over,
            order=batches.c.created_at,
        ):
            taken.closing.add(row.id, row.kind)
        return taken

    def _learn(self, taken: _FoldSelection, starts: Starts, row: Found) -> None:
        starts.add(row.id, row.kind)
        if row.created_at <= self._over:
            taken.over.append(row.id)

    def _first(
        self, *conditions: Any, order: Any = batches.c.id, most: int | None = None
    ) -> Iterator[Found]:
        """Go through the first batches, as many as a fold takes: `most` rows, where given."""
        times = (batches.c.created_at, batches.c.due_at)
        columns = (batches.c.id, batches.c.kind, batches.c.size, *times, *COLUMNS)
        mine = select(*columns).where(batches.c.experiment_id == self.record.id, *conditions)
        size = 0
        found = self._transaction.execute(mine.order_by(order).limit(backlog.MOST_BATCHES)).all()
        self.more = self.more or len(found) == backlog.MOST_BATCHES
        for row in found:
            if size and size + row.size > (backlog.MOST_ROWS if most is None else most):
                self.more = True
                return
            size += row.size
            yield row

    def _mark(self, taken: _FoldSelection) -> None:
        for numbers, mark in (
            (taken.counted, "counted_version"),
            (taken.folded, "folded_version"),
            (taken.closed, "closed_version"),
        ):
            if numbers:
                mine = update(batches).where(self._transaction.among(batches.c.id, numbers))
                self._transaction.execute(mine.values({mark: self._version}))

    def _read(self, taken: _FoldSelection) -> FoldIncrement:
        withdrawn, removed = self._cancelled(taken.cancels)
        corrected = sorted(self._corrected(taken.rewards) - removed)
        read, version = self._observations, self._version
        numbered = partial(read.numbered, closed_before=version)
        return FoldIncrement(
            entered=read.started_by(taken.entered),
            entered_due=read.started_by(taken.entered_due),
            matured=read.started_by(taken.matured),
            withdrawn=numbered(sorted(withdrawn)),
            removed=numbered(sorted(removed), seen_before=version),
            before=numbered(corrected, seen_before=version),
            after=numbered(corrected),
            expired=read.started_by(self._leaving(), seen_before=version),
            closing=read.started_by(taken.closing),
        )

    def _cancelled(self, cancels: Sequence[int]) -> tuple[set[int], set[int]]:
        """Find what was pending, and what was learned, of what these batches cancel."""
        withdrawn: set[int] = set()
        removed: set[int] = set()
        if cancels:
            query = _from_start(decisions.c.serial, _counted, _folded).join(
                cancellations, cancellations.c.decision == decisions.c.serial
            )
            mine = self._transaction.among(cancellations.c.batch_id, cancels)
            for serial, counted, folded in self._transaction.execute(query.where(mine)):
                if folded is not None and folded < self._version:
                    removed.add(serial)
                elif counted is not None and counted < self._version:
                    withdrawn.add(serial)
        return withdrawn, removed

    def _corrected(self, rewards: Sequence[int]) -> set[int]:
        """Find what was learned before and has an event in these batches."""
        if not rewards:
            return set()
        query = _from_start(decisions.c.serial).join(
            events, events.c.decision == decisions.c.serial
        )
        mine = self._transaction.among(events.c.batch_id, rewards)
        left = ~is_cancelled(seen_before=self._version)
        known = query.where(mine, ~events.c.late, _folded < self._version, left).distinct()
        return set(self._transaction.execute(known).scalars())

    def _leaving(self) -> Starts:
        """Find the batches that leave the forgetting window with this fold."""
        leaving = Starts()
        forgetting = self.record.configuration.experiment.forgetting
        if self.previous is None or forgetting is None or forgetting.window_seconds is None:
            return leaving
        query = select(batches.c.id, batches.c.kind).where(
            batches.c.experiment_id == self.record.id,
            batches.c.kind.in_(["choose", "activate"]),
            batches.c.created_at >= self.previous.at - forgetting.window_seconds,
            batches.c.created_at < self._at - forgetting.window_seconds,
            batches.c.folded_version < self._version,
            batches.c.due_at.is_not(None),
        )
        for number, kind in self._transaction.execute(query):
            leaving.add(number, kind)
        return leaving


def started_at_version(aggregate: Callable[[Any], Any]) -> Select[Any]:
    """Select an aggregate of the versions that first counted decisions as sent."""
    return _from_start(aggregate(_counted))


def _from_start(*columns: Any) -> Select[Any]:
    """Select columns of decisions to learn from, with the batches that may start them."""
    joined = (
        decisions.join(batches, batches.c.id == batch_of)
        .outerjoin(activations, activations.c.decision == decisions.c.serial)
        .outerjoin(_activated, _activated.c.id == activations.c.batch_id)
    )
    return select(*columns).select_from(joined).where(LEARNABLE)

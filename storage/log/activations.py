"""Activating and cancelling decisions."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import Table, delete, select, update

from bandits.actors import Actor
from bandits.schemas import RefusalReason, RefusedRow
from bandits.store.values import ExperimentRecord, MarkResult
from storage.databases import NamedRow, SerializationConflict, Transaction
from storage.log.batches import REFERENCES, close_batch, open_batch
from storage.log.queries import activated, cancelled, with_marks
from storage.schema import (
    activations,
    batches,
    cancellations,
    decisions,
    experiments,
    message_ids,
    repeats,
    subjects,
)
from storage.snapshots.snapshots import note_gone
from storage.snapshots.voids import VoidLookup
from storage.store_context import FoldLockNeeded, StoreContext

_AT_ONCE = 10_000  # ids in one statement

_TARGETS = with_marks(
    decisions.c.id,
    decisions.c.serial,
    decisions.c.subject,
    experiments.c.id.label("experiment_id"),
    batches.c.actor,
    batches.c.created_at,
    batches.c.due_at,
    activated.c.created_at.label("activated_at"),
    activated.c.actor.label("activated_by"),
    activated.c.counted_version.label("activated_counted"),
    cancelled.c.created_at.label("cancelled_at"),
    cancelled.c.actor.label("cancelled_by"),
    cancelled.c.counted_version.label("cancelled_counted"),
    experiments.c.voided,
)

_ANOTHER_KEY = (
    "was chosen by another key; only that one may do this, or a key with the scope manage"
)
_TOO_LATE = (
    "may no longer be cancelled: its clock started more than {:,.0f} seconds ago, which is the time"
    " to send that its experiment declares (send_within_seconds)"
)

_Records = Mapping[int, ExperimentRecord]  # by the experiment's number


class _Mark(Struct, frozen=True, gc=False):
    """Activation or cancellation of a decision.

    Attributes:
        at: when it was made; None where there is none, or it is void.
        is_void: there is one, and it gives way to another.
        versions: the first and the last of snapshots that knew of one that is void now.
    """

    at: float | None
    is_void: bool = False
    versions: tuple[int, int] | None = None

    @classmethod
    def of(cls, row: NamedRow, name: str, voids: VoidLookup) -> "_Mark":
        """Make it of a row with its time, actor and counting version."""
        at, actor, counted = (getattr(row, f"{name}_{part}") for part in ("at", "by", "counted"))
        if at is None or row.voided is None:
            return cls(at)
        void = voids.row(row.experiment_id, actor, at)
        if void is None:
            return cls(at)
        counts = counted is not None and counted < void.version
        return cls(None, is_void=True, versions=(counted, void.version - 1) if counts else None)


class _Target(Struct, frozen=True, gc=False):
    """Decision to be marked; `due_at` is None where its clocks start with its activation."""

    id: str
    serial: int
    subject: bytes
    experiment_id: int
    actor: Actor | None
    created_at: float
    due_at: float | None
    activation: _Mark
    cancellation: _Mark

    @classmethod
    def of(cls, row: NamedRow, voids: VoidLookup) -> "_Target":
        """Make it of a row."""
        return cls(
            row.id,
            row.serial,
            row.subject,
            row.experiment_id,
            row.actor,
            row.created_at,
            row.due_at,
            _Mark.of(row, "activated", voids),
            _Mark.of(row, "cancelled", voids),
        )


_Targets = Sequence[_Target]


class MarkCall(Struct, frozen=True, eq=False):
    """A call that activates or cancels decisions.

    Attributes:
        context: database and experiments.
        mark: what is done.
        ids: of the decisions.
        actor: who does it,
        own_only: and may do it only to what they asked for themselves.
        at: when, seconds since 1970.
        messages: ids of decisions, and the mailer's id of the email of each.
    """

    context: StoreContext
    mark: Literal["activate", "cancel"]
    ids: Sequence[str]
    actor: Actor
    own_only: bool
    at: float
    messages: Sequence[tuple[str, str]] = ()

    @property
    def kind(self) -> tuple[object, ...]:
        """One actor's marks of a kind can be made together."""
        return self.mark, self.actor, self.own_only

    def run(self) -> MarkResult:
        """Mark the decisions."""
        return self.context.replace(
            lambda transaction, locked: self._mark(
                transaction, self.ids, self.messages, self.at, locked
            )
        )

    def run_group(self, transaction: Transaction, calls: Sequence["MarkCall"]) -> list[MarkResult]:
        """Mark the decisions of several calls of one kind.

        Raises:
            SerializationConflict: some were repeated, unknown or refused; which call had them is
                not clear.
        """
        ids = [i for call in calls for i in call.ids]
        messages = [pair for call in calls for pair in call.messages]
        at = max(call.at for call in calls)
        if self._mark(transaction, ids, messages, at).accepted < len(ids):
            raise SerializationConflict
        return [MarkResult(len(call.ids), 0, ()) for call in calls]

    def _mark(
        self,
        transaction: Transaction,
        ids: Sequence[str],
        messages: Sequence[tuple[str, str]],
        at: float,
        locked: Collection[int] = (),
    ) -> MarkResult:
        """Mark the decisions.

        Raises:
            FoldLockNeeded: marks that are void give way, and not all locks for it are held.
        """
        mark = _activate if self.mark == "activate" else _cancel
        transaction.lock(REFERENCES, shared=True)
        rows, records, reasons = self._judge(transaction, ids, at)
        allowed = [row for row in rows if row.id not in reasons] if reasons else rows
        replaced = {row.experiment_id for row in allowed if _replaced(row, self.mark)}
        if needed := replaced.difference(locked):
            raise FoldLockNeeded(needed)
        accepted = mark(transaction, records, allowed, actor=self.actor, at=at)
        if messages:
            _insert_message_ids(transaction, allowed, messages)
        return _result(ids, allowed, reasons, accepted)

    def check(self, transaction: Transaction) -> MarkResult:
        """Say what would be refused, and mark nothing; the others are counted as accepted."""
        rows, _, reasons = self._judge(transaction, self.ids, self.at)
        allowed = [row for row in rows if row.id not in reasons]
        return _result(self.ids, allowed, reasons, len(allowed))

    def _judge(
        self, transaction: Transaction, ids: Sequence[str], at: float
    ) -> tuple[_Targets, _Records, Mapping[str, tuple[RefusalReason, str]]]:
        """Read decisions and their experiments, and why some of them may not be marked."""
        voids = VoidLookup(transaction)
        rows: list[_Target] = []
        for start in range(0, len(ids), _AT_ONCE):
            condition = transaction.is_any(decisions.c.id, ids[start : start + _AT_ONCE])
            stored = transaction.execute(_TARGETS.where(condition)).all()
            rows += [_Target.of(row, voids) for row in stored]
        numbers = {row.experiment_id for row in rows}
        records = {n: self.context.experiments.read_by_id(transaction, n) for n in sorted(numbers)}
        answered = self._answered(transaction, rows)
        reasons = {
            row.id: reason
            for row in rows
            if (reason := self._refusal(row, records[row.experiment_id], at)) is not None
            and row.serial not in answered
        }
        return rows, records, reasons

    def _answered(self, transaction: Transaction, rows: _Targets) -> set[int]:
        """Find those of other actors' decisions that this one was answered with, to activate."""
        if not self.own_only or self.mark != "activate":
            return set()
        others = [row.serial for row in rows if row.actor not in (self.actor, None)]
        serials: set[int] = set()
        for start in range(0, len(others), _AT_ONCE):
            condition = transaction.is_any(repeats.c.decision, others[start : start + _AT_ONCE])
            query = select(repeats.c.decision).where(condition, repeats.c.actor == self.actor)
            serials.update(transaction.execute(query).scalars())
        return serials

    def _refusal(
        self, row: _Target, record: ExperimentRecord, at: float
    ) -> tuple[RefusalReason, str] | None:
        """Return why a decision may not be marked, by a word and a sentence, or None."""
        if self.own_only and row.actor not in (self.actor, None):
            return "another_key", _ANOTHER_KEY
        if self.mark == "activate" or row.cancellation.at is not None:
            return None
        started_at = row.activation.at if row.due_at is None else row.created_at
        limit = record.configuration.experiment.send_within_seconds
        if started_at is not None and at > started_at + limit:
            return "too_late", _TOO_LATE.format(limit)
        return None


def _result(
    ids: Sequence[str],
    allowed: _Targets,
    reasons: Mapping[str, tuple[RefusalReason, str]],
    accepted: int,
) -> MarkResult:
    """Sort the ids of a call into those accepted, repeated, unknown and refused."""
    existing = {row.id for row in allowed}
    unknown = tuple(i for i in dict.fromkeys(ids) if i not in existing and i not in reasons)
    refused = tuple(RefusedRow(row, i, *reasons[i]) for row, i in enumerate(ids) if i in reasons)
    return MarkResult(accepted, sum(i in existing for i in ids) - accepted, unknown, refused)


def _activate(
    transaction: Transaction, records: _Records, rows: _Targets, *, actor: Actor, at: float
) -> int:
    """Start the clocks of those of these decisions that wait for it; return how many."""
    accepted = 0
    waiting = [r for r in rows if r.due_at is None and r.activation.at is None]
    for experiment_id, group in _by_experiment(waiting).items():
        record = records[experiment_id]
        due_at = _due_at(record, at + record.configuration.experiment.reward.maturity)
        size = len(group)
        batch = open_batch(
            transaction, "activate", experiment_id, actor=actor, size=size, at=at, due_at=due_at
        )
        accepted += _insert(transaction, activations, batch, group)
    return accepted


def _cancel(
    transaction: Transaction, records: _Records, rows: _Targets, *, actor: Actor, at: float
) -> int:
    """Take these decisions out of learning, and free their subjects; return how many."""
    accepted = 0
    for experiment_id, group in _by_experiment(rows).items():
        due_at = _due_at(records[experiment_id], at)
        size = len(group)
        batch = open_batch(
            transaction, "cancel", experiment_id, actor=actor, size=size, at=at, due_at=due_at
        )
        accepted += _insert(transaction, cancellations, batch, group)
        _free_subjects(transaction, experiment_id, group)
    return accepted


def _due_at(record: ExperimentRecord, at: float) -> float | None:
    """Return `at`, or None, for no fold, after a stopped experiment's result is final."""
    return None if record.closes_at is not None and at > record.closes_at else at


def _by_experiment(rows: _Targets) -> dict[int, list[_Target]]:
    """Group decisions that are not cancelled by experiment, in the order that all callers use."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r.experiment_id, r.serial)):
        if row.cancellation.at is None:
            groups[row.experiment_id].append(row)
    return groups


def _replaced(row: _Target, mark: Literal["activate", "cancel"]) -> _Mark | None:
    """Return the void mark of a decision that a new one takes the place of, None without any."""
    if row.cancellation.at is not None:
        return None
    if mark == "activate" and (row.due_at is not None or row.activation.at is not None):
        return None
    old = row.activation if mark == "activate" else row.cancellation
    return old if old.is_void else None


def _insert(transaction: Transaction, table: Table, batch: int, rows: _Targets) -> int:
    """Insert marks of one experiment, also in the places of those that are void; return how many.

    Earlier snapshots knew of these.
    """
    marks = [(row.serial, batch) for row in rows]
    size = transaction.insert(table, ("decision", "batch_id"), marks)
    mark: Literal["activate", "cancel"] = "activate" if table is activations else "cancel"
    void = {row.serial: old for row in rows if (old := _replaced(row, mark)) is not None}
    if void:
        condition = transaction.is_any(table.c.decision, list(void))
        transaction.execute(update(table).where(condition).values(batch_id=batch))
        versions = [old.versions for old in void.values() if old.versions is not None]
        note_gone(transaction, rows[0].experiment_id, versions)
        size += len(void)
    if size < len(marks):
        close_batch(transaction, batch, size)
    return size


def _insert_message_ids(
    transaction: Transaction, rows: _Targets, messages: Sequence[tuple[str, str]]
) -> None:
    """Insert the mailer's ids of the emails of these decisions; the same again changes nothing."""
    serials = {row.id: row.serial for row in rows}
    pairs = {(name, serials[i]) for i, name in messages if i in serials}
    transaction.insert(message_ids, ("message_id", "decision"), sorted(pairs))


def _free_subjects(transaction: Transaction, experiment_id: int, rows: _Targets) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        portion = rows[start : start + _AT_ONCE]
        claims = delete(subjects).where(
            subjects.c.experiment_id == experiment_id,
            subjects.c.subject.in_([row.subject for row in portion]),
            transaction.is_any(subjects.c.decision_id, [row.id for row in portion]),
        )
        transaction.execute(claims)

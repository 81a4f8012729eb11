"""Revision: one change of what is void, and the rows of the log that it concerns."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from msgspec.structs import replace
from sqlalchemy import ColumnElement, delete, exists, func, insert, or_, select, update

from bandits.actors import PROGRAM
from bandits.store.values import Deeds, ExperimentRecord
from storage.databases import NamedRow, Transaction
from storage.log.batches import open_batch
from storage.schema import (
    CHOSEN,
    activations,
    batch_of,
    batches,
    cancellations,
    decisions,
    events,
    experiments,
    of_batch,
    subjects,
    voids,
    withdrawals,
)
from storage.snapshots import backlog
from storage.snapshots.actor_counts import count_rows, move_answered
from storage.snapshots.voids import Voids, deeds_of, rows_in_force

_AT_ONCE = 10_000  # decisions in one statement
_BATCHES_AT_ONCE = 5_000

_MARKS = (
    ("activate", activations),
    ("reward", events),
    ("reward", withdrawals),
    ("cancel", cancellations),
)


class Revision:
    """One change of what is void in an experiment, whose lock must be held.

    Attributes:
        deeds: what becomes void, or counts again; of a void, at most so much as one transaction
            takes.
        at: when, seconds since 1970.
        by: the person or program that asked for it.
        following: the time from which the next revision has to go on, None where this is the last.
        number: the void that it is a part of, once it is saved.
        decisions: how many decisions became void by it, or count again, once it is saved.
    """

    def __init__(  # noqa: PLR0913 - what changes, by whom and when
        self,
        transaction: Transaction,
        record: ExperimentRecord,
        deeds: Deeds,
        *,
        at: float,
        by: str,
        restores: int | None = None,
        call: int | None = None,
        most: int | None = None,
    ) -> None:
        """Find the batches.

        Args:
            transaction: one that writes.
            record: the experiment.
            deeds: an actor's.
            at: now, seconds since 1970.
            by: the person or program that asked for it.
            restores: the row of the void that ends; unless given, the deeds become void.
            call: the first row of a void of which this one is a further part.
            most: about how many rows are enough; all of them unless given.
        """
        self._transaction = transaction
        self._record = record
        self.at, self.by = at, by
        self._restores, self._call = restores, call
        rows = [] if record.voided is None else rows_in_force(transaction, record.id)
        self._before = Voids.of(map(deeds_of, rows))
        self._others = [deeds_of(row) for row in rows if row.id != restores]
        self.deeds = deeds
        self.following: float | None = None
        self.number = 0 if call is None else call
        self.decisions = 0
        self.batches = self._find(most)

    @cached_property
    def serials(self) -> list[int]:
        """Serials of the decisions that any of the batches concerns, ascending."""
        serials: set[int] = set()
        rows = select(decisions.c.serial).where(of_batch(batches.c.id))
        chosen = self._transaction.join_each(batches, [], rows)
        for numbers in self._numbers("choose"):
            condition = self._transaction.is_any(batches.c.id, numbers)
            serials.update(self._transaction.execute(chosen.where(condition)).scalars())
        for kind, marks in _MARKS:
            for numbers in self._numbers(kind):
                condition = self._transaction.is_any(marks.c.batch_id, numbers)
                query = select(marks.c.decision).where(condition)
                serials.update(self._transaction.execute(query).scalars())
        return sorted(serials)

    def save(self, version: int) -> Voids:
        """Write the change, for snapshots from `version` on; return what is void then."""
        added = [self.deeds] if self._restores is None else []
        voids_now = Voids.of([*self._others, *added])
        covered = [
            (batch, voids_now.cover(batch) - self._before.cover(batch)) for batch in self.batches
        ]
        before, now = (self._count_void(of) for of in (self._before, voids_now))
        self.decisions = abs(now - before)
        row = {
            "call_id": self._call,
            "experiment_id": self._record.id,
            "restores": self._restores,
            "actor": self.deeds.actor,
            "since": self.deeds.since,
            "until": self.deeds.until,
            "version": version,
            "decisions": self.decisions,
            "created_at": self.at,
            "created_by": self.by,
        }
        inserted = insert(voids).values(row).returning(voids.c.id)
        number = self._transaction.execute(inserted).scalar_one()
        self.number = self.number or number
        experiment = update(experiments).where(experiments.c.id == self._record.id)
        self._transaction.execute(experiment.values(voided=now))
        self._count(covered)
        if self._record.configuration.experiment.assignment == "per_subject":
            for portion in self._portions():
                self._settle_claims(portion, voids_now, version)
        return voids_now

    def _find(self, most: int | None) -> list[NamedRow]:
        """Read the batches of the deeds, and end them early where those are too many."""
        query = (
            select(
                batches.c.id,
                batches.c.kind,
                batches.c.size,
                batches.c.created_at,
                batches.c.actor,
                batches.c.policy_version,
                batches.c.counted_version,
            )
            .where(
                batches.c.experiment_id == self._record.id,
                batches.c.actor == self.deeds.actor,
                batches.c.created_at >= self.deeds.since,
                batches.c.created_at < self.deeds.until,
            )
            .order_by(batches.c.created_at, batches.c.id)
        )
        if most is None:
            return list(self._transaction.execute(query).all())
        rows = self._transaction.execute(query.limit(backlog.MOST_BATCHES)).all()
        if len(rows) == backlog.MOST_BATCHES and rows[0].created_at == rows[-1].created_at:
            rows = self._transaction.execute(query).all()  # a time is not divided
        end = _end(rows, most)
        if end < len(rows):
            self.following = rows[end].created_at
            self.deeds = replace(self.deeds, until=rows[end].created_at)
        return list(rows[:end])

    def _count_void(self, of: Voids) -> int:
        """Count the decisions that are void, but for those that are cancelled."""
        if not of.deeds:
            return 0
        void = or_(*(~condition for condition in of.outside(batches)))
        chosen = select(batches.c.id).where(batches.c.experiment_id == self._record.id, CHOSEN)
        numbers = self._transaction.execute(chosen.where(void)).scalars().all()
        cancelled = exists().where(cancellations.c.decision == decisions.c.serial)
        rows = select(decisions.c.serial).where(of_batch(batches.c.id), ~cancelled)
        joined = self._transaction.join_each(batches, [], rows)
        count = 0
        for start in range(0, len(numbers), _BATCHES_AT_ONCE):
            portion = numbers[start : start + _BATCHES_AT_ONCE]
            part = joined.where(self._transaction.is_any(batches.c.id, portion)).subquery()
            count += self._transaction.execute(select(func.count()).select_from(part)).scalar_one()
        return count

    def _numbers(self, kind: str) -> Iterator[list[int]]:
        numbers = [batch.id for batch in self.batches if batch.kind == kind]
        for start in range(0, len(numbers), _BATCHES_AT_ONCE):
            yield numbers[start : start + _BATCHES_AT_ONCE]

    def _portions(self) -> Iterator[list[int]]:
        for start in range(0, len(self.serials), _AT_ONCE):
            yield self.serials[start : start + _AT_ONCE]

    def _count(self, covered: Sequence[tuple[NamedRow, int]]) -> None:
        """Keep the actor's counts to what is not void."""
        for sign in (1, -1):
            rows = [b for b, change in covered if change == sign and b.counted_version is not None]
            if rows:
                count_rows(self._transaction, self._record, rows, -sign)
                move_answered(self._transaction, self._record, self.deeds, self.serials, -sign)

    def _settle_claims(self, serials: Sequence[int], voids_now: Voids, version: int) -> None:
        """Free the subjects of decisions that are void, and claim those of decisions that count.

        Where a subject has got another decision meanwhile, it keeps that one: the earlier is
        cancelled, so that it counts once.
        """
        cancelled = select(cancellations.c.decision).join_from(
            cancellations, batches, batches.c.id == cancellations.c.batch_id
        )
        condition = self._transaction.is_any(cancellations.c.decision, serials)
        query = cancelled.where(condition, *voids_now.outside(batches))
        gone = set(self._transaction.execute(query).scalars())
        columns = (decisions.c.serial, decisions.c.id, decisions.c.subject)
        of_serials = self._transaction.is_any(decisions.c.serial, serials)
        claiming = (of_serials, ~decisions.c.fallback, ~decisions.c.shipped)
        rows = self._transaction.execute(select(*columns).where(*claiming)).all()
        own = select(decisions.c.serial).join_from(decisions, batches, batches.c.id == batch_of)
        query = own.where(of_serials, *voids_now.outside(batches))
        in_force = set(self._transaction.execute(query).scalars()) - gone
        self._free([row for row in rows if row.serial not in in_force])
        self._claim([row for row in rows if row.serial in in_force], version)

    def _free(self, rows: Sequence[NamedRow]) -> None:
        if rows:
            claims = delete(subjects).where(
                subjects.c.experiment_id == self._record.id,
                subjects.c.subject.in_([row.subject for row in rows]),
                self._transaction.is_any(subjects.c.decision_id, [row.id for row in rows]),
            )
            self._transaction.execute(claims)

    def _claim(self, rows: Sequence[NamedRow], version: int) -> None:
        if not rows:
            return
        number = self._record.id
        ordered = sorted(rows, key=lambda row: (row.subject, row.serial))
        claims = [(number, subject, row.id) for subject, row in _first(ordered).items()]
        columns = ("experiment_id", "subject", "decision_id")
        self._transaction.insert(subjects, columns, claims)
        query = select(subjects.c.subject, subjects.c.decision_id).where(
            subjects.c.experiment_id == number,
            subjects.c.subject.in_([row.subject for row in rows]),
        )
        owners = {row.subject: row.decision_id for row in self._transaction.execute(query)}
        again = sorted(row.serial for row in rows if owners[row.subject] != row.id)
        if again:
            self._cancel(again, version)

    def _cancel(self, serials: Sequence[int], version: int) -> None:
        """Cancel decisions, in a batch that is counted already."""
        marks = {"counted_version": version, "folded_version": version, "closed_version": version}
        columns = {"size": len(serials), **marks}
        at = self.at
        batch = open_batch(
            self._transaction, "cancel", self._record.id, actor=PROGRAM, at=at, due_at=at, **columns
        )
        rows = [(serial, batch) for serial in serials]
        if self._transaction.insert(cancellations, ("decision", "batch_id"), rows) < len(rows):
            # A cancellation that is void was there: this one stands in its place.
            condition: ColumnElement[bool] = self._transaction.is_any(
                cancellations.c.decision, serials
            )
            self._transaction.execute(update(cancellations).where(condition).values(batch_id=batch))


def _end(rows: Sequence[NamedRow], most: int) -> int:
    """Return how many of these batches, in the order of time, are enough for one transaction.

    There may be more than these where they are `backlog.MOST_BATCHES`: the last time is then left
    to the next one.
    """
    policies: set[int] = set()  # their probabilities are derived again, under the lock
    size = 0
    for place, row in enumerate(rows):
        full = size >= most or len(policies) >= backlog.MOST_ORIGINS
        if full and row.created_at > rows[place - 1].created_at:
            return place
        size += row.size
        if row.policy_version is not None:
            policies.add(row.policy_version)
    if len(rows) != backlog.MOST_BATCHES or rows[0].created_at == rows[-1].created_at:
        return len(rows)
    return next(i for i, row in enumerate(rows) if row.created_at == rows[-1].created_at)


def _first(rows: Sequence[NamedRow]) -> dict[bytes, NamedRow]:
    """Return the first row of each subject."""
    first: dict[bytes, NamedRow] = {}
    for row in rows:
        first.setdefault(row.subject, row)
    return first

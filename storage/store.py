"""The store: every method one transaction, put together from the parts of this package."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from msgspec.structs import replace
from sqlalchemy import select

from bandits.configuration import Configuration
from bandits.folding import Audit, Removal
from bandits.logged import Appended, Chosen, Event, Marked, OfSubject, Removed, Stored, Target
from bandits.records import Mishaps, Point, Record, Snapshot, Standing, State, Waiting
from storage import choices, log, marks, matching, restrictions, rewards, together
from storage.accounts import Accounts
from storage.changes import note
from storage.databases import Database, Raced, Transaction
from storage.databases.opening import open_database
from storage.drafts import Drafts
from storage.experiments import Experiments
from storage.groups import Groups, Work
from storage.learning import snapshots
from storage.learning.folds import SqlFold
from storage.learning.mishaps import logged_mishaps, note_early
from storage.learning.observations import Observations
from storage.learning.past import SqlPast
from storage.learning.waiting import read_waiting
from storage.recent import Recent
from storage.removal import erasing
from storage.removal.removing import Removing, read_base, refuse_removed, remove_spent
from storage.tables import secrets as secrets_table

T = TypeVar("T")

_ATTEMPTS = 5
_SUBJECTS = "subjects"
_SECRET_BYTES = 32


def open_store(database_url: str) -> "SqlStore":
    """Prepare the store in a database; it connects on first use.

    Raises:
        InvalidInput: the URL is none of ours.
    """
    return SqlStore(open_database(database_url))


class SqlStore:
    """Experiments, the log and the snapshots in a SQL database: `bandits.store.Store`.

    Its methods say what they do there. Any of them may raise `Unavailable`, also where
    `storage.upgrade` has not been run; then nothing was stored.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self.database = database
        self.accounts = Accounts(database)
        self.drafts = Drafts(database)
        self._experiments = Experiments()
        self._recent = Recent()
        self._groups = Groups(database)
        self._choosing = Work(self._append_choices, self._append_many_choices)
        self._rewarding = Work(self._append_rewards, together.reward)
        self._activating = Work(self._activate, together.mark(self._activated))
        self._cancelling = Work(self._cancel, together.mark(self._cancelled))

    def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        self.database.close()

    # Experiments

    def create(self, configuration: Configuration, *, salt: bytes, at: float, by: str) -> Record:
        """Add a draft."""
        return self._write(
            lambda c: self._experiments.create(c, configuration, salt=salt, at=at, by=by)
        )

    def record(self, key: str) -> Record:
        """Read an experiment."""
        begun = time.monotonic()
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
        self._recent.keep(record, begun)
        return record

    def recent(self, key: str) -> Record:
        """Read an experiment as it was within the last second, to choose under it."""
        return self._recent.get(key) or self.record(key)

    def records(self) -> list[Record]:
        """Read every experiment, the newest first."""
        with self.database.reading() as transaction:
            return self._experiments.records(transaction)

    def configure(
        self,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> Record:
        """Store the next version of a configuration."""
        record = self._write(
            lambda c: self._experiments.configure(
                c, key, configuration, allowed=allowed, at=at, by=by
            )
        )
        self._recent.forget(key)
        return record

    def move(  # noqa: PLR0913 - as the port declares it
        self,
        key: str,
        to: State,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
        shipped: int | None = None,
    ) -> Record:
        """Change an experiment's state."""
        record = self._write(
            lambda c: self._experiments.move(
                c, key, to, allowed=allowed, at=at, by=by, shipped=shipped
            )
        )
        self._recent.forget(key)
        return record

    def configuration(self, key: str, version: int) -> Configuration:
        """Read one version of a configuration."""
        with self.database.reading() as transaction:
            return self._experiments.configuration(transaction, key, version)

    # The log

    def append_decisions(
        self, record: Record, chosen: Chosen, *, at: float
    ) -> Mapping[int, Stored]:
        """Append decisions in one transaction, durable on return."""
        if not chosen.ids:
            return {}
        hashes = choices.hash_subjects(self._subject_secret, chosen.subjects)
        call = together.Choices(record, chosen, hashes, at)
        if len(chosen.ids) > together.MOST_ROWS:
            return self._append_choices(call)
        return self._groups.do(self._choosing, call.kind, call)

    def _append_choices(self, call: together.Choices) -> Mapping[int, Stored]:
        return self._write(lambda c: self._append_many_choices(c, [call])[0])

    def _append_many_choices(
        self, transaction: Transaction, calls: Sequence[together.Choices]
    ) -> list[Mapping[int, Stored]]:
        self._recent.check(transaction, calls[0].record)
        return together.choose(transaction, calls)

    def admit(self, record: Record, given: Sequence[bytes], *, most: int) -> Sequence[bytes]:
        """Note new restrictions of requests; return those beyond `most`."""
        return self._write(lambda c: restrictions.admit(c, record, given, most=most))

    def decisions(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Read the decisions that exist among these ids."""
        with self.database.reading() as transaction:
            return log.read_decisions(transaction, ids)

    def latest_decisions(self, key: str, *, limit: int) -> list[Stored]:
        """Read an experiment's decisions that were made last, the newest first."""
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
            return log.read_latest(transaction, record.id, limit)

    def newest_decisions(self, key: str, subjects: Sequence[str]) -> dict[str, str]:
        """Find the newest decision of each subject in an experiment; others are left out."""
        hashes = choices.hash_subjects(self._subject_secret, subjects)
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
            found = matching.newest_decisions(transaction, record, hashes)
        named = zip(subjects, hashes, strict=True)
        return {name: found[subject] for name, subject in named if subject in found}

    def events(self, decision_id: str) -> list[Event]:
        """Read a decision's events in order of their time."""
        with self.database.reading() as transaction:
            return log.read_events(transaction, decision_id)

    def targets(self, ids: Sequence[str]) -> dict[str, Target]:
        """Find the decisions that exist among these distinct ids, to append events to them."""
        with self.database.reading() as transaction:
            return rewards.read_targets(transaction, ids)

    def append_events(
        self, events: Sequence[Event], targets: Mapping[str, Target] | None = None, *, at: float
    ) -> Appended:
        """Append events of existing decisions in one transaction, durable on return."""
        if not events:
            return Appended(0, 0, 0)
        call = together.Rewards(events, targets, at)
        if targets is None or len(events) > together.MOST_ROWS:
            return self._append_rewards(call)
        return self._groups.do(self._rewarding, "reward", call)

    def _append_rewards(self, call: together.Rewards) -> Appended:
        return self._write(
            lambda c: rewards.append_events(c, call.events, call.targets, at=call.at)
        )

    def note_early(self, early: Mapping[int, int], *, at: float) -> None:
        """Count events of experiments that came before their decisions' clocks ran."""
        self._write(lambda c: note_early(c, early, at=at))

    def activate(self, ids: Sequence[str], *, at: float) -> Marked:
        """Start the clocks of decisions."""
        call = together.Marks(ids, at)
        if len(ids) > together.MOST_ROWS:
            return self._activate(call)
        return self._groups.do(self._activating, "activate", call)

    def _activate(self, call: together.Marks) -> Marked:
        return self._write(lambda c: self._activated(c, call.ids, at=call.at))

    def _activated(self, transaction: Transaction, ids: Sequence[str], *, at: float) -> Marked:
        return marks.activate(transaction, ids, at=at, record=self._experiments.record_by_id)

    def cancel(self, ids: Sequence[str], *, at: float) -> Marked:
        """Take decisions out of learning, and free their subjects."""
        call = together.Marks(ids, at)
        if len(ids) > together.MOST_ROWS:
            return self._cancel(call)
        return self._groups.do(self._cancelling, "cancel", call)

    def _cancel(self, call: together.Marks) -> Marked:
        return self._write(lambda c: self._cancelled(c, call.ids, at=call.at))

    def _cancelled(self, transaction: Transaction, ids: Sequence[str], *, at: float) -> Marked:
        return marks.cancel(transaction, ids, at=at, record=self._experiments.record_by_id)

    # Subjects

    def subject(self, subject_id: str, *, after: int = 0, limit: int) -> OfSubject:
        """Read a subject's decisions in every experiment; this goes through the log."""
        with self.database.reading(consistent=True) as transaction:
            hashed = self._hashed(subject_id)
            return erasing.read_subject(transaction, hashed, after=after, limit=limit)

    def subject_decisions(self, subject_id: str) -> dict[str, list[str]]:
        """Find the ids of a subject's decisions, by experiment; this goes through the log."""
        hashed = self._hashed(subject_id)
        with self.database.reading() as transaction:
            return erasing.find_decisions(transaction, hashed)

    def _hashed(self, subject_id: str) -> bytes:
        return choices.hash_subjects(self._subject_secret, [subject_id])[0]

    @contextmanager
    def erase(self, key: str, ids: Sequence[str], *, now: float, by: str) -> Iterator[SqlFold]:
        """Erase decisions and all that followed them, in one transaction."""
        with self._folding(key) as (transaction, record):
            past = SqlPast(transaction, record, self._experiments)
            leaving = erasing.Erasing(transaction, record, past, ids, now)
            folding = leaving.fold()
            yield folding
            if folding.due is not None and not folding.saved:
                transaction.connection.rollback()
                return
            leaving.finish(subtracted=folding.saved)
            after = {"decisions": len(leaving)}  # whose they were is nobody's business
            note(transaction, "erase", f"experiment:{key}", at=now, by=by, after=after)

    # Learning

    @contextmanager
    def _folding(self, key: str) -> Iterator[tuple[Transaction, Record]]:
        """Open a transaction that holds an experiment's lock, and read it as it is under that."""
        with self.database.writing() as transaction:
            number = self._experiments.record(transaction, key).id
            transaction.lock(f"fold {number}")
            yield transaction, self._experiments.record(transaction, key)
        self._recent.forget(key)

    @contextmanager
    def fold(self, key: str, *, now: float) -> Iterator[SqlFold]:
        """Start a fold: take the experiment's lock and read what is due by `now`."""
        with self._folding(key) as (transaction, record):
            past = SqlPast(transaction, record, self._experiments)
            folding = SqlFold(transaction, record, past, now)
            yield folding
            if folding.due is not None and not folding.saved:  # else what was seen stays seen
                transaction.connection.rollback()

    @contextmanager
    def audit(self, key: str, version: int | None = None) -> Iterator[Audit]:
        """Read the whole log of one experiment, consistently, also while others write."""
        with self.database.reading(consistent=True) as transaction:
            record = self._experiments.record(transaction, key)
            base = read_base(transaction, record)
            if version is None:
                snapshot = snapshots.newest_snapshot(transaction, record)
            else:
                snapshot = snapshots.read_snapshot(transaction, record, version)
                refuse_removed(base, record, version)
                then = snapshot.configuration_version
                configuration = self._experiments.configuration(transaction, key, then)
                record = replace(record, configuration=configuration, learned_version=version)
            observations = Observations(transaction, record, as_of=version)
            yield Audit(
                record,
                snapshot,
                observations.learned(),
                observations.pending(),
                SqlPast(transaction, record, self._experiments),
                snapshots.all_kept(transaction, record),
                base,
                logged_mishaps(transaction, record) if version is None else Mishaps(),
            )

    def remove(
        self,
        key: str,
        *,
        before: float,
        most: int,
        following: tuple[float, int] | None,
        keep: Callable[[Removal], None],
    ) -> Removed:
        """Remove decisions that nothing can change any more, in one transaction."""
        with self._folding(key) as (transaction, record):
            past = SqlPast(transaction, record, self._experiments)
            removing = Removing(
                transaction, record, past, before=before, most=most, following=following
            )
            if len(removing):
                keep(removing)
            following = removing.following
            if following is None and remove_spent(transaction, record, before, most) == most:
                following = (before, 0)  # no decisions any more, but there may be more of these
            return Removed(len(removing), following)

    def prune(self, key: str, *, before: float, most: int) -> int:
        """Take the arrays of snapshots from before a time, the newest excepted."""

        def work(transaction: Transaction) -> int:
            record = self._experiments.record(transaction, key)
            return snapshots.prune_snapshots(transaction, record, before=before, most=most)

        return self._write(work)

    def snapshot(self, key: str, version: int) -> Snapshot:
        """Read one snapshot."""
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
            return snapshots.read_snapshot(transaction, record, version)

    def standing(self, key: str, points: int) -> Standing:
        """Read how an experiment stands, all of one moment."""
        with self.database.reading(consistent=True) as transaction:
            record = self._experiments.record(transaction, key)
            newest = snapshots.newest_snapshot(transaction, record)
            return Standing(record, newest, snapshots.read_history(transaction, record, points))

    def waiting(self, now: float) -> Mapping[int, Waiting]:
        """Tell what waits for a fold."""
        with self.database.reading() as transaction:
            return read_waiting(transaction, now)

    def history(self, key: str, points: int) -> list[Point]:
        """Read at most `points` snapshots for a chart, spread over time, the newest included."""
        with self.database.reading() as transaction:
            record = self._experiments.record(transaction, key)
            return snapshots.read_history(transaction, record, points)

    def _write(self, work: Callable[[Transaction], T]) -> T:
        """Do work in a transaction, again where another came between."""
        for _ in range(_ATTEMPTS - 1):
            try:
                with self.database.writing() as transaction:
                    return work(transaction)
            except Raced:
                continue
        with self.database.writing() as transaction:
            return work(transaction)

    @cached_property
    def _subject_secret(self) -> bytes:
        """The key that subjects are hashed with."""
        return self.secret(_SUBJECTS)

    def secret(self, name: str) -> bytes:
        """Return the 32 secret bytes that this database keeps as `name`, made when first needed."""
        query = select(secrets_table.c.value).where(secrets_table.c.name == name)
        with self.database.reading() as transaction:
            known = transaction.execute(query).scalar_one_or_none()
        if known is None:
            made = (name, secrets.token_bytes(_SECRET_BYTES))
            columns = ("name", "value")
            with self.database.writing() as transaction:
                transaction.insert(secrets_table, columns, [made])
                known = transaction.execute(query).scalar_one()
        return bytes(known)

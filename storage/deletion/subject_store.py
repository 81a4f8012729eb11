"""What is stored of one subject, as the store shows it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bandits.store.values import SubjectPage
from storage.audit_log import record_change
from storage.deletion import erase_subject
from storage.snapshots.fold import SqlFold
from storage.snapshots.snapshots import SqlHistoryReader
from storage.store_context import StoreContext


class SubjectStore:
    """Reads what is stored of a subject, and erases it."""

    def __init__(self, context: StoreContext) -> None:
        """Work in the database of `context`."""
        self._context = context
        self._database = context.database

    def subject(self, subject_id: str, *, after: int = 0, limit: int) -> SubjectPage:
        """Read a subject's decisions in every experiment; this goes through the log."""
        with self._database.reading(consistent=True) as transaction:
            hashed = self._context.hash_subjects([subject_id])[0]
            return erase_subject.read_subject(transaction, hashed, after=after, limit=limit)

    def subject_decisions(self, subject_id: str) -> dict[str, list[str]]:
        """Find the ids of a subject's decisions, by experiment; this goes through the log."""
        hashed = self._context.hash_subjects([subject_id])[0]
        with self._database.reading() as transaction:
            return erase_subject.find_decisions(transaction, hashed)

    @contextmanager
    def erase(self, key: str, ids: Sequence[str], *, now: float, by: str) -> Iterator[SqlFold]:
        """Erase decisions and all that followed them, in one transaction."""
        with self._context.folding(key) as (transaction, record):
            past = SqlHistoryReader(transaction, record, self._context.experiments)
            leaving = erase_subject.SubjectErasure(transaction, record, past, ids, now)
            folding = leaving.fold()
            yield folding
            if folding.due is not None and not folding.saved:
                transaction.connection.rollback()
                return
            leaving.finish(subtracted=folding.saved)
            after = {"decisions": len(leaving)}  # whose they were is nobody's business
            record_change(transaction, "erase", f"experiment:{key}", at=now, by=by, after=after)

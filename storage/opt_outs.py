"""Opt-outs: subjects who want emails to be chosen without their data, by their hashes.

They are read with the record that emails are chosen under, so one holds within a second in every
process. What is there already is not read again, unless some subject was removed meanwhile.
"""

from collections.abc import Sequence
from threading import Lock

from sqlalchemy import bindparam, delete, insert, select

from bandits.errors import NotFound
from storage.databases import Database, Transaction, write_again
from storage.schema import decisions, opt_outs

_BEYOND = (
    select(opt_outs.c.id, opt_outs.c.subject)
    .where(opt_outs.c.id > bindparam("known", type_=opt_outs.c.id.type))
    .order_by(opt_outs.c.id)
)
_LOCK = "opt-outs"


class OptOutReader:
    """Reader of opt-outs that keeps those it has read."""

    def __init__(self) -> None:
        """Start with none read."""
        self._lock = Lock()
        self._known = 0
        self._subjects: frozenset[bytes] = frozenset()

    def read(self, transaction: Transaction) -> frozenset[bytes]:
        """Return the hashes of all subjects who opted out."""
        with self._lock:
            rows = transaction.execute(_BEYOND, {"known": self._known}).all()
            if not rows:
                return self._subjects
            if self._known and any(subject is None for _, subject in rows):
                self._subjects = frozenset()
                rows = transaction.execute(_BEYOND, {"known": 0}).all()
            new = (bytes(subject) for _, subject in rows if subject is not None)
            self._subjects = self._subjects.union(new)
            self._known = rows[-1][0]
            return self._subjects


class OptOutStore:
    """Opt-outs in one database; any method may raise `Unavailable`."""

    def __init__(self, database: Database) -> None:
        """Work in `database`."""
        self._database = database

    def has(self, decision_id: str) -> bool:
        """Return True where the subject of a decision opted out.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        with self._database.reading() as transaction:
            subject = _subject(transaction, decision_id)
            return _opted_out_at(transaction, subject) is not None

    def set(self, decision_id: str, *, opted_out: bool, at: float) -> None:
        """Let the subject of a decision opt out, or take that back.

        Raises:
            NotFound: there is no such decision, or none any more.
        """

        def work(transaction: Transaction) -> None:
            transaction.lock(_LOCK)  # of two at once, each is numbered behind what is committed
            subject = _subject(transaction, decision_id)
            if not opted_out:
                _remove(transaction, [subject], at=at)
            elif _opted_out_at(transaction, subject) is None:
                transaction.execute(insert(opt_outs).values(subject=subject, at=at))

        write_again(self._database, work)

    def opted_out_at(self, subject: bytes) -> float | None:
        """Return when the subject of a hash opted out, None where it did not."""
        with self._database.reading() as transaction:
            return _opted_out_at(transaction, subject)

    def erase(self, subjects: Sequence[bytes], *, at: float) -> None:
        """Forget that the subjects of these hashes opted out."""

        def work(transaction: Transaction) -> None:
            transaction.lock(_LOCK)
            _remove(transaction, subjects, at=at)

        write_again(self._database, work)


def _subject(transaction: Transaction, decision_id: str) -> bytes:
    query = select(decisions.c.subject).where(decisions.c.id == decision_id)
    subject = transaction.execute(query).scalar_one_or_none()
    if subject is None:
        raise NotFound("decision", decision_id)
    return bytes(subject)


def _opted_out_at(transaction: Transaction, subject: bytes) -> float | None:
    query = select(opt_outs.c.at).where(opt_outs.c.subject == subject)
    at: float | None = transaction.execute(query).scalar_one_or_none()
    return at


def _remove(transaction: Transaction, subjects: Sequence[bytes], *, at: float) -> None:
    """Remove subjects, and say so in a row of its own, in place of the earlier one that did."""
    query = delete(opt_outs).where(opt_outs.c.subject.in_(subjects)).returning(opt_outs.c.id)
    if transaction.execute(query).all():
        transaction.execute(delete(opt_outs).where(opt_outs.c.subject.is_(None)))
        transaction.execute(insert(opt_outs).values(subject=None, at=at))

"""Where people are signed in: one row for each browser, so that it can be seen and ended.

A browser keeps a random token; only its hash is stored, so whoever reads the table cannot sign in.
"""

import secrets
from hashlib import sha256

from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from bandits.errors import NotFound, Unavailable
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction
from storage.schema import sessions, users

LASTING_SECONDS = 7 * 86_400.0  # not used for so long, a session is over
_SECRET_BYTES = 32
_COARSE_SECONDS = 300.0  # how exactly it is known when one was last used: each note is a write
_LONGEST_AGENT = 400


class Session(Struct, frozen=True):
    """One browser that somebody is signed in with.

    Attributes:
        id: what to end it by.
        user_id: whose it is.
        agent: what the browser calls itself.
        address: where it signed in from.
        seen_at: when it was last used, to within five minutes.
    """

    id: int
    user_id: int
    agent: str
    address: str
    created_at: float
    seen_at: float


class SessionStore:
    """The sessions of one database. Any method may raise `Unavailable`."""

    def __init__(self, database: Database) -> None:
        """Work on `database`; `Accounts.sessions` makes one."""
        self._database = database

    def begin(self, user_id: int, *, agent: str, address: str, at: float) -> str:
        """Sign somebody in and return the token that their browser keeps.

        Raises:
            NotFound: there is nobody of this number.
        """
        token = secrets.token_urlsafe(_SECRET_BYTES)
        row = {
            "digest": _digest(token),
            "user_id": user_id,
            "agent": agent[:_LONGEST_AGENT],
            "address": address,
            "created_at": at,
            "seen_at": at,
        }
        with self._database.writing() as transaction:
            query = select(users.c.id).where(users.c.id == user_id).with_for_update()
            if transaction.execute(query).one_or_none() is None:
                raise NotFound("user", str(user_id))
            over = sessions.c.seen_at < at - LASTING_SECONDS
            transaction.execute(delete(sessions).where(over))
            transaction.execute(insert(sessions).values(row))
        return token

    def find(self, token: str, *, at: float) -> Session:
        """Find the session of a token, and note that it is used.

        Raises:
            NotFound: it was ended, or has not been used for too long.
        """
        with self._database.reading() as transaction:
            query = select(sessions).where(sessions.c.digest == _digest(token))
            row = transaction.execute(query).one_or_none()
        if row is None or row.seen_at < at - LASTING_SECONDS:
            raise NotFound("session", "…")
        if at - row.seen_at >= _COARSE_SECONDS:
            self._touch(row.id, at)
        return _session(row)

    def _touch(self, session_id: int, at: float) -> None:
        query = update(sessions).where(sessions.c.id == session_id).values(seen_at=at)
        try:
            with self._database.writing() as transaction:
                transaction.execute(query)
        except Unavailable:
            pass  # a busy database must not sign people out

    def of(self, user_id: int, *, at: float) -> list[Session]:
        """Read where somebody is signed in, the last used first."""
        alive = sessions.c.seen_at >= at - LASTING_SECONDS
        query = select(sessions).where(sessions.c.user_id == user_id, alive)
        order = (sessions.c.seen_at.desc(), sessions.c.id.desc())
        with self._database.reading() as transaction:
            return [_session(row) for row in transaction.execute(query.order_by(*order))]

    def end(self, session_id: int) -> None:
        """Sign a browser out; doing it again changes nothing."""
        with self._database.writing() as transaction:
            transaction.execute(delete(sessions).where(sessions.c.id == session_id))

    def end_others(self, session: Session, *, at: float, by: str) -> int:
        """Sign the owner of `session` out everywhere else; return in how many places that was."""
        others = (sessions.c.user_id == session.user_id) & (sessions.c.id != session.id)
        with self._database.writing() as transaction:
            query = delete(sessions).where(others).returning(sessions.c.id)
            ended = len(transaction.execute(query).all())
            if ended:
                before = {"sessions": ended + 1}
                after = {"sessions": 1}
                subject = f"user:{by}"
                record_change(
                    transaction, "sign out", subject, at=at, by=by, before=before, after=after
                )
        return ended


def end_every(transaction: Transaction, user_id: int) -> None:
    """Sign somebody out everywhere, in the transaction of the change that calls for it."""
    transaction.execute(delete(sessions).where(sessions.c.user_id == user_id))


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()


def _session(row: NamedRow) -> Session:
    return Session(row.id, row.user_id, row.agent, row.address, row.created_at, row.seen_at)

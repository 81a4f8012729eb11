"""Sessions of users: one row for each browser, so that users can see and end them.

A browser keeps a random token; only its hash is stored, so a reader of the table cannot sign in.
"""

import secrets
from hashlib import sha256

from msgspec import Struct
from sqlalchemy import delete, insert, select, update

from bandits.errors import NotFound, Unavailable
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction
from storage.schema import sessions, users

LASTING_SECONDS = 7 * 86_400.0  # a session that is not used for so long is over
_SECRET_BYTES = 32
_COARSE_SECONDS = 300.0  # precision of the last use: each note of it is a write
_LONGEST_AGENT = 400


class Session(Struct, frozen=True):
    """One browser in which a user is signed in.

    Attributes:
        id: number by which it is ended.
        user_id: number of its user.
        agent: name that the browser gives itself.
        address: address that it signed in from.
        seen_at: time of its last use, to within five minutes.
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
        """Work on `database`; `AccountStore.sessions` is one."""
        self._database = database

    def begin(self, user_id: int, *, agent: str, address: str, at: float) -> str:
        """Sign a user in and return the token for the browser to keep.

        Raises:
            NotFound: there is no user of this number.
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

    def active(self, user_id: int, *, at: float) -> list[Session]:
        """Read the sessions of a user, the last used first."""
        alive = sessions.c.seen_at >= at - LASTING_SECONDS
        query = select(sessions).where(sessions.c.user_id == user_id, alive)
        order = (sessions.c.seen_at.desc(), sessions.c.id.desc())
        with self._database.reading() as transaction:
            return [_session(row) for row in transaction.execute(query.order_by(*order))]

    def end(self, session_id: int) -> None:
        """Sign a browser out; doing it again changes nothing."""
        with self._database.writing() as transaction:
            transaction.execute(delete(sessions).where(sessions.c.id == session_id))

    def end_all(self, user_id: int) -> None:
        """Sign a user out everywhere."""
        with self._database.writing() as transaction:
            end_all(transaction, user_id)

    def end_others(self, session: Session, *, at: float, by: str) -> int:
        """End all other sessions of the user of `session`; return how many."""
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


def end_all(transaction: Transaction, user_id: int) -> None:
    """End all sessions of a user, in the transaction of a change that requires it."""
    transaction.execute(delete(sessions).where(sessions.c.user_id == user_id))


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()


def _session(row: NamedRow) -> Session:
    return Session(row.id, row.user_id, row.agent, row.address, row.created_at, row.seen_at)

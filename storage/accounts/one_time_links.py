"""One-time links: of the first account, of invitations, and of passwords that are forgotten.

A link has a random code, of which only the hash is stored. Taking it removes its row, in the
transaction of what it allows, so that of two people with the same link one alone gets it.
"""

import secrets
from hashlib import sha256
from typing import Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, NotFound
from storage.accounts.roles import Role
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction
from storage.schema import one_time_links, users

Purpose = Literal["set-up", "invitation", "reset"]

_HOUR = 3600.0
VALID_SECONDS: dict[Purpose, float] = {
    "set-up": 24 * _HOUR,
    "invitation": 7 * 24 * _HOUR,
    "reset": 2 * _HOUR,
}
_CODE_BYTES = 32


class OneTimeLink(Struct, frozen=True):
    """A link, without its code; times are seconds since 1970.

    Attributes:
        email: address of the account that it is about; None for the first account.
        role: that an invitation gives.
    """

    id: int
    purpose: Purpose
    email: str | None
    role: Role | None
    created_at: float
    created_by: str
    expires_at: float


class OneTimeLinkStore:
    """One-time links of one database. Any method may raise `Unavailable`."""

    def __init__(self, database: Database) -> None:
        """Work on `database`; `AccountStore.links` is one."""
        self._database = database

    def create_set_up(self, *, at: float, by: str) -> str | None:
        """Return the code of a new set-up link, which ends earlier ones; None once somebody is."""
        with self._database.writing() as transaction:
            remove_links(transaction, "set-up")
            if transaction.execute(select(users.c.id).limit(1)).one_or_none() is not None:
                return None
            return _insert(transaction, "set-up", at=at, by=by)

    def set_up_expiry(self) -> float | None:
        """Return the end of the set-up link, None where there is none."""
        query = select(one_time_links.c.expires_at).where(one_time_links.c.purpose == "set-up")
        with self._database.reading() as transaction:
            return transaction.execute(query.limit(1)).scalar_one_or_none()

    def invite(self, email: str, role: Role, *, at: float, by: str) -> str:
        """Invite somebody; an earlier invitation of the address ends.

        Returns:
            The code.

        Raises:
            AlreadyExists: there is an account with this address.
        """
        email = _folded(email)
        try:
            with self._database.writing() as transaction:
                query = select(users.c.id).where(users.c.email == email)
                if transaction.execute(query).one_or_none() is not None:
                    raise AlreadyExists("user", email)
                remove_links(transaction, "invitation", email)
                code = _insert(transaction, "invitation", email, role, at=at, by=by)
                subject, after = f"user:{email}", {"role": role}
                record_change(transaction, "invite", subject, at=at, by=by, after=after)
        except IntegrityError:  # somebody else invited them in this moment
            raise AlreadyExists("invitation", email) from None
        return code

    def invitations(self) -> list[OneTimeLink]:
        """Read all invitations that nobody has taken yet, also those whose link has ended."""
        query = select(one_time_links).where(one_time_links.c.purpose == "invitation")
        with self._database.reading() as transaction:
            rows = transaction.execute(query.order_by(one_time_links.c.email))
            return [_link(row) for row in rows]

    def renew_invitation(self, number: int, *, at: float) -> str:
        """Return the new code of an invitation; the one until now ends.

        Raises:
            NotFound: nobody is invited by this number.
        """
        code = _new_code()
        values = {"digest": _digest(code), "expires_at": at + VALID_SECONDS["invitation"]}
        invited = (one_time_links.c.id == number) & (one_time_links.c.purpose == "invitation")
        query = update(one_time_links).where(invited).values(values)
        with self._database.writing() as transaction:
            if not transaction.execute(query.returning(one_time_links.c.id)).all():
                raise NotFound("invitation", str(number))
        return code

    def withdraw_invitation(self, number: int, *, at: float, by: str) -> str:
        """End an invitation; return its address.

        Raises:
            NotFound: nobody is invited by this number.
        """
        invited = (one_time_links.c.id == number) & (one_time_links.c.purpose == "invitation")
        query = delete(one_time_links).where(invited).returning(one_time_links.c.email)
        with self._database.writing() as transaction:
            email = transaction.execute(query).scalar_one_or_none()
            if email is None:
                raise NotFound("invitation", str(number))
            record_change(transaction, "withdraw invitation", f"user:{email}", at=at, by=by)
        return str(email)

    def create_reset(self, email: str, *, at: float, by: str) -> str:
        """Return the code of a link by which a user sets a new password; earlier ones end.

        Raises:
            NotFound: no user has this address.
        """
        email = _folded(email)
        with self._database.writing() as transaction:
            query = select(users.c.id).where(users.c.email == email).with_for_update()
            if transaction.execute(query).one_or_none() is None:
                raise NotFound("user", email)
            remove_links(transaction, "reset", email)
            code = _insert(transaction, "reset", email, at=at, by=by)
            record_change(transaction, "make reset link", f"user:{email}", at=at, by=by)
        return code

    def find(self, purpose: Purpose, code: str, *, at: float) -> OneTimeLink:
        """Find the link of a code.

        Raises:
            NotFound: it was used, has ended, or never was.
        """
        with self._database.reading() as transaction:
            row = transaction.execute(select(one_time_links).where(*_of(purpose, code, at)))
            link = row.one_or_none()
        if link is None:
            raise NotFound("link", "…")
        return _link(link)


def take_set_up(transaction: Transaction, code: str, at: float) -> None:
    """Use a set-up link up, and every other one: of any two that are used at once, one is.

    Raises:
        NotFound: it was used, has ended, or never was; or somebody has an account already.
    """
    query = delete(one_time_links).where(one_time_links.c.purpose == "set-up")
    rows = transaction.execute(
        query.returning(one_time_links.c.digest, one_time_links.c.expires_at)
    ).all()
    digest = _digest(code)
    valid = any(bytes(row.digest) == digest and at < row.expires_at for row in rows)
    somebody = transaction.execute(select(users.c.id).limit(1)).one_or_none()
    if not valid or somebody is not None:
        raise NotFound("link", "…")


def take_link(transaction: Transaction, purpose: Purpose, code: str, at: float) -> OneTimeLink:
    """Use a link up, in the transaction of what it allows.

    Raises:
        NotFound: it was used, has ended, or never was.
    """
    query = delete(one_time_links).where(*_of(purpose, code, at)).returning(one_time_links)
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise NotFound("link", "…")
    return _link(row)


def remove_links(transaction: Transaction, purpose: Purpose, email: str | None = None) -> None:
    """End the links of a purpose, of all addresses or of one."""
    query = delete(one_time_links).where(one_time_links.c.purpose == purpose)
    if email is not None:
        query = query.where(one_time_links.c.email == email)
    transaction.execute(query)


def remove_links_by(transaction: Transaction, author: str) -> None:
    """End the invitations and other links that somebody made who may not any more."""
    transaction.execute(delete(one_time_links).where(one_time_links.c.created_by == author))


def _insert(  # noqa: PLR0913 - a row's columns
    transaction: Transaction,
    purpose: Purpose,
    email: str | None = None,
    role: Role | None = None,
    *,
    at: float,
    by: str,
) -> str:
    code = _new_code()
    row = {
        "purpose": purpose,
        "digest": _digest(code),
        "email": email,
        "role": role,
        "created_at": at,
        "created_by": by,
        "expires_at": at + VALID_SECONDS[purpose],
    }
    transaction.execute(insert(one_time_links).values(row))
    return code


def _of(purpose: Purpose, code: str, at: float) -> tuple[ColumnElement[bool], ...]:
    columns = one_time_links.c
    return (
        columns.purpose == purpose,
        columns.digest == _digest(code),
        columns.expires_at > at,
    )


def _new_code() -> str:
    return secrets.token_urlsafe(_CODE_BYTES)


def _digest(code: str) -> bytes:
    return sha256(code.encode(errors="surrogatepass")).digest()


def _folded(email: str) -> str:
    return email.strip().casefold()


def _link(row: NamedRow) -> OneTimeLink:
    return OneTimeLink(
        row.id,
        row.purpose,
        row.email,
        row.role,
        row.created_at,
        row.created_by,
        row.expires_at,
    )

"""Users: people who sign in, with their roles and their password hashes.

Passwords arrive hashed; the caller hashes them.
"""

from collections.abc import Mapping

from msgspec import Struct
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, NotFound
from storage.accounts.api_keys import ApiKeyStore, end_or_hand_over
from storage.accounts.idempotency_keys import IdempotencyKeyStore
from storage.accounts.identities import (
    Identity,
    IdentityStore,
    insert_identity,
    remove_identities,
)
from storage.accounts.one_time_links import (
    OneTimeLinkStore,
    remove_links,
    remove_links_by,
    take_link,
    take_set_up,
)
from storage.accounts.roles import Role
from storage.accounts.sessions import SessionStore, end_all
from storage.audit_log import (
    NO_FILTER,
    AuditEntry,
    AuditFilter,
    authors,
    read_changes,
    record_change,
)
from storage.databases import Database, NamedRow, Transaction
from storage.schema import alert_choices, users

_ANONYMOUS = "anonymous"  # who may be anybody
_SET_UP = "set-up link"


class User(Struct, frozen=True):
    """Person who signs in.

    Attributes:
        password_hash: empty for a person who signs in by a provider alone.
        must_change_password: somebody else set it.
        totp_secret: of the second factor, in base 32; None without one.
    """

    id: int
    email: str
    password_hash: str
    role: Role
    created_at: float
    must_change_password: bool = False
    totp_secret: str | None = None


class AccountStore:
    """Users, sessions, API keys, idempotency keys and the audit log of one database.

    Times are seconds since 1970; `by` is the author. Any method may raise `Unavailable`.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`; `SqlStore.accounts` is one."""
        self._database = database
        self.keys = ApiKeyStore(database)
        self.sessions = SessionStore(database)
        self.identities = IdentityStore(database)
        self.links = OneTimeLinkStore(database)
        self.idempotency_keys = IdempotencyKeyStore(database)

    def add_user(  # noqa: PLR0913 - the fields of a user
        self,
        email: str,
        password_hash: str,
        role: Role,
        *,
        at: float,
        by: str,
        must_change: bool = False,
        identity: Identity | None = None,
    ) -> User:
        """Add a user; addresses are compared without regard to case.

        Args:
            email: address.
            password_hash: of the password, hashed by the caller; empty for none.
            role: what they may do.
            at: now.
            by: author.
            must_change: somebody else set the password, so the user has to replace it.
            identity: by which they sign in.

        Raises:
            AlreadyExists: the address or the identity is taken.
        """
        email = _folded(email)
        row = {
            "email": email,
            "password_hash": password_hash,
            "role": role,
            "created_at": at,
            "must_change_password": int(must_change),
        }
        try:
            with self._database.writing() as transaction:
                number = _insert_user(transaction, row)
                after: dict[str, str] = {"role": role}
                if identity is not None:
                    insert_identity(transaction, number, identity, at)
                    after["provider"] = identity.issuer
                record_change(transaction, "add", f"user:{email}", at=at, by=by, after=after)
        except IntegrityError:
            raise AlreadyExists("user", email) from None
        return User(number, email, password_hash, role, at, must_change)

    def add_first_user(self, code: str, email: str, password_hash: str, *, at: float) -> User:
        """Add the first user, an admin, by the set-up link, which is used up.

        Raises:
            NotFound: the link was used, has ended, or never was; or somebody is there already.
        """
        email = _folded(email)
        with self._database.writing() as transaction:
            take_set_up(transaction, code, at)
            return _add(transaction, email, password_hash, "admin", at=at, by=_SET_UP)

    def accept_invitation(self, code: str, password_hash: str, *, at: float) -> User:
        """Add the user whom an invitation is for, with the role that it gives.

        Raises:
            NotFound: the invitation was used or withdrawn, has ended, or never was.
            AlreadyExists: the address has an account meanwhile.
        """
        email = ""
        try:
            with self._database.writing() as transaction:
                link = take_link(transaction, "invitation", code, at)
                email, role = link.email or "", link.role or "viewer"
                return _add(transaction, email, password_hash, role, at=at, by=email)
        except IntegrityError:
            raise AlreadyExists("user", email) from None

    def reset_password(self, code: str, password_hash: str, *, at: float) -> str:
        """Replace the password of the user whom a reset link is for; return their address.

        All their sessions end.

        Raises:
            NotFound: the link was used, has ended, or never was.
        """
        values: dict[str, str | int | None] = {
            "password_hash": password_hash,
            "must_change_password": 0,
        }
        with self._database.writing() as transaction:
            email = take_link(transaction, "reset", code, at).email or ""
            _change(transaction, email, values, "reset password", at=at, by=email)
        return email

    def user(self, email: str) -> User:
        """Read a user.

        Raises:
            NotFound: no user has this address.
        """
        email = _folded(email)
        with self._database.reading() as transaction:
            row = transaction.execute(select(users).where(users.c.email == email)).one_or_none()
        if row is None:
            raise NotFound("user", email)
        return _user(row)

    def user_by_id(self, user_id: int) -> User:
        """Read a user by number, as a session has it.

        Raises:
            NotFound: there is none.
        """
        with self._database.reading() as transaction:
            row = transaction.execute(select(users).where(users.c.id == user_id)).one_or_none()
        if row is None:
            raise NotFound("user", str(user_id))
        return _user(row)

    def users(self) -> list[User]:
        """Read all users, by address."""
        with self._database.reading() as transaction:
            return [_user(r) for r in transaction.execute(select(users).order_by(users.c.email))]

    def set_password(
        self, email: str, password_hash: str, *, at: float, by: str, must_change: bool = False
    ) -> None:
        """Replace a user's password, and end all their sessions.

        Args:
            email: address of the user.
            password_hash: of the new password.
            at: now.
            by: author.
            must_change: somebody else set the password, so the user has to replace it.

        Raises:
            NotFound: no user has this address.
        """
        values: dict[str, str | int | None] = {
            "password_hash": password_hash,
            "must_change_password": int(must_change),
        }
        self._change_user(email, values, "set password", at=at, by=by)

    def set_totp(self, email: str, secret: str | None, *, at: float, by: str) -> None:
        """Turn on a second factor with its secret, or turn it off.

        Raises:
            NotFound: no user has this address.
        """
        values: dict[str, str | int | None] = {"totp_secret": secret, "totp_step": None}
        if secret is None:
            self._change_user(email, values, "turn off codes", at=at, by=by)
        else:
            self._change_user(email, values, "turn on codes", at=at, by=by)

    def take_totp_step(self, user_id: int, step: int) -> bool:
        """Note that a code of this period was taken; False if it or a later one was before."""
        unused = users.c.totp_step.is_(None) | (users.c.totp_step < step)
        query = update(users).where(users.c.id == user_id, unused).values(totp_step=step)
        with self._database.writing() as transaction:
            return len(transaction.execute(query.returning(users.c.id)).all()) == 1

    def record_sign_in(
        self, email: str, address: str, *, at: float, provider: str | None = None
    ) -> None:
        """Note in the audit log that a user signed in from an address, and by which provider."""
        by, after = _folded(email), {"address": address}
        if provider is not None:
            after["provider"] = provider
        with self._database.writing() as transaction:
            record_change(transaction, "sign in", f"user:{by}", at=at, by=by, after=after)

    def record_failed_sign_in(self, email: str, address: str, reason: str, *, at: float) -> None:
        """Note in the audit log that somebody failed to sign in as a user, and why."""
        subject, after = f"user:{_folded(email)}", {"address": address, "reason": reason}
        with self._database.writing() as transaction:
            record_change(
                transaction, "fail to sign in", subject, at=at, by=_ANONYMOUS, after=after
            )

    def rehash(self, email: str, password_hash: str) -> None:
        """Store another hash of the same password, which the audit log does not record."""
        query = update(users).where(users.c.email == _folded(email))
        with self._database.writing() as transaction:
            transaction.execute(query.values(password_hash=password_hash))

    def set_role(self, email: str, role: Role, *, at: float, by: str) -> None:
        """Replace a user's role; their API keys may do no more than that from now on.

        Raises:
            NotFound: no user has this address.
        """
        self._change_user(email, {"role": role}, "set role", at=at, by=by)
        self.keys.forget()

    def _change_user(
        self,
        email: str,
        values: Mapping[str, str | int | None],
        action: str,
        *,
        at: float,
        by: str,
    ) -> None:
        with self._database.writing() as transaction:
            _change(transaction, _folded(email), values, action, at=at, by=by)

    def remove_user(self, email: str, *, at: float, by: str, heir: str | None = None) -> None:
        """Remove a user; their changes stay in the audit log, and their API keys end.

        Args:
            email: address of the user.
            at: now.
            by: author.
            heir: address of the person who is given their keys instead.

        Raises:
            NotFound: no user has this address.
        """
        email = _folded(email)
        with self._database.writing() as transaction:
            query = select(users).where(users.c.email == email).with_for_update()
            row = transaction.execute(query).one_or_none()
            if row is None:
                raise NotFound("user", email)
            end_all(transaction, row.id)
            remove_identities(transaction, row.id)
            remove_links(transaction, "reset", email)
            remove_links_by(transaction, email)
            transaction.execute(delete(alert_choices).where(alert_choices.c.user_id == row.id))
            transaction.execute(delete(users).where(users.c.id == row.id))
            end_or_hand_over(transaction, email, heir, at=at, by=by)
            record_change(
                transaction, "remove", f"user:{email}", at=at, by=by, before={"role": row.role}
            )
        self.keys.forget()

    def changes(
        self,
        *,
        subject: str | None = None,
        filters: AuditFilter = NO_FILTER,
        before_id: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Read entries of the audit log, the newest first.

        Args:
            subject: only entries of this: ``experiment:KEY``, ``user:EMAIL`` or ``key:ID``.
            filters: only entries that match.
            before_id: only entries before this one, to read on.
            limit: number of entries at most.
        """
        with self._database.reading() as transaction:
            return read_changes(
                transaction, filters, subject=subject, before_id=before_id, limit=limit
            )

    def authors(self) -> list[str]:
        """List all authors of changes, as the audit log names them."""
        with self._database.reading() as transaction:
            return authors(transaction)


def _insert_user(transaction: Transaction, row: Mapping[str, object]) -> int:
    query = insert(users).values(row).returning(users.c.id)
    return int(transaction.execute(query).scalar_one())


def _add(  # noqa: PLR0913 - the fields of a user
    transaction: Transaction, email: str, password_hash: str, role: Role, *, at: float, by: str
) -> User:
    """Add a user whom a one-time link allows; `email` is folded."""
    row = {"email": email, "password_hash": password_hash, "role": role, "created_at": at}
    number = _insert_user(transaction, row)
    record_change(transaction, "add", f"user:{email}", at=at, by=by, after={"role": role})
    return User(number, email, password_hash, role, at)


def _change(  # noqa: PLR0913 - who, what and when
    transaction: Transaction,
    email: str,
    values: Mapping[str, str | int | None],
    action: str,
    *,
    at: float,
    by: str,
) -> None:
    """Change a user's columns; what rested on the ones before ends.

    Raises:
        NotFound: no user has this address.
    """
    query = select(users).where(users.c.email == email).with_for_update()
    row = transaction.execute(query).one_or_none()
    if row is None:
        raise NotFound("user", email)
    transaction.execute(update(users).where(users.c.email == email).values(values))
    if "password_hash" in values:
        end_all(transaction, row.id)
        remove_links(transaction, "reset", email)
    if values.get("role", "admin") != "admin":
        remove_links_by(transaction, email)
    names = {"role"} & set(values)  # hashes stay out of the audit log
    before = {name: getattr(row, name) for name in names} or None
    after = {name: values[name] for name in names} or None
    record_change(transaction, action, f"user:{email}", at=at, by=by, before=before, after=after)


def _folded(email: str) -> str:
    return email.strip().casefold()


def _user(row: NamedRow) -> User:
    return User(
        row.id,
        row.email,
        row.password_hash,
        row.role,
        row.created_at,
        bool(row.must_change_password),
        row.totp_secret,
    )

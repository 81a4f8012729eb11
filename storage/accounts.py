"""Who may do what: people who sign in, API keys, and the log of what they changed.

Passwords arrive hashed: how to hash them is the caller's business. API keys are random, so a plain
hash of them is enough; it alone is stored.
"""

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

from msgspec import Struct
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, Conflict, NotFound, Unavailable
from storage.changes import EVERYTHING, Change, Sought, authors, note, read_changes
from storage.databases import Database, Found, Transaction
from storage.sessions import Sessions, end_every
from storage.tables import api_keys, users

Role = Literal["viewer", "manager", "admin"]
Scope = Literal["choose", "reward", "manage", "read"]

TOKEN_PREFIX = "bandits_"  # noqa: S105 - recognisable, for people and for secret scanners
_SELECTOR_BYTES = 6
_TOO_LARGE = 2**63  # for a column; nothing has such a number
_SECRET_BYTES = 32
_FOUND_SECONDS = 1.0  # how long a key may be used that another process has revoked
_COARSE_SECONDS = 300.0  # how exactly a key's last use is known: each note of it is a write


class User(Struct, frozen=True):
    """A person who signs in."""

    id: int
    email: str
    password_hash: str
    role: Role
    created_at: float


class ApiKey(Struct, frozen=True):
    """A key that programs use.

    Attributes:
        id: what to revoke it by.
        name: what it is for, in its maker's words.
        start: how its token begins, to recognise it by.
        scopes: what it may do.
        last_used_at: to within five minutes; None if never.
        revoked_at: since when it is refused; None while it works.
        previous_until: until when the token before the last rotation works too.
    """

    id: int
    name: str
    start: str
    scopes: tuple[Scope, ...]
    created_at: float
    created_by: str
    last_used_at: float | None = None
    revoked_at: float | None = None
    previous_until: float | None = None


class NewKey(Struct, frozen=True):
    """A key just made, and its token, which nobody can ask for again."""

    key: ApiKey
    token: str


class Accounts:
    """People, keys and the audit log of one database.

    Times are seconds since 1970; `by` names who does it. Any method may raise `Unavailable`.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`; `SqlStore.accounts` makes one."""
        self._database = database
        self._found: dict[bytes, tuple[float, ApiKey]] = {}  # by digest, with when it was read
        self.sessions = Sessions(database)

    # People

    def add_user(self, email: str, password_hash: str, role: Role, *, at: float, by: str) -> User:
        """Add a person; addresses are compared without regard to case.

        Raises:
            AlreadyExists: the address is taken.
        """
        email = _folded(email)
        row = {"email": email, "password_hash": password_hash, "role": role, "created_at": at}
        try:
            with self._database.writing() as transaction:
                query = insert(users).values(row).returning(users.c.id)
                number = transaction.execute(query).scalar_one()
                note(transaction, "add", f"user:{email}", at=at, by=by, after={"role": role})
        except IntegrityError:
            raise AlreadyExists("user", email) from None
        return User(number, email, password_hash, role, at)

    def user(self, email: str) -> User:
        """Read a person.

        Raises:
            NotFound: nobody has this address.
        """
        email = _folded(email)
        with self._database.reading() as transaction:
            row = transaction.execute(select(users).where(users.c.email == email)).one_or_none()
        if row is None:
            raise NotFound("user", email)
        return _user(row)

    def user_by_id(self, user_id: int) -> User:
        """Read a person by number, as a session remembers them.

        Raises:
            NotFound: there is none.
        """
        with self._database.reading() as transaction:
            row = transaction.execute(select(users).where(users.c.id == user_id)).one_or_none()
        if row is None:
            raise NotFound("user", str(user_id))
        return _user(row)

    def users(self) -> list[User]:
        """Read everybody, by address."""
        with self._database.reading() as transaction:
            return [_user(r) for r in transaction.execute(select(users).order_by(users.c.email))]

    def set_password(self, email: str, password_hash: str, *, at: float, by: str) -> None:
        """Replace a person's password, and sign them out everywhere.

        Raises:
            NotFound: nobody has this address.
        """
        self._change_user(email, {"password_hash": password_hash}, "set password", at=at, by=by)

    def rehash(self, email: str, password_hash: str) -> None:
        """Store another hash of the same password: nothing that anybody would call a change."""
        mine = update(users).where(users.c.email == _folded(email))
        with self._database.writing() as transaction:
            transaction.execute(mine.values(password_hash=password_hash))

    def set_role(self, email: str, role: Role, *, at: float, by: str) -> None:
        """Replace a person's role.

        Raises:
            NotFound: nobody has this address.
        """
        self._change_user(email, {"role": role}, "set role", at=at, by=by)

    def _change_user(
        self, email: str, values: dict[str, str], action: str, *, at: float, by: str
    ) -> None:
        email = _folded(email)
        with self._database.writing() as transaction:
            query = select(users).where(users.c.email == email).with_for_update()
            row = transaction.execute(query).one_or_none()
            if row is None:
                raise NotFound("user", email)
            transaction.execute(update(users).where(users.c.email == email).values(values))
            if "password_hash" in values:
                end_every(transaction, row.id)
            told = {"role"} & set(values)  # a hash is nobody's business
            before = {k: getattr(row, k) for k in told} or None
            after = {k: values[k] for k in told} or None
            note(transaction, action, f"user:{email}", at=at, by=by, before=before, after=after)

    def remove_user(self, email: str, *, at: float, by: str) -> None:
        """Remove a person; what they did stays in the audit log.

        Raises:
            NotFound: nobody has this address.
        """
        email = _folded(email)
        with self._database.writing() as transaction:
            query = select(users).where(users.c.email == email).with_for_update()
            row = transaction.execute(query).one_or_none()
            if row is None:
                raise NotFound("user", email)
            end_every(transaction, row.id)
            transaction.execute(delete(users).where(users.c.id == row.id))
            note(transaction, "remove", f"user:{email}", at=at, by=by, before={"role": row.role})

    # API keys

    def create_key(self, name: str, scopes: Sequence[Scope], *, at: float, by: str) -> NewKey:
        """Make a key. Its token is in the answer and nowhere else."""
        selector, token = _new_token()
        ordered = tuple(dict.fromkeys(scopes))
        row = {
            "name": name,
            "selector": selector,
            "digest": _digest(token),
            "scopes": " ".join(ordered),
            "created_at": at,
            "created_by": by,
        }
        with self._database.writing() as transaction:
            query = insert(api_keys).values(row).returning(api_keys.c.id)
            number = transaction.execute(query).scalar_one()
            after = {"name": name, "scopes": ordered}
            note(transaction, "create", f"key:{number}", at=at, by=by, after=after)
        return NewKey(ApiKey(number, name, TOKEN_PREFIX + selector, ordered, at, by), token)

    def find_key(self, token: str, *, at: float) -> ApiKey:
        """Find the key that `token` is of, and note that it is used.

        The token's digest is compared in constant time. A key that was found is not looked up
        again for a second; what is revoked through this object is refused at once.

        Raises:
            NotFound: there is none, or it is revoked.
        """
        digest = _digest(token)
        found = self._found
        if digest in found and 0 <= at - found[digest][0] < _FOUND_SECONDS:
            return found[digest][1]
        selector = token.removeprefix(TOKEN_PREFIX).partition("_")[0]
        with self._database.reading() as transaction:
            either = or_(api_keys.c.selector == selector, api_keys.c.previous_selector == selector)
            plausible = selector.isascii() and selector.isalnum()
            query = select(api_keys).where(either)
            row = transaction.execute(query).one_or_none() if plausible else None
        right = hmac.compare_digest(_known(row, selector, at), digest)
        if row is None or not right or row.revoked_at is not None:
            raise NotFound("API key", f"{TOKEN_PREFIX}…")
        if row.last_used_at is None or at - row.last_used_at >= _COARSE_SECONDS:
            self._touch(row.id, at)
        key = _key(row)
        found[digest] = (at, key)
        return key

    def _touch(self, key_id: int, at: float) -> None:
        query = update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at)
        try:
            with self._database.writing() as transaction:
                transaction.execute(query)
        except Unavailable:
            pass  # a busy database must not refuse a good key

    def keys(self) -> list[ApiKey]:
        """Read every key, the newest first."""
        with self._database.reading() as transaction:
            query = select(api_keys).order_by(api_keys.c.id.desc())
            return [_key(row) for row in transaction.execute(query)]

    def rotate_key(self, key_id: int, *, grace_seconds: float, at: float, by: str) -> NewKey:
        """Give a key a new token; the one until now works for `grace_seconds` more.

        Only two tokens ever work: one that was still in its grace from an earlier rotation ends.

        Raises:
            NotFound: there is no such key.
            Conflict: it is revoked.
        """
        selector, token = _new_token()
        with self._database.writing() as transaction:
            row = _locked(transaction, key_id)
            if row.revoked_at is not None:
                raise Conflict(f"API key {key_id} is revoked")
            values = {
                "selector": selector,
                "digest": _digest(token),
                "previous_selector": row.selector,
                "previous_digest": row.digest,
                "previous_until": at + grace_seconds,
            }
            mine = update(api_keys).where(api_keys.c.id == key_id)
            transaction.execute(mine.values(values))
            after = {"name": row.name, "grace_seconds": grace_seconds}
            note(transaction, "rotate", f"key:{key_id}", at=at, by=by, after=after)
            made = transaction.execute(select(api_keys).where(api_keys.c.id == key_id)).one()
        self._found = {}  # as when a key is revoked
        return NewKey(_key(made), token)

    def revoke_key(self, key_id: int, *, at: float, by: str) -> None:
        """Refuse a key from now on; doing it again changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.writing() as transaction:
            row = _locked(transaction, key_id)
            if row.revoked_at is not None:
                return
            mine = update(api_keys).where(api_keys.c.id == key_id)
            transaction.execute(mine.values(revoked_at=at))
            note(transaction, "revoke", f"key:{key_id}", at=at, by=by, before={"name": row.name})
        self._found = {}  # another one: who is looking a key up right now writes to the old

    # The audit log

    def changes(
        self,
        *,
        subject: str | None = None,
        sought: Sought = EVERYTHING,
        before_id: int | None = None,
        limit: int = 100,
    ) -> list[Change]:
        """Read what was changed, the newest first.

        Args:
            subject: only of this: ``experiment:KEY``, ``user:EMAIL`` or ``key:ID``.
            sought: only what fits this.
            before_id: only entries before this one, to read on.
            limit: how many at most.
        """
        with self._database.reading() as transaction:
            return read_changes(
                transaction, sought, subject=subject, before_id=before_id, limit=limit
            )

    def authors(self) -> list[str]:
        """List who ever changed something, as the audit log calls them."""
        with self._database.reading() as transaction:
            return authors(transaction)


def _folded(email: str) -> str:
    return email.strip().casefold()


def _new_token() -> tuple[str, str]:
    """Make a token, and the part of it that finds its key."""
    selector = secrets.token_hex(_SELECTOR_BYTES)
    return selector, f"{TOKEN_PREFIX}{selector}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def _known(row: Found | None, selector: str, at: float) -> bytes:
    """Return the digest that a token with this selector must have, empty where none would do."""
    if row is None:
        return b""
    if row.selector == selector:
        return bytes(row.digest)
    return bytes(row.previous_digest) if at < row.previous_until else b""


def _locked(transaction: Transaction, key_id: int) -> Found:
    """Read a key's row, to change it.

    Raises:
        NotFound: there is no such key.
    """
    query = select(api_keys).where(api_keys.c.id == key_id).with_for_update()
    row = transaction.execute(query).one_or_none() if key_id < _TOO_LARGE else None
    if row is None:
        raise NotFound("API key", str(key_id))
    return row


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()


def _user(row: Found) -> User:
    return User(row.id, row.email, row.password_hash, row.role, row.created_at)


def _key(row: Found) -> ApiKey:
    return ApiKey(
        row.id,
        row.name,
        TOKEN_PREFIX + row.selector,
        tuple(row.scopes.split()),
        row.created_at,
        row.created_by,
        row.last_used_at,
        row.revoked_at,
        row.previous_until,
    )

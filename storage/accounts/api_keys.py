"""API keys: random tokens by which programs are authenticated.

Only a hash is stored; a plain one is enough for a random token.
"""

import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import insert, or_, select, update

from bandits.actors import Actor
from bandits.errors import Conflict, InvalidInput, NotFound, Unavailable
from storage.accounts.roles import RANKS, SCOPE_ROLES, Role, Scope, includes
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction
from storage.schema import api_keys, users

KeyName = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]{1,100}\Z",
        description="what the key is for: 1 to 100 characters, none of them a control character",
    ),
]
RowsPerMinute = Annotated[int, Meta(ge=1, le=2_147_483_647)]

TOKEN_PREFIX = "bandits_"  # noqa: S105 - recognisable, for people and for secret scanners
_SELECTOR_BYTES = 6
_TOO_LARGE = 2**63  # for a column; nothing has such a number
_SECRET_BYTES = 32
_RECENT_SECONDS = 1.0  # for so long a key works that another process has revoked
_COARSE_SECONDS = 300.0  # precision of the last use: each note of it is a write
_ROLE = select(users.c.role).where(users.c.email == api_keys.c.owner).scalar_subquery()
_KEYS = select(api_keys, _ROLE.label("owner_role"))


class ApiKey(Struct, frozen=True):
    """Key of a program.

    Attributes:
        id: number by which it is revoked.
        name: purpose, in its maker's words.
        start: first characters of its token, to recognise it by.
        scopes: operations that it allows.
        last_used_at: to within five minutes; None if never.
        revoked_at: start of its refusal; None while it works.
        previous_until: end of the grace in which the token before the last rotation works too.
        owner: address of the person that it ends with; None if it ends with nobody.
        rows_per_minute: that it may send to a web worker; None for the server's default.
        dry_run: its calls are answered, and nothing of them is recorded.
        role: of its owner as of now, which it may do no more than; admin where it has none, as
            those of the command line, whose users have the database.
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
    owner: str | None = None
    rows_per_minute: int | None = None
    dry_run: bool = False
    role: Role = "admin"

    @property
    def actor(self) -> Actor:
        """The key as the log and the audit log name it."""
        return Actor(f"key:{self.id}")

    def may(self, needed: Role) -> bool:
        """Return true where its owner's role is `needed`, or a higher one."""
        return RANKS[self.role] >= RANKS[needed]

    @property
    def idle_scopes(self) -> tuple[Scope, ...]:
        """Scopes that it cannot use, since its owner's role is too low by now."""
        return tuple(s for s in self.scopes if not self.may(SCOPE_ROLES[s]))

    def exceeds(self, role: Role) -> bool:
        """Return true where it may do what people of a role may not."""
        # Of what one scope opens, `manage` alone takes more than one role.
        usable = set(self.scopes) - set(self.idle_scopes)
        return any(
            not includes(role, self.role if scope == "manage" else SCOPE_ROLES[scope])
            for scope in usable
        )


class NewKey(Struct, frozen=True):
    """New key with its token, which is not stored."""

    key: ApiKey
    token: str


class ApiKeyStore:
    """API keys of one database.

    Times are seconds since 1970; `by` is the author. Any method may raise `Unavailable`.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`; `AccountStore.keys` is one."""
        self._database = database
        self._recent: dict[bytes, tuple[float, ApiKey]] = {}  # by digest, with the time of reading

    def create(  # noqa: PLR0913 - a row's columns
        self,
        name: str,
        scopes: Sequence[Scope],
        *,
        at: float,
        by: str,
        owner: str | None = None,
        rows_per_minute: int | None = None,
        dry_run: bool = False,
    ) -> NewKey:
        """Create a key. Its token is in the result and nowhere else.

        Args:
            name: what it is for.
            scopes: what it allows.
            at: now.
            by: author.
            owner: the person that it ends with.
            rows_per_minute: limit of its own.
            dry_run: nothing of its calls is recorded.

        Raises:
            InvalidInput: at ``/scopes``: a key that records nothing may not manage.
        """
        if dry_run and "manage" in scopes:
            raise InvalidInput.at("/scopes", "must not hold manage, since nothing is recorded")
        selector, token = _new_token()
        ordered = tuple(dict.fromkeys(scopes))
        row = {
            "name": name,
            "selector": selector,
            "digest": _digest(token),
            "scopes": " ".join(ordered),
            "created_at": at,
            "created_by": by,
            "owner": owner,
            "rows_per_minute": rows_per_minute,
            "dry_run": dry_run,
        }
        with self._database.writing() as transaction:
            query = insert(api_keys).values(row).returning(api_keys.c.id)
            number = transaction.execute(query).scalar_one()
            after: dict[str, object] = {"name": name, "scopes": ordered}
            if rows_per_minute is not None:
                after["rows_per_minute"] = rows_per_minute
            if dry_run:
                after["dry_run"] = True
            record_change(transaction, "create", f"key:{number}", at=at, by=by, after=after)
            row_with_role = transaction.execute(_KEYS.where(api_keys.c.id == number)).one()
        return NewKey(_key(row_with_role), token)

    def find(self, token: str, *, at: float) -> ApiKey:
        """Find the key of `token`, and note its use.

        The token's digest is compared in constant time. A key is not read again within a second;
        one that is revoked through this object is refused at once.

        Raises:
            NotFound: there is none, or it is revoked.
        """
        digest = _digest(token)
        recent = self._recent
        if digest in recent and 0 <= at - recent[digest][0] < _RECENT_SECONDS:
            return recent[digest][1]
        selector = token.removeprefix(TOKEN_PREFIX).partition("_")[0]
        with self._database.reading() as transaction:
            either = or_(api_keys.c.selector == selector, api_keys.c.previous_selector == selector)
            plausible = selector.isascii() and selector.isalnum()
            query = _KEYS.where(either)
            row = transaction.execute(query).one_or_none() if plausible else None
        right = hmac.compare_digest(_expected_digest(row, selector, at), digest)
        if row is None or not right or row.revoked_at is not None:
            raise NotFound("API key", f"{TOKEN_PREFIX}…")
        if row.last_used_at is None or at - row.last_used_at >= _COARSE_SECONDS:
            self._touch(row.id, at)
        key = _key(row)
        recent[digest] = (at, key)
        return key

    def _touch(self, key_id: int, at: float) -> None:
        query = update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at)
        try:
            with self._database.writing() as transaction:
                transaction.execute(query)
        except Unavailable:
            pass  # a busy database must not refuse a good key

    def all(self) -> list[ApiKey]:
        """Read every key, the newest first."""
        with self._database.reading() as transaction:
            query = _KEYS.order_by(api_keys.c.id.desc())
            return [_key(row) for row in transaction.execute(query)]

    def rotate(self, key_id: int, *, grace_seconds: float, at: float, by: str) -> NewKey:
        """Give a key a new token; the one until now works for `grace_seconds` more.

        Only two tokens ever work: one that was still in its grace from an earlier rotation ends.

        Raises:
            NotFound: there is no such key.
            Conflict: it is revoked.
        """
        selector, token = _new_token()
        with self._database.writing() as transaction:
            row = _read_to_change(transaction, key_id)
            if row.revoked_at is not None:
                raise Conflict(f"API key {key_id} is revoked")
            values = {
                "selector": selector,
                "digest": _digest(token),
                "previous_selector": row.selector,
                "previous_digest": row.digest,
                "previous_until": at + grace_seconds,
            }
            query = update(api_keys).where(api_keys.c.id == key_id)
            transaction.execute(query.values(values))
            after = {"name": row.name, "grace_seconds": grace_seconds}
            record_change(transaction, "rotate", f"key:{key_id}", at=at, by=by, after=after)
            rotated = transaction.execute(_KEYS.where(api_keys.c.id == key_id)).one()
        self._recent = {}  # as when a key is revoked
        return NewKey(_key(rotated), token)

    def limit(self, key_id: int, rows_per_minute: int | None, *, at: float, by: str) -> ApiKey:
        """Set how many rows a key may send in a minute, None for the server's default.

        Raises:
            NotFound: there is no such key.
            Conflict: it is revoked.
        """
        with self._database.writing() as transaction:
            row = _read_to_change(transaction, key_id)
            if row.revoked_at is not None:
                raise Conflict(f"API key {key_id} is revoked")
            query = update(api_keys).where(api_keys.c.id == key_id)
            transaction.execute(query.values(rows_per_minute=rows_per_minute))
            before = {"name": row.name, "rows_per_minute": row.rows_per_minute}
            after = {"name": row.name, "rows_per_minute": rows_per_minute}
            record_change(
                transaction, "limit", f"key:{key_id}", at=at, by=by, before=before, after=after
            )
            limited = transaction.execute(_KEYS.where(api_keys.c.id == key_id)).one()
        self._recent = {}  # as when a key is revoked
        return _key(limited)

    def revoke(self, key_id: int, *, at: float, by: str) -> None:
        """Refuse a key from now on; doing it again changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.writing() as transaction:
            row = _read_to_change(transaction, key_id)
            if row.revoked_at is not None:
                return
            query = update(api_keys).where(api_keys.c.id == key_id)
            transaction.execute(query.values(revoked_at=at))
            record_change(
                transaction, "revoke", f"key:{key_id}", at=at, by=by, before={"name": row.name}
            )
        self._recent = {}  # another one: a thread that reads a key right now writes to the old

    def forget(self) -> None:
        """Read every key again when it is used next."""
        self._recent = {}


def end_or_hand_over(
    transaction: Transaction, owner: str, heir: str | None, *, at: float, by: str
) -> None:
    """Revoke the keys of a person, or make them another's, in the transaction that removes them."""
    query = select(api_keys.c.id, api_keys.c.name)
    working = (api_keys.c.owner == owner) & api_keys.c.revoked_at.is_(None)
    for key_id, name in transaction.execute(query.where(working).with_for_update()).all():
        before = {"name": name, "owner": owner}
        key = update(api_keys).where(api_keys.c.id == key_id)
        if heir is None:
            transaction.execute(key.values(revoked_at=at))
            record_change(transaction, "revoke", f"key:{key_id}", at=at, by=by, before=before)
            continue
        transaction.execute(key.values(owner=heir))
        after = {"name": name, "owner": heir}
        record_change(
            transaction, "hand over", f"key:{key_id}", at=at, by=by, before=before, after=after
        )


def _new_token() -> tuple[str, str]:
    """Return a new selector, by which the key is found, and a token with it."""
    selector = secrets.token_hex(_SELECTOR_BYTES)
    return selector, f"{TOKEN_PREFIX}{selector}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def _expected_digest(row: NamedRow | None, selector: str, at: float) -> bytes:
    """Return the digest of the token with this selector, empty where none works."""
    if row is None:
        return b""
    if row.selector == selector:
        return bytes(row.digest)
    return bytes(row.previous_digest) if at < row.previous_until else b""


def _read_to_change(transaction: Transaction, key_id: int) -> NamedRow:
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


def _key(row: NamedRow) -> ApiKey:
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
        row.owner,
        row.rows_per_minute,
        bool(row.dry_run),
        _role(row),
    )


def _role(row: NamedRow) -> Role:
    """Return the role that a key has of its owner; an owner who is not there has the least."""
    role: Role | None = "admin" if row.owner is None else row.owner_role
    return role or "viewer"

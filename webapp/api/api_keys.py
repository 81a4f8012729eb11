"""API keys: creation, list, rotation and revocation."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from bandits.engine.analysis.receipts import moment
from bandits.errors import Conflict, InvalidInput, NotFound
from storage.accounts.api_keys import ApiKey, KeyName, RowsPerMinute
from storage.accounts.roles import Scope
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse, caller, calling_key
from webapp.api.problems import MissingRole, MissingScope
from webapp.services import Services

operations = OperationGroup("keys")

_PATH = "/keys/<int(max=2147483647):key_id>"
_LAST = 2**53  # the largest whole number that every JSON reader keeps
_NO_STORE = {"Cache-Control": "no-store: the token is in the body"}


class KeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new key.

    Attributes:
        rows_per_minute: limit of its own; null for the server's default.
        dry_run: its calls are checked and answered, and nothing of them is recorded.
    """

    name: KeyName
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=10)]
    rows_per_minute: RowsPerMinute | None = None
    dry_run: bool = False


class KeyLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that a key may send to a web worker in a minute; null for the server's default."""

    rows_per_minute: RowsPerMinute | None


class KeyDocument(Struct, frozen=True):
    """An API key.

    Attributes:
        start: first characters of its token, to recognise it by.
        last_used_at: to within five minutes.
        revoked_at: null while it works.
        previous_until: end of the token before the last rotation; null if that has ended.
        rows_per_minute: limit of its own; null for the server's default.
        dry_run: nothing of its calls is recorded.
    """

    id: int
    name: str
    start: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None
    previous_until: datetime | None
    rows_per_minute: int | None
    dry_run: bool

    @classmethod
    def from_key(cls, key: ApiKey) -> "KeyDocument":
        """Describe a stored key."""
        return cls(
            key.id,
            key.name,
            key.start,
            key.scopes,
            moment(key.created_at),
            key.created_by,
            None if key.last_used_at is None else moment(key.last_used_at),
            None if key.revoked_at is None else moment(key.revoked_at),
            None if key.previous_until is None else moment(key.previous_until),
            key.rows_per_minute,
            key.dry_run,
        )


class NewKeyDocument(Struct, frozen=True):
    """A new key and its token, which no other answer ever shows."""

    key: KeyDocument
    token: str


class KeyList(Struct, frozen=True):
    """Keys, the newest first; `next` continues the list, null at its end."""

    keys: list[KeyDocument]
    next: int | None


class KeyQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Page of a list of keys."""

    after: Annotated[int, Meta(ge=0, le=_LAST, description="`next` of the page before")] = _LAST
    limit: Annotated[int, Meta(ge=1, le=100, description="how many at most")] = 50


class KeyRotation(Struct, frozen=True, forbid_unknown_fields=True):
    """Grace of the old token, which works beside the new one for so long; 0 ends it at once."""

    grace_seconds: Annotated[float, Meta(ge=0, le=2_592_000)] = 86_400.0


@operations(
    "POST",
    "/keys",
    scope="manage",
    body=Body(KeyRequest, example={"name": "newsletter sender", "scopes": ["choose", "reward"]}),
    answers={201: NewKeyDocument},
    headers=_NO_STORE,
    gives={"key_id": "$response.body#/key/id"},
)
def create_key(services: Services, body: KeyRequest) -> OperationResponse:
    """Create an API key; its token is shown this once.

    It may do no more than the key that creates it, and ends with the same person.
    """
    _refuse_more(*body.scopes)
    limit = _refuse_faster(body.rows_per_minute)
    at, owner = services.engine.clock(), calling_key().owner
    new_key = services.accounts.keys.create(
        body.name,
        body.scopes,
        at=at,
        by=caller(),
        owner=owner,
        rows_per_minute=limit,
        dry_run=body.dry_run,
    )
    content = NewKeyDocument(KeyDocument.from_key(new_key.key), new_key.token)
    return OperationResponse(content, 201, {"Cache-Control": "no-store"})


def _refuse_more(*scopes: Scope) -> None:
    """Refuse a token that may do more than the key of the current request.

    Raises:
        MissingScope: it may.
    """
    for scope in scopes:
        if scope not in calling_key().scopes:
            raise MissingScope(scope)


def _refuse_faster(rows_per_minute: int | None) -> int | None:
    """Refuse a limit above that of the key of the current request; return it.

    Raises:
        InvalidInput: at ``/rows_per_minute``: it is, or there is none and that key has one.
    """
    own = calling_key().rows_per_minute
    if own is not None and (rows_per_minute is None or rows_per_minute > own):
        raise InvalidInput.at(
            "/rows_per_minute", f"must be at most {own:,}, the limit of the key that asks for it"
        )
    return rows_per_minute


@operations("GET", "/keys", scope="manage", query=KeyQuery, answers={200: KeyList})
def list_keys(services: Services, query: KeyQuery) -> OperationResponse:
    """List API keys without their tokens, the newest first, page by page."""
    keys = [k for k in services.accounts.keys.all() if k.id < query.after]
    page = keys[: query.limit]
    following = page[-1].id if len(keys) > len(page) else None
    return OperationResponse(KeyList([KeyDocument.from_key(key) for key in page], following))


@operations(
    "POST",
    f"{_PATH}/rotate",
    scope="manage",
    body=Body(KeyRotation, example={"grace_seconds": 86400}),
    answers={200: NewKeyDocument},
    refusals=(NotFound, Conflict),
    headers=_NO_STORE,
)
def rotate_key(services: Services, key_id: int, body: KeyRotation) -> OperationResponse:
    """Give a key a new token, which is shown this once; the old token works for a while longer.

    So senders can change to the new token without a pause. If the old token leaked, ask for no
    grace. A token that is still in its grace from an earlier rotation ends. The key may do no more
    than the one that asks for it.
    """
    for key in services.accounts.keys.all():
        if key.id == key_id:
            _refuse_more(*key.scopes)
            if key.exceeds(calling_key().role):
                raise MissingRole(key.role)
    new_key = services.accounts.keys.rotate(
        key_id, grace_seconds=body.grace_seconds, at=services.engine.clock(), by=caller()
    )
    content = NewKeyDocument(KeyDocument.from_key(new_key.key), new_key.token)
    return OperationResponse(content, headers={"Cache-Control": "no-store"})


@operations(
    "PUT",
    f"{_PATH}/limit",
    scope="manage",
    body=Body(KeyLimit, example={"rows_per_minute": 6000}),
    answers={200: KeyDocument},
    refusals=(NotFound, Conflict),
)
def limit_key(services: Services, key_id: int, body: KeyLimit) -> OperationResponse:
    """Set how many rows a key may send to a web worker in a minute: recipients, events and ids.

    Any other request is one row. No key sets a limit above its own.
    """
    limit = _refuse_faster(body.rows_per_minute)
    limited = services.accounts.keys.limit(key_id, limit, at=services.engine.clock(), by=caller())
    return OperationResponse(KeyDocument.from_key(limited))


@operations(
    "DELETE",
    _PATH,
    scope="manage",
    answers={204: None},
    refusals=(NotFound,),
)
def revoke_key(services: Services, key_id: int) -> OperationResponse:
    """Revoke an API key: from now on it is refused. A second time changes nothing."""
    services.accounts.keys.revoke(key_id, at=services.engine.clock(), by=caller())
    return OperationResponse(None, 204)

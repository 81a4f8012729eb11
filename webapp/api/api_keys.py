"""API keys: made, listed, revoked."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from bandits.engine.explaining import moment
from bandits.errors import NotFound
from storage.accounts import ApiKey, Scope
from webapp.api.bodies import Body
from webapp.api.operation import Answer, Operations, caller
from webapp.services import services

operations = Operations("keys")

KeyName = Annotated[
    str,
    Meta(
        pattern=r"^[^\x00-\x1f\x7f]{1,100}\Z",
        description="what the key is for: 1 to 100 characters, none of them a control character",
    ),
]


class KeyRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A key to make."""

    name: KeyName
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=10)]


class KeyDocument(Struct, frozen=True):
    """An API key.

    Attributes:
        start: how its token begins, to recognise it by.
        last_used_at: to within five minutes.
        revoked_at: since when it is refused; null while it works.
    """

    id: int
    name: str
    start: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    created_by: str
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyDocument":
        """Write down what is stored."""
        return cls(
            key.id,
            key.name,
            key.start,
            key.scopes,
            moment(key.created_at),
            key.created_by,
            None if key.last_used_at is None else moment(key.last_used_at),
            None if key.revoked_at is None else moment(key.revoked_at),
        )


class NewKeyDocument(Struct, frozen=True):
    """A key just made, and its token: this answer is the only place that ever shows it."""

    key: KeyDocument
    token: str


class KeyList(Struct, frozen=True):
    """Every key, the newest first."""

    keys: list[KeyDocument]


@operations(
    "POST",
    "/keys",
    scope="manage",
    body=Body(KeyRequest, example={"name": "newsletter sender", "scopes": ["choose", "reward"]}),
    answers={201: NewKeyDocument},
    headers={"Cache-Control": "no-store: the token is in the body"},
    gives={"key_id": "$response.body#/key/id"},
)
def create_key(body: KeyRequest) -> Answer:
    """Make an API key; its token is shown this once."""
    at = services().engine.clock()
    made = services().accounts.create_key(body.name, body.scopes, at=at, by=caller())
    content = NewKeyDocument(KeyDocument.of(made.key), made.token)
    return Answer(content, 201, {"Cache-Control": "no-store"})


@operations("GET", "/keys", scope="manage", answers={200: KeyList})
def list_keys() -> Answer:
    """List every API key, without its token."""
    every = services().accounts.keys()
    return Answer(KeyList([KeyDocument.of(key) for key in every]))


@operations(
    "DELETE",
    "/keys/<int(max=2147483647):key_id>",
    scope="manage",
    answers={204: None},
    refusals=(NotFound,),
)
def revoke_key(key_id: int) -> Answer:
    """Revoke an API key: from now on it is refused. Doing it again changes nothing."""
    services().accounts.revoke_key(key_id, at=services().engine.clock(), by=caller())
    return Answer(None, 204)

"""Operations of the API: declared once for the route, its checks and the OpenAPI document."""

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from flask import Request, Response, g
from flask.globals import request_ctx
from msgspec import Struct, field

from bandits.errors import InvalidInput, NoDatabase, NotFound, NotUpgraded, Unavailable
from bandits.validation import refusal
from storage.accounts.api_keys import ApiKey, Scope
from webapp.api.bodies import Body
from webapp.api.problems import (
    OF_EXCEPTION,
    OF_STATUS,
    Forbidden,
    MalformedBody,
    ProblemType,
    Unauthenticated,
)
from webapp.services import Services, services

_CHALLENGE = 'Bearer realm="bandits"'


def authenticate(authorization: str | None, services: Services) -> ApiKey:
    """Find the API key that an ``Authorization`` header carries.

    Raises:
        Unauthenticated: there is no such header, or its token is unknown or revoked.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send an API key as `Authorization: Bearer TOKEN`", _CHALLENGE)
    try:
        return services.accounts.keys.find(token, at=services.engine.clock())
    except NotFound:
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        raise Unauthenticated("this API key is unknown or revoked", challenge) from None


JSON = "application/json"
FAILED = "bandits.failed"  # the error of a request that was tried before Flask saw it

V = TypeVar("V", bound=Callable[..., "OperationResponse"])


class OperationResponse(Struct, frozen=True):
    """What a view answers: content of the declared type, its status, further headers."""

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """No query parameter is taken."""


class Operation(Struct, frozen=True, kw_only=True):
    """One route and method.

    Attributes:
        view: takes the path's parts, `body` and `query` where declared, by name.
        path: as Flask writes rules.
        scope: what the caller's API key must allow; None where none is needed.
        answers: the type of the content for each status, None where there is none.
        refusals: what `view` may raise beyond what follows from the rest.
        headers: of its answers, each with what it says.
        media_type: of its answers; text is sent as it is, all else as JSON.
        takes: header fields that it reads, each with what it says.
        gives: parts of other operations' paths that its answers hold, each with where.
    """

    view: Callable[..., OperationResponse]
    method: str
    path: str
    tag: str
    scope: Scope | None
    answers: Mapping[int, Any]
    body: Body[Any] | None = None
    query: type[Struct] = NoQuery
    refusals: tuple[type[Exception], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: Mapping[str, str] = field(default_factory=dict)
    gives: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON

    @property
    def name(self) -> str:
        """What it is called: the view's name."""
        return self.view.__name__

    @property
    def problems(self) -> list[ProblemType]:
        """Every problem it may answer."""
        unavailable = (Unavailable, NotUpgraded, NoDatabase)
        found = [OF_EXCEPTION[e] for e in (*self.refusals, InvalidInput)]
        if self.scope is not None:
            found += [OF_EXCEPTION[e] for e in (Unauthenticated, Forbidden, *unavailable)]
        if self.body is not None:
            found += [OF_EXCEPTION[MalformedBody], OF_STATUS[413], OF_STATUS[415]]
        return sorted({p.name: p for p in found}.values(), key=lambda p: (p.status, p.name))

    def respond(self, **parts: Any) -> Response:
        """Check the request, call the view and send its answer."""
        asked = request_ctx.request
        if (failed := asked.environ.get(FAILED)) is not None:
            raise failed
        if self.scope is not None:
            g.caller = _allowed(asked, self.scope)
        query = _query(asked, self.query)
        if self.query is not NoQuery:
            parts["query"] = query
        if self.body is not None:
            parts["body"] = self.body.read(asked)
        answer = self.view(**parts)
        content = self._encode(answer.content)
        response = Response(content, answer.status, content_type=self.media_type)
        if answer.status == HTTPStatus.NO_CONTENT:
            del response.headers["Content-Type"]
        if answer.headers:
            response.headers.extend(dict(answer.headers))
        return response

    def _encode(self, content: Any) -> bytes | str:
        if content is None:
            return b""
        return msgspec.json.encode(content) if self.media_type == JSON else content


class OperationGroup:
    """The operations of one subject, in the order they are declared."""

    def __init__(self, tag: str) -> None:
        """Start with none; `tag` is the subject in the OpenAPI document."""
        self.tag = tag
        self._declared: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._declared)

    def __call__(self, method: str, path: str, **declared: Any) -> Callable[[V], V]:
        """Declare the decorated view an operation; `declared` are `Operation`'s attributes."""

        def enter(view: V) -> V:
            operation = Operation(view=view, method=method, path=path, tag=self.tag, **declared)
            self._declared.append(operation)
            return view

        return enter


def caller() -> str:
    """Name who calls, for the audit log."""
    key: ApiKey = g.caller
    return f"key:{key.id}"


def _allowed(asked: Request, scope: Scope) -> ApiKey:
    return allow(asked.environ.get("HTTP_AUTHORIZATION"), scope, services())


def allow(authorization: str | None, scope: Scope, told: Services) -> ApiKey:
    """Find the API key of an ``Authorization`` header, which has to allow a scope.

    Raises:
        Unauthenticated: there is no such key.
        Forbidden: it does not allow that.
    """
    key = authenticate(authorization, told)
    if scope not in key.scopes:
        raise Forbidden(scope)
    return key


def _query(asked: Request, wanted: type[Struct]) -> Struct:
    if wanted is NoQuery and not asked.query_string:
        return NoQuery()
    given = asked.args.to_dict(flat=False)
    for name, values in given.items():
        if len(values) > 1:
            raise InvalidInput.at(f"/{name}", "comes twice in the query")
    single = {name: values[0] for name, values in given.items()}
    try:
        return msgspec.convert(single, wanted, strict=False)
    except msgspec.ValidationError:
        raise refusal(single, wanted, strict=False) from None

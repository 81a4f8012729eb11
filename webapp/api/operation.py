"""Operations of the API: declared once for their routes, their checks and the OpenAPI document.

Emails are sent, opened and clicked one by one, thousands in a second, and Flask takes longer for
each of these requests than the engine. So an operation that is declared `fast` is answered by
`FastPath`, before Flask, where nothing about the request is unusual.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from flask import Flask, Response
from flask.globals import request_ctx
from msgspec import Struct, field
from werkzeug.wrappers import Request

from bandits.errors import (
    BanditsError,
    InvalidInput,
    NoDatabase,
    NotFound,
    NotUpgraded,
    Unavailable,
)
from bandits.schemas import ID_TOLD, misfits
from bandits.validation import refusal
from storage.accounts.api_keys import ApiKey
from storage.accounts.idempotency_keys import KeptAnswer
from storage.accounts.roles import SCOPE_ROLES, Role, Scope
from webapp.api.bodies import JSON, Body, count_refused
from webapp.api.problems import (
    TYPE_BY_EXCEPTION,
    TYPE_BY_STATUS,
    MalformedBody,
    MissingRole,
    MissingScope,
    NotAuthenticated,
    ProblemType,
    TooManyRows,
)
from webapp.request_context import (
    CALLER,
    CURRENT_REQUEST,
    HEADER,
    RATE_HEADERS,
    STARTED,
    CurrentRequest,
    request_id,
)
from webapp.services import Services, services, services_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# A part of a path, as Flask writes it.
PART = re.compile(r"<(?P<converter>\w+)(?:\([^)]*\))?:(?P<name>\w+)>")

DEPRECATED_SINCE = "@1795996800"  # 2026-11-30, as RFC 9745 writes it; so far of all
_CHALLENGE = 'Bearer realm="bandits"'
_FAILURE = "bandits.failure"  # in the WSGI environment: the error of a request on the fast path
_LONGEST = 10_000  # bytes of a body on the fast path
_MINUTE = 60
_IDEMPOTENCY_KEY = "HTTP_IDEMPOTENCY_KEY"
RATE_MEANINGS = {
    "RateLimit-Policy": "rows that the key may send (`q`) in a window of so many seconds (`w`)",
    "RateLimit": "rows that are left (`r`), and in how many seconds all are again (`t`)",
}
_UNUSUAL = (
    "QUERY_STRING",
    "HTTP_CONTENT_ENCODING",
    "HTTP_TRANSFER_ENCODING",
    _IDEMPOTENCY_KEY,
)

H = TypeVar("H", bound=Callable[..., "OperationResponse"])


class OperationResponse(Struct, frozen=True):
    """A handler's response: content of the declared type, its status, further headers."""

    content: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class NoQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Query of an operation that takes no parameters."""


class Operation(Struct, frozen=True, kw_only=True):
    """One route and method of the API.

    Attributes:
        handler: takes the services, then by name the path's parts, and `body`, `query` and
            `caller` where declared.
        path: as Flask writes rules.
        scope: what the caller's API key must allow; None where no key is needed.
        least_role: of the people who may do the same on pages, where that is more than
            `SCOPE_ROLES` says of the scope.
        answers: the type of the content for each status, None where there is none.
        refusals: errors that `handler` may raise beyond those that follow from the rest.
        headers: of its responses, each with its meaning.
        media_type: of its responses; text is sent as it is, all else as JSON.
        takes: header fields that it reads, each with its meaning.
        takes_caller: the handler takes the API key of the request as `caller`.
        gives: parts of other operations' paths that its responses hold, each with its place.
        rows: names of the lists in the body whose entries each count towards the caller's rate.
        weigh: rows that a body counts as beyond its request, where no list of it tells that.
        fast: `FastPath` may answer it.
        idempotent: an ``Idempotency-Key`` is honoured: the same request again gets the same answer.
        repeatable: doing the same request twice changes nothing, since all has ids.
        identify: gives ids to what has none in a body, by a function that makes so many.
        deprecated: another operation does the same, and does it better.
    """

    handler: Callable[..., OperationResponse]
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
    takes_caller: bool = False
    gives: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON
    rows: tuple[str, ...] = ()
    weigh: Callable[[Any], int] | None = None
    least_role: Role | None = None
    fast: bool = False
    idempotent: bool = False
    repeatable: bool = False
    identify: Callable[[Any, Callable[[int], list[str]]], Any] | None = None
    deprecated: bool = False

    @property
    def name(self) -> str:
        """Id of the operation, by which clients call it: its handler's name."""
        return self.handler.__name__

    @property
    def role(self) -> Role | None:
        """Role that the owner of the caller's API key must have; None where no key is needed."""
        return self.least_role or (SCOPE_ROLES[self.scope] if self.scope else None)

    @property
    def problems(self) -> list[ProblemType]:
        """Every problem type that it may answer, by status and name."""
        unavailable = (Unavailable, NotUpgraded, NoDatabase)
        types = [TYPE_BY_EXCEPTION[e] for e in (*self.refusals, InvalidInput)]
        if self.scope is not None:
            refused = (NotAuthenticated, MissingScope, TooManyRows)
            types += [TYPE_BY_EXCEPTION[e] for e in (*refused, *unavailable)]
        if self.body is not None:
            types += [TYPE_BY_EXCEPTION[MalformedBody], TYPE_BY_STATUS[413], TYPE_BY_STATUS[415]]
        return sorted({t.name: t for t in types}.values(), key=lambda t: (t.status, t.name))

    @property
    def every_header(self) -> Mapping[str, str]:
        """Headers of its responses, each with its meaning."""
        headers = dict(self.headers)
        if self.idempotent:
            headers["Idempotent-Replayed"] = "true where this is the answer of an earlier request"
        if self.deprecated:
            headers["Deprecation"] = "since when it is deprecated: RFC 9745"
        return headers

    def respond(self, **parts: Any) -> Response:
        """Answer Flask's current request, whose path has these parts."""
        environ = request_ctx.request.environ
        if (failure := environ.get(_FAILURE)) is not None:
            raise failure
        response, content = self.execute(services(), environ, self._read_body, parts)
        answer = Response(content, response.status, content_type=self.media_type)
        if response.status == HTTPStatus.NO_CONTENT:
            del answer.headers["Content-Type"]
        if response.headers:
            answer.headers.extend(dict(response.headers))
        if self.deprecated:
            answer.headers["Deprecation"] = DEPRECATED_SINCE
        if location := response.headers.get("Location"):
            answer.headers["Location"] = request_ctx.request.script_root + location
        return answer

    def execute(
        self,
        services: Services,
        environ: "WSGIEnvironment",
        read_body: Callable[["WSGIEnvironment"], bytes],
        parts: dict[str, Any],
    ) -> tuple[OperationResponse, bytes]:
        """Check a request, call the handler, and encode the content of its response.

        Args:
            services: for the handler.
            environ: of the request; its caller is noted there.
            read_body: reads the body, once the caller is allowed to send one.
            parts: of the path, by name; the body and the query are added.
        """
        if self.scope is not None:
            authorize(environ, self.scope, services, self.role)
        if self.takes_caller:
            parts["caller"] = environ[CALLER]
        if self.query is not NoQuery or environ.get("QUERY_STRING"):
            parts |= _query(environ, self.query)
        if self.body is not None:
            text = read_body(environ)
            try:
                parts["body"] = self.body.decode(text)
            except BanditsError as error:
                if self.rows:
                    rows = count_refused(text, self.rows, parsed=isinstance(error, InvalidInput))
                    count_rows(environ, services, max(rows - 1, 0))
                raise
            if (self.rows or self.weigh) and (further := self._further_rows(parts["body"])):
                count_rows(environ, services, further)
        if self.idempotent and (key := environ.get(_IDEMPOTENCY_KEY)) is not None:
            _check_key(key)
            dry_run = getattr(parts.get("body"), "dry_run", False) or environ[CALLER].dry_run
            if not dry_run:  # which changes nothing
                return self._handle_once(services, environ, key, parts)
        return self._handle(services, parts)

    def _further_rows(self, body: Any) -> int:
        """Count the rows of a body beyond the one that was counted with its request."""
        if self.weigh is not None:
            return self.weigh(body)
        return max(sum(len(getattr(body, name)) for name in self.rows) - 1, 0)

    def _handle(self, services: Services, parts: dict[str, Any]) -> tuple[OperationResponse, bytes]:
        response = self.handler(services, **parts)
        if response.content is None:
            return response, b""
        if self.media_type != JSON:
            return response, response.content.encode()
        return response, msgspec.json.encode(response.content)

    def _handle_once(
        self, services: Services, environ: "WSGIEnvironment", key: str, parts: dict[str, Any]
    ) -> tuple[OperationResponse, bytes]:
        """Handle a request with an idempotency key, or answer as it was answered before.

        Where that answer is not kept, the request is handled again: ids that are made for it are
        the same as then, and what has changed its state refuses to change it twice.
        """
        keys = services.accounts.idempotency_keys
        sent_parts = {name: part for name, part in parts.items() if name != "caller"}
        request = [self.name.encode(), msgspec.json.encode(sent_parts, order="sorted")]
        claim = keys.claim(
            environ[CALLER].id,
            key,
            b" ".join(request),
            repeatable=self.repeatable,
            at=services.engine.clock(),
        )
        if claim.answer is not None:
            headers = {**claim.answer.headers, "Idempotent-Replayed": "true"}
            return OperationResponse(None, claim.answer.status, headers), claim.answer.content
        if self.identify is not None:
            parts["body"] = self.identify(parts["body"], partial(keys.ids, claim))
        try:
            response, content = self._handle(services, parts)
        except BanditsError:
            if claim.is_new:  # nothing was done, and nothing is being done
                with suppress(Unavailable):
                    keys.release(claim)
            raise
        with suppress(Unavailable):  # it is done, whether or not that is kept
            keys.keep(claim, KeptAnswer(response.status, response.headers, content))
        return response, content

    def _read_body(self, _environ: "WSGIEnvironment") -> bytes:
        """Read the body of Flask's current request, which checks its type and length."""
        return b"" if self.body is None else self.body.read(request_ctx.request)


class OperationGroup:
    """The operations of one subject, in the order they are declared."""

    def __init__(self, tag: str) -> None:
        """Start with none; `tag` is the subject in the OpenAPI document."""
        self.tag = tag
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def __call__(self, method: str, path: str, **attributes: Any) -> Callable[[H], H]:
        """Declare the decorated handler an operation with these `attributes` of `Operation`."""

        def declare(handler: H) -> H:
            operation = Operation(
                handler=handler, method=method, path=path, tag=self.tag, **attributes
            )
            self._operations.append(operation)
            return handler

        return declare


def authorize(
    environ: "WSGIEnvironment",
    scope: Scope | None,
    services: Services,
    role: Role | None = None,
) -> None:
    """Find the API key that a request carries, note it as the caller, and check its rights.

    The request counts towards the key's rate, whatever becomes of it.

    Args:
        environ: of the request.
        scope: that the key must have, where one is needed.
        services: with the keys.
        role: that the key's owner must have by now; that of the scope unless given.

    Raises:
        NotAuthenticated: there is no ``Authorization`` header, or its token is unknown or revoked.
        MissingScope: the key does not allow `scope`, where one is needed.
        MissingRole: its owner may not do what it asks for.
        TooManyRows: it has sent as many rows lately as it may.
    """
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("send an API key as `Authorization: Bearer TOKEN`", _CHALLENGE)
    try:
        key = services.accounts.keys.find(token, at=services.engine.clock())
    except NotFound:
        challenge = f'{_CHALLENGE}, error="invalid_token"'
        raise NotAuthenticated("this API key is unknown or revoked", challenge) from None
    environ[CALLER] = key
    count_rows(environ, services, 1, refuse=True)
    if scope is None:
        return
    if scope not in key.scopes:
        raise MissingScope(scope)
    needed = role or SCOPE_ROLES[scope]
    if not key.may(needed):
        raise MissingRole(needed)


def count_rows(
    environ: "WSGIEnvironment", services: Services, rows: int, *, refuse: bool = False
) -> None:
    """Count rows towards the rate of a request's caller, and note the headers that tell of it.

    A key owes the rows that it sent, and each minute takes its limit of them away. While it owes
    less than its limit, a call of any size is taken, and is owed in full.

    Args:
        environ: of the request.
        services: with the rates so far.
        rows: of the request.
        refuse: raise where the key owes its limit already.

    Raises:
        TooManyRows: it does; nothing was counted.
    """
    key: ApiKey = environ[CALLER]
    rates = services.rates
    limit = key.rows_per_minute or rates.rows_per_minute
    with rates.changing:
        now = time.monotonic()
        owed, then = rates.owed.get(key.id, (0.0, now))
        owed = max(owed - (now - then) * limit / _MINUTE, 0.0)
        refused = refuse and owed >= limit
        if not refused:
            owed += rows
        rates.owed[key.id] = owed, now
    left = max(int(limit - owed), 0)
    environ[RATE_HEADERS] = (
        _policy(limit),
        ("RateLimit", f'"key";r={left};t={ceil(owed * _MINUTE / limit)}'),
    )
    if refused:
        raise TooManyRows(limit, ceil((owed - limit + 1) * _MINUTE / limit))


@cache
def _policy(limit: int) -> tuple[str, str]:
    """Return the header that tells a limit of rows."""
    return "RateLimit-Policy", f'"key";q={limit};w={_MINUTE}'


def _check_key(key: str) -> None:
    """Check an idempotency key; a second header with one comes after a comma.

    Raises:
        InvalidInput: it is no id, or there may be two.
    """
    if "," in key:
        raise InvalidInput.at("/Idempotency-Key", "must be sent once, and have no comma")
    if misfits([key]):
        raise InvalidInput.at("/Idempotency-Key", f"must be {ID_TOLD}")


def caller() -> str:
    """Name the caller of Flask's current request for the audit log."""
    return calling_key().actor


def calling_key() -> ApiKey:
    """Return the API key of Flask's current request."""
    key: ApiKey = request_ctx.request.environ[CALLER]
    return key


def _query(environ: "WSGIEnvironment", kind: type[Struct]) -> dict[str, Struct]:
    values_by_name = Request(environ, populate_request=False).args.to_dict(flat=False)
    for name, values in values_by_name.items():
        if len(values) > 1:
            raise InvalidInput.at(f"/{name}", "comes twice in the query")
    single = {name: values[0] for name, values in values_by_name.items()}
    try:
        query = msgspec.convert(single, kind, strict=False)
    except msgspec.ValidationError:
        raise refusal(single, kind, strict=False) from None
    return {} if kind is NoQuery else {"query": query}


class _FastRoute:
    """The route of a fast operation: a pattern of its paths, and the status lines it answers."""

    def __init__(self, app: Flask, prefix: str, operation: Operation) -> None:
        def pattern(part: re.Match[str]) -> str:
            return f"(?P<{part['name']}>{app.url_map.converters[part['converter']].regex})"

        self.operation = operation
        self.rule = prefix + operation.path
        self.pattern = re.compile(PART.sub(pattern, re.escape(self.rule)))
        self.status_lines = {
            status: f"{status} {HTTPStatus(status).phrase.upper()}" for status in operation.answers
        }


class FastPath:
    """A WSGI application that answers usual requests of fast operations, and hands on all others.

    An error is handed on as well: the operation raises it again below Flask, where every error is
    logged and turned into a problem document.
    """

    def __init__(
        self, app: Flask, inner: "WSGIApplication", operations: Iterable[tuple[str, Operation]]
    ) -> None:
        """Answer the fast ones of `operations`, each below a prefix.

        Args:
            app: has the services and the converters of paths.
            inner: gets the other requests.
            operations: of the API.
        """
        self._inner = inner
        self._services = services_of(app)
        self._routes = [_FastRoute(app, prefix, o) for prefix, o in operations if o.fast]

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request."""
        for route in self._routes:
            match = route.pattern.fullmatch(environ["PATH_INFO"])
            if match is not None and _is_usual(environ, route.operation.method):
                return self._answer(route, match.groupdict(), environ, start_response)
        return self._inner(environ, start_response)

    def _answer(
        self,
        route: _FastRoute,
        parts: dict[str, Any],
        environ: "WSGIEnvironment",
        start_response: "StartResponse",
    ) -> Iterable[bytes]:
        environ[STARTED] = started = time.perf_counter()
        context = CURRENT_REQUEST.set(CurrentRequest(environ, route.rule, parts.get("key", "")))
        operation = route.operation
        try:
            response, content = operation.execute(self._services, environ, _read_short_body, parts)
        except Exception as error:  # noqa: BLE001 - the operation raises it again
            environ[_FAILURE] = error
            return self._inner(environ, start_response)
        finally:
            CURRENT_REQUEST.reset(context)
        seconds = time.perf_counter() - started
        self._services.metrics.count_request(route.rule, operation.method, response.status, seconds)
        headers = [
            ("Content-Type", JSON),
            ("Content-Length", str(len(content))),
            *response.headers.items(),
            *environ.get(RATE_HEADERS, ()),
            (HEADER, request_id(environ)),
        ]
        start_response(route.status_lines[response.status], headers)
        return [content]


def _is_usual(environ: "WSGIEnvironment", method: str) -> bool:
    """Return True for a request that only needs its path, its API key and a short JSON body."""
    length = environ.get("CONTENT_LENGTH", "")
    return (
        environ["REQUEST_METHOD"] == method
        and environ.get("CONTENT_TYPE") == JSON
        and not any(map(environ.get, _UNUSUAL))
        and length.isascii()
        and length.isdigit()
        and int(length) <= _LONGEST
    )


def _read_short_body(environ: "WSGIEnvironment") -> bytes:
    text: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return text

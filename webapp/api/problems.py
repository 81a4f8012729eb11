"""Problem documents (RFC 9457): one table from exceptions to types, titles and statuses."""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from flask import Response, request
from msgspec import Struct
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from bandits import errors
from bandits.errors import BanditsError, Fault, NoDatabase
from storage.accounts import Role

NO_DATABASE = (
    "there is no database where the server looks for it: its file was moved, removed or replaced,"
    " or its address is mistyped"
)
MEDIA_TYPE = "application/problem+json"
FOLDER = "/problems"


class MalformedBody(BanditsError):
    """The body of a request is not JSON as RFC 8259 and this API read it, or a header is twice."""


class NotAuthenticated(BanditsError):
    """The request has no API key, or one that is unknown or revoked."""

    def __init__(self, reason: str, challenge: str) -> None:
        self.challenge = challenge
        super().__init__(reason)


class MissingScope(BanditsError):
    """The API key lacks the scope that the route needs."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        super().__init__(f"this API key lacks the scope {scope!r}")


class MissingRole(BanditsError):
    """The person whom the API key belongs to may not do this, so the key may not either."""

    def __init__(self, role: Role) -> None:
        super().__init__(
            f"this takes the role {role!r}, which the owner of this API key does not have"
        )


class TooManyRows(BanditsError):
    """The API key has sent as many rows lately as it may."""

    def __init__(self, rows_per_minute: int, retry_after_seconds: int) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            f"this API key may send {rows_per_minute:,} rows a minute (recipients, events, ids;"
            f" another request is one); go on in {retry_after_seconds:,} seconds"
        )


class ProblemType(Struct, frozen=True):
    """Type of problems, with advice to the caller in `help`."""

    name: str
    status: int
    title: str
    help: str

    @property
    def uri(self) -> str:
        """Stable reference of the type; its address answers `title` and `help`."""
        return f"{FOLDER}/{self.name}"


class ProblemDetails(Struct, frozen=True, omit_defaults=True):
    """Problem document of RFC 9457; `errors` names each fault of the request and its place."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] = ()
    request_id: str = ""


_MALFORMED = ProblemType(
    "malformed", 400, "The request cannot be read", "Send valid JSON, UTF-8, each name once."
)
_FORBIDDEN = ProblemType(
    "forbidden",
    403,
    "The API key does not allow this",
    "Use a key with the scope, or of somebody with the role, that `detail` names.",
)
_INVALID = ProblemType(
    "invalid",
    422,
    "Something given does not fit",
    "Each entry of `errors` names a place and what would fit there. Nothing was stored.",
)
_NOT_FOUND = ProblemType("not-found", 404, "There is no such thing", "Check the address and ids.")
_TOO_LARGE = ProblemType(
    "too-large", 413, "The request is too large", "Split it into several smaller requests."
)
_TOO_MANY = ProblemType(
    "too-many-requests", 429, "Too many requests", "Wait `Retry-After` seconds."
)
_INTERNAL = ProblemType(
    "internal",
    500,
    "The server failed",
    "The failure is in the server's log under `request_id`. Repeating the call is safe with ids.",
)

TYPE_BY_EXCEPTION: Mapping[type[BanditsError], ProblemType] = MappingProxyType(
    {
        MalformedBody: _MALFORMED,
        NotAuthenticated: ProblemType(
            "unauthenticated",
            401,
            "An API key is needed",
            "Send `Authorization: Bearer TOKEN` with a key that has not been revoked.",
        ),
        MissingScope: _FORBIDDEN,
        MissingRole: _FORBIDDEN,
        TooManyRows: _TOO_MANY,
        errors.NotFound: _NOT_FOUND,
        errors.AlreadyExists: ProblemType(
            "already-exists", 409, "The key is taken", "Choose another key, or edit what is there."
        ),
        errors.WrongState: ProblemType(
            "wrong-state",
            409,
            "The experiment's state does not allow this",
            "`detail` names the state. Start, pause or stop the experiment first.",
        ),
        errors.FixedOnceStarted: ProblemType(
            "fixed-once-started",
            409,
            "This may not change once the experiment has started",
            "Each entry of `errors` names a place. Leave it as it is, or make a new experiment.",
        ),
        errors.IdReused: ProblemType(
            "id-reused",
            409,
            "An id came before with another body",
            "Repeat a call with exactly the same body, or use a new id. Nothing was stored.",
        ),
        errors.Conflict: ProblemType(
            "conflict", 409, "It does not fit what is there", "Read it again, then decide anew."
        ),
        errors.NotDerivable: ProblemType(
            "not-derivable",
            410,
            "What would be needed to answer has been erased",
            "There is nothing to retry.",
        ),
        errors.StaleEdit: ProblemType(
            "stale-edit",
            412,
            "It was changed since it was read",
            "Read it again, apply the edit to that, and send its new ETag as If-Match.",
        ),
        errors.InvalidInput: _INVALID,
        errors.NotUpgraded: ProblemType(
            "not-upgraded",
            503,
            "The database has to be upgraded",
            "Run `bandits db upgrade`, or start `bandits serve` again, which does it. Nothing was"
            " stored.",
        ),
        errors.NoDatabase: ProblemType(
            "no-database",
            503,
            "The database is not there",
            "Bring its file back, or start `bandits serve` with the right `--database`. Nothing was"
            " stored.",
        ),
        errors.Unavailable: ProblemType(
            "unavailable",
            503,
            "The store cannot record at the moment",
            "Nothing was stored. Repeat the call, with the same ids, after `Retry-After` seconds.",
        ),
        BanditsError: _INTERNAL,
    }
)

TYPE_BY_STATUS: Mapping[int, ProblemType] = MappingProxyType(
    {
        400: _MALFORMED,
        404: _NOT_FOUND,
        405: ProblemType(
            "method-not-allowed",
            405,
            "This address does not take that method",
            "The `Allow` header lists those it takes.",
        ),
        413: _TOO_LARGE,
        415: ProblemType(
            "unsupported-media-type",
            415,
            "The body is of a type that is not taken",
            "Send `Content-Type: application/json`, without a content coding.",
        ),
        429: _TOO_MANY,
        500: _INTERNAL,
    }
)

TYPES: Mapping[str, ProblemType] = MappingProxyType(
    {
        t.name: t
        for t in sorted(
            (*TYPE_BY_EXCEPTION.values(), *TYPE_BY_STATUS.values()), key=lambda t: t.name
        )
    }
)


def problem_type(error: Exception) -> ProblemType:
    """Return the problem type of an exception, "internal" for one that is not in the table."""
    if isinstance(error, HTTPException):  # of Werkzeug
        return TYPE_BY_STATUS.get(error.code or 500, _INTERNAL)
    return next(
        (TYPE_BY_EXCEPTION[c] for c in type(error).__mro__ if c in TYPE_BY_EXCEPTION), _INTERNAL
    )


def respond(error: Exception, request_id: str) -> Response:
    """Answer an exception with its problem document."""
    kind = problem_type(error)
    problem = ProblemDetails(
        kind.uri,
        kind.title,
        kind.status,
        _detail(error, kind),
        getattr(error, "faults", ()),
        request_id,
    )
    response = Response(msgspec.json.encode(problem), kind.status, content_type=MEDIA_TYPE)
    for name, value in _headers(error):
        response.headers[name] = value
    return response


def _detail(error: Exception, kind: ProblemType) -> str:
    if kind is _INTERNAL:
        return kind.help  # the failure itself is for the log, not for the caller
    if isinstance(error, UnsupportedMediaType):  # raised by `Body`, with a reason
        return error.description or kind.title
    if isinstance(error, HTTPException):
        return f"{request.method} {request.path}: {kind.title.lower()}"
    if isinstance(error, NoDatabase):  # its reason, which names the file, is for the log
        return NO_DATABASE
    return str(error)


def _headers(error: Exception) -> list[tuple[str, str]]:
    if isinstance(error, HTTPException):
        return [h for h in error.get_headers() if h[0] != "Content-Type"]
    headers = []
    if challenge := getattr(error, "challenge", ""):
        headers.append(("WWW-Authenticate", challenge))
    if scope := getattr(error, "scope", ""):
        challenge = f'Bearer realm="bandits", error="insufficient_scope", scope="{scope}"'
        headers.append(("WWW-Authenticate", challenge))
    if seconds := getattr(error, "retry_after_seconds", None):
        headers.append(("Retry-After", str(seconds)))
    return headers

"""Which request is being answered, where Flask has none in its context."""

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from flask import request

from bandits.sampling import noise

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

HEADER = "X-Request-ID"
_GIVEN = "HTTP_X_REQUEST_ID"  # as WSGI names it
_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")


class CurrentRequest(NamedTuple):
    """A request that Flask has not seen, or not yet."""

    environ: "WSGIEnvironment"
    route: str
    experiment: str  # empty where the address names none


CURRENT_REQUEST: ContextVar[CurrentRequest | None] = ContextVar("asked", default=None)


def request_id(environ: "WSGIEnvironment") -> str:
    """Return the id that a request brings, or make one, which is its id from then on."""
    given: str = environ.get(_GIVEN, "")
    if not given or not _ID.fullmatch(given):
        given = environ[_GIVEN] = noise()[:8].hex()
    return given


def route() -> str:
    """Return the route of the current request as it is declared, "none" where there is none."""
    return "none" if request.url_rule is None else request.url_rule.rule

"""Context of the current request: its id, its count and its line in the log."""

import logging
import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from flask import Flask, Response, current_app, g, request

from bandits.ids import random_bytes
from webapp.api.health import METRICS
from webapp.metrics import HttpMetrics
from webapp.settings import Settings

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
        given = environ[_GIVEN] = random_bytes()[:8].hex()
    return given


def route() -> str:
    """Return the route of the current request as it is declared, "none" where there is none."""
    return "none" if request.url_rule is None else request.url_rule.rule


BEGUN = "bandits.begun"  # when a request came, by whoever looked at it before Flask

_log = logging.getLogger("bandits.access")


def init(app: Flask, settings: Settings) -> None:
    """Trace the requests of `app`."""
    app.before_request(_begin)
    app.after_request(_end)
    app.config["ACCESS_LOG"] = settings.access_log


def _begin() -> None:
    environ = request.environ
    g.request_id = request_id(environ)
    g.begun = environ.get(BEGUN) or time.perf_counter()


def _end(response: Response) -> Response:
    seconds = time.perf_counter() - g.begun
    response.headers.add(HEADER, g.request_id)
    counted: HttpMetrics = current_app.extensions[METRICS]
    counted.count(route(), request.method, response.status_code, seconds)
    if current_app.config["ACCESS_LOG"]:
        _log.info(
            "%s %s %s",
            request.method,
            route(),
            response.status_code,
            extra={"status": response.status_code, "milliseconds": round(seconds * 1000, 3)},
        )
    return response

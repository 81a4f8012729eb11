"""Context of the current request: its id, its caller, its count and its line in the log.

The context stands in the request's WSGI environment, where the fast path and Flask both find it.
"""

import logging
import re
import time
from contextvars import ContextVar
from typing import Any

from flask import Flask, Response, current_app, g, request
from msgspec import Struct

from bandits.ids import random_bytes
from webapp.services import services
from webapp.settings import Settings

WSGIEnvironment = dict[str, Any]

# Names in the WSGI environment.
CALLER = "bandits.caller"  # the API key, once it was checked
RATE_HEADERS = "bandits.rate_headers"  # of the response to it, on how much it may still send
STARTED = "bandits.started"  # the time that the request came, by `time.perf_counter`
_SENT_ID = "HTTP_X_REQUEST_ID"

HEADER = "X-Request-ID"
_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")
_log = logging.getLogger("bandits.access")


class CurrentRequest(Struct, frozen=True):
    """A request on the fast path, for its log records; `experiment` is empty if it names none."""

    environ: WSGIEnvironment
    route: str
    experiment: str


CURRENT_REQUEST: ContextVar[CurrentRequest | None] = ContextVar("current_request", default=None)


def request_id(environ: WSGIEnvironment) -> str:
    """Return the id that a request was sent with; one without an id is given a new one."""
    sent: str = environ.get(_SENT_ID, "")
    if not sent or not _ID.fullmatch(sent):
        sent = environ[_SENT_ID] = random_bytes()[:8].hex()
    return sent


def route() -> str:
    """Return the route of Flask's current request as it is declared, "none" where there is none."""
    return "none" if request.url_rule is None else request.url_rule.rule


def init(app: Flask, settings: Settings) -> None:
    """Give every request of `app` an id, count it, and log it if `settings` ask for that."""
    app.before_request(_start_request)
    app.after_request(_finish_request)
    app.config["ACCESS_LOG"] = settings.access_log


def _start_request() -> None:
    environ = request.environ
    g.request_id = request_id(environ)
    environ.setdefault(STARTED, time.perf_counter())


def _finish_request(response: Response) -> Response:
    seconds = time.perf_counter() - request.environ[STARTED]
    response.headers.add(HEADER, g.request_id)
    response.headers.extend(request.environ.get(RATE_HEADERS, ()))
    services().metrics.count_request(route(), request.method, response.status_code, seconds)
    if current_app.config["ACCESS_LOG"]:
        _log.info(
            "%s %s %s",
            request.method,
            route(),
            response.status_code,
            extra={"status": response.status_code, "milliseconds": round(seconds * 1000, 3)},
        )
    return response

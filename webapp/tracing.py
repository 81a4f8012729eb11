"""Every request has an id, is counted, and is logged where that is asked for."""

import logging
import re
import time
from typing import TYPE_CHECKING

from flask import Flask, Response, current_app, g, request

from bandits.draw import noise
from webapp.api.health import METRICS
from webapp.logs import route
from webapp.metrics import Requests
from webapp.settings import Settings

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

HEADER = "X-Request-ID"
BEGUN = "bandits.begun"  # when a request came, by whoever looked at it before Flask
_GIVEN = "HTTP_X_REQUEST_ID"  # as WSGI names it

_log = logging.getLogger("bandits.access")
_ID = re.compile(r"[A-Za-z0-9._\-]{1,64}")


def init(app: Flask, settings: Settings) -> None:
    """Trace the requests of `app`."""
    app.before_request(_begin)
    app.after_request(_end)
    app.config["ACCESS_LOG"] = settings.access_log


def _begin() -> None:
    environ = request.environ
    g.request_id = request_id(environ)
    g.begun = environ.get(BEGUN) or time.perf_counter()


def request_id(environ: "WSGIEnvironment") -> str:
    """Return the id that a request brings, or make one."""
    given: str = environ.get(_GIVEN, "")
    return given if given and _ID.fullmatch(given) else noise()[:8].hex()


def _end(response: Response) -> Response:
    seconds = time.perf_counter() - g.begun
    response.headers.add(HEADER, g.request_id)
    counted: Requests = current_app.extensions[METRICS]
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

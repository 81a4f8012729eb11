"""Every request has an id, is counted, and is logged where that is asked for."""

import logging
import time

from flask import Flask, Response, current_app, g, request

from webapp.api.health import METRICS
from webapp.metrics import HttpMetrics
from webapp.request_context import HEADER, request_id, route
from webapp.settings import Settings

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

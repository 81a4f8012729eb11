"""Log configuration: records on standard error, as text for people or as JSON for machines.

A record names the route of its request as it is declared, never the address, which may hold the id
of a recipient. Bodies, tokens and passwords are in no record.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from flask import g, has_request_context, request

from webapp.request_context import CALLER, CURRENT_REQUEST, request_id, route

Format = Literal["text", "json"]
Level = Literal["debug", "info", "warning"]

_FOR_PEOPLE = ("request_id", "experiment", "key", "user", "address", "milliseconds")
_EXTRA = (*_FOR_PEOPLE, "route", "method", "status")
_OURS = ("bandits", "policies", "simulations", "storage", "webapp")
_NOISE = (
    "Configuration allows spawning up to",  # threads here wait for the disk, not for a core
    "Unexpected exit from worker",  # the worker itself logs it, with its reason
)


class TextFormatter(logging.Formatter):
    """Formatter that writes a record as one readable line."""

    def __init__(self) -> None:
        """Write the time, the level, the logger and the message."""
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Add the record's extra fields to the message."""
        extra = [f"{n}={getattr(record, n)}" for n in _FOR_PEOPLE if hasattr(record, n)]
        return " ".join([super().formatMessage(record), *extra])


class JsonFormatter(logging.Formatter):
    """Formatter that writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        entry |= {n: getattr(record, n) for n in _EXTRA if hasattr(record, n)}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


class RequestFilter(logging.Filter):
    """Filter that adds the current request to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the request's id, route, method, key and experiment; keep every record."""
        if has_request_context():
            record.request_id = g.get("request_id", "")
            record.route = route()
            record.method = request.method
            environ = request.environ
            if "key" in (request.view_args or {}):
                record.experiment = request.view_args["key"]  # type: ignore[index]
        elif (current := CURRENT_REQUEST.get()) is not None:
            environ = current.environ
            record.request_id = request_id(environ)
            record.route = current.route
            record.method = environ["REQUEST_METHOD"]
            if current.experiment:
                record.experiment = current.experiment
        else:
            return True
        if CALLER in environ:
            record.key = environ[CALLER].id
        return True


class NoiseFilter(logging.Filter):
    """Filter that drops misleading messages of the web server."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep all other messages."""
        return not record.getMessage().startswith(_NOISE)


def configuration(form: Format, level: Level = "info") -> dict[str, Any]:
    """Describe the logging of a server process, as `logging.config.dictConfig` takes it.

    Args:
        form: of a record.
        level: the lowest level that this application logs. Other packages log no details, which
            might hold personal data.
    """
    formatter = JsonFormatter if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": formatter}},
        "filters": {"noise": {"()": NoiseFilter}, "request": {"()": RequestFilter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "ours",
                "filters": ["noise", "request"],
            }
        },
        "root": {"level": "WARNING" if level == "warning" else "INFO", "handlers": ["stderr"]},
        "loggers": {
            "_granian": {"level": "WARNING"},
            "alembic": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            **{name: {"level": level.upper()} for name in _OURS},
        },
    }

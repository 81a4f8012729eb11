"""Logs on standard error, for people or, as JSON, for machines."""

import logging
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

Format = Literal["text", "json"]

_EXTRA = ("request_id", "experiment", "seconds")
_NOISE = (
    "Configuration allows spawning up to",  # our threads wait for the disk, not for a core
    "Unexpected exit from worker",  # told by the worker itself, with its reason
)


class TextFormatter(logging.Formatter):
    """One readable line for each record."""

    def __init__(self) -> None:
        """Write the time, the level, who says it and what."""
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Add what was said beside the message."""
        beside = [f"{n}={getattr(record, n)}" for n in _EXTRA if hasattr(record, n)]
        return " ".join([super().formatMessage(record), *beside])


class JsonFormatter(logging.Formatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record."""
        entry: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        entry |= {n: getattr(record, n) for n in _EXTRA if hasattr(record, n)}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


class NoiseFilter(logging.Filter):
    """Drop what the web server says that would only mislead here."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep everything else."""
        return not record.getMessage().startswith(_NOISE)


def configuration(form: Format) -> dict[str, Any]:
    """Describe the logging of a server process, as `logging.config.dictConfig` takes it."""
    formatter = JsonFormatter if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": formatter}},
        "filters": {"noise": {"()": NoiseFilter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "ours",
                "filters": ["noise"],
            }
        },
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {"_granian": {"level": "WARNING"}, "alembic": {"level": "WARNING"}},
    }

"""Fields of senders' JSON: texts, numbers and times within bounds, or the event is unreadable."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from math import isfinite
from typing import Any

import msgspec

from bandits.schemas import ID_TOLD, misfits
from bandits.validation import seconds_of
from webapp.api.json_scan import Outline
from webapp.signals.delivery import DeliveryRefused, RefusalCause
from webapp.signals.signal_event import EventUnreadable

MAX_DEPTH = 32
MAX_TEXT = 1_000  # of an id or an address; links and agents are cut instead
MAX_PASSED = 20  # decisions that one email may stand for
_INTEGERS = 2**64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_PASSED_NAMES = ("bandits_decision", *(f"bandits_{n}" for n in range(1, MAX_PASSED + 1)))


def decoded(text: bytes | str) -> Any:
    """Decode a JSON text.

    Raises:
        DeliveryRefused: it is not JSON, or is nested too deeply.
    """
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and Outline(raw).depth > MAX_DEPTH:
        raise DeliveryRefused(
            RefusalCause.UNREADABLE, f"the body is nested more than {MAX_DEPTH} levels deep"
        )
    try:
        return msgspec.json.decode(raw)
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise DeliveryRefused(RefusalCause.UNREADABLE, "the body is not JSON") from None


def decoded_object(text: bytes | str) -> dict[str, Any]:
    """Decode the text of a JSON object.

    Raises:
        DeliveryRefused: it is none.
    """
    value = decoded(text)
    if not isinstance(value, dict):
        raise DeliveryRefused(RefusalCause.UNREADABLE, "the body is not a JSON object")
    return value


def decoded_list(text: bytes | str) -> list[Any]:
    """Decode the text of a JSON array.

    Raises:
        DeliveryRefused: it is none.
    """
    value = decoded(text)
    if not isinstance(value, list):
        raise DeliveryRefused(RefusalCause.UNREADABLE, "the body is not a JSON array")
    return value


def part_at(item: Any, *path: str) -> Any:
    """Return what stands at a path of names, None if nothing does."""
    for name in path:
        item = item.get(name) if isinstance(item, dict) else None
    return item


def text_at(item: Any, *path: str) -> str | None:
    """Return the text at a path, a whole number as text; None for none, null and an empty one.

    Raises:
        EventUnreadable: something else stands there, or the text is too long.
    """
    value = part_at(item, *path)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _INTEGERS:
        value = str(value)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise EventUnreadable(f"{'.'.join(path)} is not a text")
    if len(value) > MAX_TEXT or _CONTROL.search(value):
        raise EventUnreadable(
            f"{'.'.join(path)} is longer than {MAX_TEXT:,} characters or holds control characters"
        )
    return value


def required_text(item: Any, *path: str) -> str:
    """Return the text at a path.

    Raises:
        EventUnreadable: there is none.
    """
    if (value := text_at(item, *path)) is None:
        raise EventUnreadable(f"{'.'.join(path)} is missing")
    return value


def loose_text(item: Any, *path: str) -> str | None:
    """Return the start of the text at a path, without control characters; None if there is none."""
    value = part_at(item, *path)
    if not isinstance(value, str):
        return None
    return _CONTROL.sub("", value[: 2 * MAX_TEXT]) or None


def message_id_at(item: Any, *path: str) -> str | None:
    """Return the id of an email at a path, without <>."""
    value = text_at(item, *path)
    return value.strip().removeprefix("<").removesuffix(">") or None if value else None


def unix_time_at(item: Any, *path: str, milliseconds: bool = False) -> datetime | None:
    """Return the time at a path, in seconds since 1970 as number or text; None if there is none.

    Raises:
        EventUnreadable: it is no such time.
    """
    value = part_at(item, *path)
    if value is None or value == "":
        return None
    number = number_of(value)
    if number is None:
        raise EventUnreadable(f"{'.'.join(path)} is not a time in seconds since 1970")
    return _sensible(number / 1000 if milliseconds else number, path)


def any_time_at(item: Any, *path: str) -> datetime | None:
    """Return the time at a path, in ISO 8601 with its offset, or as a number since 1970.

    A number of 12 digits or more is in milliseconds. None if there is none.

    Raises:
        EventUnreadable: it is no such time.
    """
    number = number_of(part_at(item, *path))
    return iso_time_at(item, *path) if number is None else _sensible(seconds_of(number), path)


def iso_time_at(item: Any, *path: str) -> datetime | None:
    """Return the time at a path, in ISO 8601 with its offset; None if there is none.

    Raises:
        EventUnreadable: it is no such time.
    """
    value = text_at(item, *path)
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise EventUnreadable(f"{'.'.join(path)} has no offset from UTC")
        return _sensible(time.timestamp(), path)
    except (ValueError, OverflowError):
        raise EventUnreadable(f"{'.'.join(path)} is not a time in ISO 8601") from None


def _sensible(seconds: float, path: Iterable[str]) -> datetime:
    """Return a time in UTC that databases can hold."""
    if not _EARLIEST.timestamp() <= seconds <= _LATEST.timestamp():
        raise EventUnreadable(f"{'.'.join(path)} is not between the years 2000 and 2200")
    return datetime.fromtimestamp(seconds, UTC)


def number_of(value: Any) -> float | None:
    """Return a finite number, also of a text in decimal digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?", value, re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def passed_ids(fields: Any) -> tuple[str, ...]:
    """Return the decisions whose ids were passed through as `bandits_decision`, `bandits_1` ….

    Args:
        fields: by name, a text or a list of one (as Amazon SES has it); anything else holds none.

    Raises:
        EventUnreadable: one of them is no id.
    """
    if not isinstance(fields, dict):
        return ()
    ids: dict[str, None] = {}
    for name in [name for name in _PASSED_NAMES if name in fields]:
        value = fields[name]
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is None or value == "":
            continue
        if not isinstance(value, str) or misfits([value]):
            raise EventUnreadable(f"{name} is not {ID_TOLD}")
        ids[value] = None
    return tuple(ids)


def event_id(kind: str, *parts: str | float | None) -> str:
    """Make the id of an event from what stays the same when the sender reports it again.

    It is readable where the parts are the sender's own ids, else a digest of them.
    """
    texts = ["" if part is None else str(part) for part in parts]
    readable = ":".join((kind, *texts))
    if not any(":" in text for text in texts) and not misfits([readable]):
        return readable
    return f"{kind}:{sha256(msgspec.json.encode(texts)).hexdigest()[:40]}"

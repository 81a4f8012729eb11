"""Formatting on pages: numbers, percentages, times, durations, authors and CSV tables."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import chain
from math import floor, isfinite, log10
from typing import Any

import msgspec
from flask import Flask, Response, g
from markupsafe import Markup

from bandits.actors import Actor, split_actor
from webapp.files.table_files import csv_lines
from webapp.pages import pages
from webapp.services import services


@pages.app_template_filter()
def author(by: str) -> str:
    """Name the author of an entry of the audit log: an address, or an API key by its name."""
    if "key_names" not in g:
        g.key_names = {f"key:{key.id}": key.name for key in services().accounts.keys.all()}
    name = g.key_names.get(by)
    return by if name is None else f"the API key “{name}”"


@pages.app_template_filter()
def actor_name(actor: str | None) -> str:
    """Name who wrote rows of the log."""
    if actor is None:
        return "senders of an earlier version"
    kind, name = split_actor(Actor(actor))
    match kind:
        case "key":
            return author(actor)
        case "connection":
            return f"the connection “{name}”"
        case "tracking":
            key_id, _, signer = name.partition(":")
            links = f"tracked links of the key {key_id}"
            return f"{links}, signed for {author(signer)}" if signer else links
        case "person":
            return name
        case "program":
            return "a program on the server"


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """Answer with a CSV file of this name, written while it is sent."""
    lines = csv_lines(chain((head,), rows))
    response = Response(lines, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}


def split_duration(seconds: float) -> tuple[str, str]:
    """Return the amount and the largest unit in which `seconds` is a whole number."""
    for unit, length in reversed(UNITS.items()):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}", unit
    return f"{seconds:.12g}", "seconds"


def period_text(seconds: float) -> str:
    """Write a period: "every minute", "every 2 hours"."""
    amount, unit = split_duration(seconds)
    return f"every {unit.removesuffix('s')}" if amount == "1" else f"every {amount} {unit}"


def duration_text(seconds: float) -> str:
    """Write a duration: "7 days", "1 hour", "90 seconds"."""
    amount, unit = split_duration(seconds)
    return f"{amount} {unit.removesuffix('s') if amount == '1' else unit}"


_THIN = "\u202f"  # a narrow space that keeps a number and its sign on one line
_NONE = "–"
_NOTHING = 0.001  # per 1,000 emails, one in a million
_NO_SHARE = 1e-8  # a smaller fraction is written as 0.0 %, as bounds of rare events may be
_NO_DIFFERENCE = 1e-6  # a smaller one is written as 0.00
_HUNDRED = 99.5  # from here on, whole numbers have digits enough
_RARE = 0.001  # a chance this small, or this near to certain, is not written more exactly
_SMALL = 0.005  # below it two decimals are zeros


def count(value: float) -> str:
    """Write a whole number: 1,204."""
    return f"{round(value):,}".replace("-", "−")


def phrase(key: str) -> str:
    """Write a key as words within a sentence: zip code."""
    return key.replace("_", " ")


def heading(key: str) -> str:
    """Write a key as words that stand alone: Zip code."""
    words = phrase(key)
    return words[:1].upper() + words[1:]


_PLURALS = {"delivered": "delivered", "reply": "replies"}


def event_plural(name: str) -> str:
    """Name the events of a kind: "unsubscribes"."""
    return _PLURALS.get(name, f"{phrase(name).removesuffix('s')}s")


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction as per cent: 18.3 %; below .1 % with its two leading digits."""
    if value is None or not isfinite(value):
        return _NONE
    shown = 100 * value if abs(value) >= _NO_SHARE else 0.0
    if 0 < abs(shown) < 10**-digits:
        digits = min(1 - floor(log10(abs(shown))), 6)
    return f"{shown:,.{digits}f}{_THIN}%".replace("-", "−")


def chance(value: float | None) -> str:
    """Write a chance as per cent; never as none or as certain."""
    if value is not None and 0 <= value < _RARE:
        return f"< {percent(_RARE)}"
    if value is not None and value > 1 - _RARE:
        return f"> {percent(1 - _RARE)}"
    return percent(value)


def share(value: float) -> str:
    """Write a declared fraction as per cent, with the digits it was declared with: 5 %, 2.5 %."""
    return f"{100 * value:.6g}{_THIN}%"


def amount(value: float | None) -> str:
    """Write a number of any size: 0.0213, 4.18, 1,204."""
    if value is None or not isfinite(value):
        return _NONE
    if value and abs(value) < 1:
        text = f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.2e}"  # noqa: PLR2004 - from there on, zeros fill the column
    else:
        text = f"{value:,.2f}".removesuffix(".00")
    return text.replace("-", "−")


def total(value: float, *, whole: bool) -> str:
    """Write a column's sum: whole numbers, or two decimals so that they align."""
    return count(value) if whole else f"{value:,.2f}".replace("-", "−")


def average(value: float | None) -> str:
    """Write a column's mean: three decimals so that they align, three digits where those are 0."""
    if value is None or not isfinite(value):
        return _NONE
    text = f"{value:.3g}" if 0 < abs(value) < 1e-3 else f"{value:,.3f}"  # noqa: PLR2004 - would be 0.000
    return text.replace("-", "−")


def signed_number(value: float | None, *, points: bool) -> str:
    """Write a difference with its sign; as percentage points where rates are compared."""
    if value is None or not isfinite(value):
        return _NONE
    shown = 100 * value if points else value
    shown = 0.0 if abs(shown) < _NO_DIFFERENCE else shown
    digits = 2 if abs(shown) >= _SMALL or not shown else min(1 - floor(log10(abs(shown))), 6)
    text = f"{abs(shown):,.{digits}f}"
    return f"{'−' if shown < 0 else '+'}{text}"


def gain(value: float, *, whole: bool) -> str:
    """Write a total gain with its sign: +212, −3.5."""
    text = count(abs(value)) if whole or abs(value) >= _HUNDRED else amount(abs(value))
    return f"{'−' if value < 0 else '+'}{text}"


def short_number(value: float) -> str:
    """Write a number with its two leading digits: 12, 0.42, 0."""
    if abs(value) < _NOTHING:
        return "0"
    return count(value) if abs(value) >= _HUNDRED else f"{value:.2g}".replace("-", "−")


def time_tag(value: datetime | float | str | None) -> Markup:
    """Write a moment in UTC as a time element; the page's script shows it in the reader's zone."""
    if value is None:
        return Markup(_NONE)  # noqa: S704 - a constant
    moment = _moment(value).astimezone(UTC)
    iso = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    shown = f"{moment:%-d %b %Y, %H:%M} UTC"
    return Markup(f'<time datetime="{iso}">{shown}</time>')  # noqa: S704 - our own words alone


def _moment(value: datetime | float | str) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(value, UTC)


def pretty_json(value: Any) -> str:
    """Write a value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value)).decode()


def plural(number: float, one: str, many: str = "") -> str:
    """Write a count with its noun: "1 variant", "1,204 variants"."""
    return f"{count(number)} {one if round(number) == 1 else many or one + 's'}"


def init(app: Flask) -> None:
    """Add the formats to templates as filters."""
    for function in (
        count,
        phrase,
        event_plural,
        heading,
        percent,
        chance,
        share,
        amount,
        total,
        average,
        signed_number,
        gain,
        short_number,
        time_tag,
        pretty_json,
        plural,
    ):
        app.add_template_filter(function)

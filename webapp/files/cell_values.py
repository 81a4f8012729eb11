"""Cell values: numbers, times and categories as mailers and spreadsheets write them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from bandits.validation import seconds_of
from webapp.files.table_files import Cell

DecimalSign = Literal[".", ","]
DayPlace = Literal["first", "second"]

# What databases and spreadsheets write where there is nothing.
_NULLS = frozenset(
    {"", "null", "(null)", "none", "nil", "nan", "n/a", "#n/a", "\\n", "-", "–", "—"}
)
_NOT_AVAILABLE = frozenset({"na", "<na>"})  # also a name, so no id is taken for it
_SECONDS = re.compile(r"\d{9,14}(\.\d*)?")  # 1970 and before are no times of an email
_NUMBER = re.compile(
    r"[+-]?\d[\d.,]*(?:e[+-]?\d{1,3})?|[+-]?[.,]\d+(?:e[+-]?\d{1,3})?", re.IGNORECASE
)
_CURRENCY = re.compile(r"^(?:[A-Z]{3}\b|[$€£¥₹₽₺₩])\s*|\s*(?:\b[A-Z]{3}|[$€£¥₹₽₺₩])$")
_THOUSANDS = re.compile("(?<=\\d)[\\s'’\u00a0\u202f](?=\\d{3}(?:\\D|$))")
_SHORTENED = re.compile(r"\d(?:[.,]\d+)?E\+\d{2}")  # how a spreadsheet shows a long number
_DAY = re.compile(r"(?:19|20)\d{6}")  # such as 20261129
_LONGEST = 100  # characters of a number or a time
_EXACT = 1e15  # spreadsheets and floating-point columns keep 15 digits
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_NAME = r"(?P<name>[A-Za-z]{3,9})\.?"
_DATES = (
    r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})",
    r"(?P<y>\d{4})/(?P<m>\d{1,2})/(?P<d>\d{1,2})",
    r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})",
    r"(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4}|\d{2})",
    r"(?P<a>\d{1,2})(?P<sign>[/-])(?P<b>\d{1,2})(?P=sign)(?P<y>\d{4}|\d{2})",
    rf"(?P<d>\d{{1,2}})[\s.-]+{_MONTH_NAME}[\s,-]+(?P<y>\d{{4}})",
    rf"{_MONTH_NAME}\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}})",
    r"(?P<y>\d{4})-?W(?P<week>\d{2})-?(?P<day>[1-7])",
)
_TIME = (
    r"(?P<h>\d{1,2})[:.](?P<min>\d{2})(?:[:.](?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_MOMENTS = tuple(
    re.compile(rf"(?:\w{{3,9}},\s+)?{d}(?:(?:T|,?\s+(?:at\s+)?){_TIME})?") for d in _DATES
)


class CellError(Exception):
    """A cell is invalid."""

    def __init__(self, column: str, detail: str) -> None:
        self.column = column
        super().__init__(detail)


class CellForms(Struct, frozen=True):
    """How the cells of a file are written; None for what is not known.

    Attributes:
        zone: time zone of times that name none, as the IANA database calls it.
        day: place of the day in dates such as 3/4/2026.
        decimal: decimal sign of numbers such as 1,234.
    """

    zone: str | None = None
    day: DayPlace | None = None
    decimal: DecimalSign | None = None


class Moment(Struct, frozen=True):
    """A time, and if only its day is known; it is the end of that day then."""

    at: datetime
    day_only: bool = False


def is_nothing(cell: Cell) -> bool:
    """Return True for an empty cell, and for what stands for one."""
    if isinstance(cell, str):
        return cell.strip().casefold() in _NULLS | _NOT_AVAILABLE
    return cell is None or cell != cell  # noqa: PLR0124 - NaN


def cell_name(cell: Cell) -> str:
    """Return a cell as a name: a whole number without a point."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def read_id(cell: Cell) -> tuple[str, str | None]:
    """Return a cell as an id, to the byte, and what is wrong with it."""
    if cell is None or (isinstance(cell, str) and cell.strip().casefold() in _NULLS):
        return "", f"says {cell!r}, which names nobody" if cell else "is empty"
    if isinstance(cell, float) and abs(cell) >= _EXACT:
        return "", "is a number whose last digits are lost; keep such ids as text"
    name = cell_name(cell)
    if isinstance(cell, str) and _SHORTENED.fullmatch(cell.strip()):
        return "", f"{name!r} is a number that a spreadsheet has shortened; keep ids as text"
    return name, None


def read_number(cell: Cell, decimal: DecimalSign | None) -> float | str | None:
    """Read a number; None where there is none, and a sentence where it cannot be read."""
    if is_nothing(cell):
        return None
    return _read_text(cell, decimal) if isinstance(cell, str) else cell


def _read_text(cell: str, decimal: DecimalSign | None) -> float | str:
    text = _bare_number(cell) if len(cell) <= _LONGEST else ""
    if not _NUMBER.fullmatch(text) or not (readings := _readings(text)):
        return f"{cell[:40]!r} is not a number"
    values = set(readings.values())
    if len(values) == 1 and (decimal is None or decimal in readings):
        return values.pop()
    # Programs write 1.234 for a little more than one; nobody writes 1,234 without meaning it.
    decimal = decimal or ("." if "," not in text else None)
    if decimal is None:
        meant = " or ".join(f"{value:g}" for value in readings.values())
        return f"{cell[:40]!r} may be {meant}: choose how numbers are written"
    if decimal not in readings:
        return f"{cell[:40]!r} is not written like the other numbers, with {decimal!r} for decimals"
    return readings[decimal]


def _bare_number(cell: str) -> str:
    """Return a number without its currency and the spaces between its thousands."""
    text = _CURRENCY.sub("", cell.strip().replace("−", "-"))
    if text.startswith("(") and text.endswith(")"):
        text = f"-{text[1:-1]}"
    text = _CURRENCY.sub("", text)
    if text[:1] in "+-":
        text = text[:1] + _CURRENCY.sub("", text[1:].lstrip())
    return _THOUSANDS.sub("", text)


def _readings(text: str) -> dict[DecimalSign, float]:
    """Return what a number means by its decimal sign; nothing for what is no number."""
    out: dict[DecimalSign, float] = {}
    signs: tuple[tuple[DecimalSign, DecimalSign], ...] = ((".", ","), (",", "."))
    for decimal, thousands in signs:
        mantissa, _, exponent = text.lower().partition("e")
        whole, point, rest = mantissa.partition(decimal)
        groups = whole.lstrip("+-").split(thousands)
        grouped = (
            len(groups) == 1
            or (
                1 <= len(groups[0]) <= 3  # noqa: PLR2004 - digits of a group
                and groups[0] != "0"
                and all(len(g) == 3 for g in groups[1:])  # noqa: PLR2004
            )
        )
        if grouped and not set(rest) & {".", ","}:
            number = whole.replace(thousands, "") + (f".{rest}" if point else "")
            value = float(f"{number}e{exponent}" if exponent else number)
            out[decimal] = value
    return out


def find_decimal(cells: Iterable[Cell]) -> DecimalSign | None:
    """Find the decimal sign of a column's numbers, if some of them can only have one."""
    signs: set[DecimalSign] = set()
    for cell in cells:
        short = isinstance(cell, str) and len(cell) <= _LONGEST
        if short and _NUMBER.fullmatch(text := _bare_number(str(cell))):
            readings = _readings(text)
            if len(readings) == 1 and ("." in text or "," in text):
                signs |= readings.keys()
    return signs.pop() if len(signs) == 1 else None


class CategoryCells:
    """Cells of a category's declared values, however a spreadsheet writes them."""

    def __init__(self, values: Sequence[str]) -> None:
        """Read cells as these values."""
        folded = [value.strip().casefold() for value in values]
        self._values = set(values)
        self._folded: Mapping[str, str] = {
            fold: value
            for fold, value in zip(folded, values, strict=True)
            if folded.count(fold) == 1
        }

    def read(self, cell: Cell) -> str | None:
        """Return the value that a cell means, None for none; an unlisted value comes back as it is.

        Outer blanks do not matter, nor capitals where only one value is meant: TRUE is true.
        """
        if cell is None:
            return None
        text = cell_name(cell).lower() if isinstance(cell, bool) else cell_name(cell)
        if text in self._values:
            return text
        value = self._folded.get(text.strip().casefold())
        return None if value is None and is_nothing(cell) else value or text

    def lists(self, value: str) -> bool:
        """Return True for a declared value."""
        return value in self._values


def read_moment(cell: Cell, forms: CellForms) -> Moment | str:
    """Read a time; return a sentence where it cannot be read.

    It may be as RFC 3339, in seconds or milliseconds since 1970, or a date with or without a time
    of day, as people write it; the zone of what names none is that of `forms`.
    """
    if isinstance(cell, bool) or cell is None:
        return "is no time"
    if not isinstance(cell, str) and _DAY.fullmatch(cell_name(cell)):
        cell = cell_name(cell)
    if not isinstance(cell, str) or _SECONDS.fullmatch(cell.strip()):
        try:
            return Moment(datetime.fromtimestamp(seconds_of(float(cell)), UTC))
        except (ValueError, OverflowError, OSError):
            return f"{cell!r} is no time"
    parts = _parts(cell)
    if parts is None:
        return f"{cell[:40]!r} is no date or time, such as 2026-11-29 20:50"
    try:
        return _moment(cell, parts, forms)
    except (ValueError, OverflowError):
        return f"{cell[:40]!r} is no date of the calendar"


def _parts(cell: str) -> dict[str, str | None] | None:
    """Return the parts of a time by their names in `_DATES` and `_TIME`."""
    text = cell.strip() if len(cell) <= _LONGEST else ""
    matches = (pattern.fullmatch(text) for pattern in _MOMENTS)
    return next((match.groupdict() for match in matches if match), None)


def _moment(cell: str, parts: Mapping[str, str | None], forms: CellForms) -> Moment | str:
    day = _date(parts, forms)
    if day is None:
        return f"{cell[:40]!r} may be two dates: choose if the day or the month comes first"
    if parts["h"] is None:
        if forms.zone is None:
            return f"{cell[:40]!r} names no time zone: choose the time zone of this file"
        # A day is as good as its last second: what was sent on that day came before.
        end = datetime.combine(day, time(23, 59, 59), _zone(forms.zone))
        return Moment(end.astimezone(UTC), day_only=True)
    hour = int(parts["h"])
    if half := parts["half"]:
        if not 1 <= hour <= 12:  # noqa: PLR2004 - hours of half a day
            raise ValueError(hour)
        hour = hour % 12 + (12 if half[0] in "pP" else 0)
    fraction = int((parts["f"] or "0")[:6].ljust(6, "0"))
    clock = time(hour, int(parts["min"] or 0), int(parts["s"] or 0), fraction)
    if parts["zone"]:
        zone = parts["zone"].upper()
        offset = "+00:00" if zone in {"Z", "UTC", "GMT"} else zone
        return Moment(datetime.fromisoformat(f"{day.isoformat()}T{clock.isoformat()}{offset}"))
    if forms.zone is None:
        return f"{cell[:40]!r} names no time zone: choose the time zone of this file"
    return Moment(datetime.combine(day, clock, _zone(forms.zone)).astimezone(UTC))


def _date(parts: Mapping[str, str | None], forms: CellForms) -> date | None:
    """Return the date; None where day and month may be either of two numbers."""
    year = int(parts["y"] or 0)
    if parts.get("week"):
        return date.fromisocalendar(year, int(parts["week"] or 0), int(parts["day"] or 0))
    year += 2000 if year < 100 else 0  # noqa: PLR2004 - two digits
    if name := parts.get("name"):
        month = _MONTHS.index(name[:3].lower()) + 1
        return date(year, month, int(parts["d"] or 0))
    if parts.get("a"):
        first, second = int(parts["a"] or 0), int(parts["b"] or 0)
        day = day_place(first, second) or forms.day
        if first == second:
            day = "first"
        if day is None:
            return None
        return date(year, *((second, first) if day == "first" else (first, second)))
    return date(year, int(parts["m"] or 0), int(parts["d"] or 0))


def day_place(first: int, second: int) -> DayPlace | None:
    """Return the place of the day among a date's two numbers, if only one can be a month."""
    if first > 12 >= second:  # noqa: PLR2004 - months
        return "first"
    return "second" if second > 12 >= first else None  # noqa: PLR2004


class TimeSigns(Struct, frozen=True):
    """What a column of times leaves open.

    Attributes:
        needs_zone: some name no time zone.
        needs_day: some may be two dates.
        day: place of the day, if some dates can only be read one way.
    """

    needs_zone: bool = False
    needs_day: bool = False
    day: DayPlace | None = None


def find_time_signs(cells: Iterable[Cell]) -> TimeSigns:
    """Find what has to be asked to read a column of times."""
    places: set[DayPlace] = set()
    needs_zone = needs_day = False
    for cell in cells:
        if not isinstance(cell, str) or _SECONDS.fullmatch(cell.strip()) or is_nothing(cell):
            continue
        parts = _parts(cell)
        if parts is None:
            continue
        needs_zone |= not parts["zone"]
        if parts.get("a"):
            first, second = int(parts["a"] or 0), int(parts["b"] or 0)
            place = day_place(first, second)
            if place:
                places.add(place)
            needs_day |= place is None and first != second
    day = next(iter(places)) if len(places) == 1 else None
    return TimeSigns(needs_zone, needs_day, day)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def is_zone(name: str) -> bool:
    """Return True for the name of a time zone."""
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def local_time(moment: datetime, zone: str | None) -> str:
    """Write a time as it is in a zone, for people."""
    local = moment.astimezone(UTC if zone is None else _zone(zone))
    return f"{local:%Y-%m-%d %H:%M:%S} {zone or 'UTC'}"


SKEW = timedelta(minutes=5)  # by which a sender's clock may be ahead

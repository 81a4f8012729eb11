"""Cells as mailers and spreadsheets write them: numbers, times, categories, ids."""

from datetime import UTC, datetime

import pytest

from webapp.files.cell_values import (
    CategoryCells,
    CellForms,
    find_decimal,
    find_time_signs,
    is_nothing,
    read_id,
    read_moment,
    read_number,
)

NEW_YORK = CellForms("America/New_York")


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1.234,5", 1234.5),
        ("1,234.5", 1234.5),
        ("1 234,50", 1234.5),
        ("1\u00a0234,50", 1234.5),
        ("1'234.50", 1234.5),
        ("1,234,567", 1234567),
        ("1.234.567,89", 1234567.89),
        ("0,125", 0.125),
        ("1.234", 1.234),
        ("€ 12,50", 12.5),
        ("12.50 EUR", 12.5),
        ("-$5", -5),
        ("(3.5)", -3.5),
        ("−4", -4),
        ("007", 7),
        ("1e3", 1000),
        (3, 3),
        (2.5, 2.5),
    ],
)
def test_number_is_read_as_people_write_it(cell, number) -> None:
    assert read_number(cell, None) == pytest.approx(number)


@pytest.mark.parametrize(
    "cell", ["", "NULL", "null", "N/A", "#N/A", "-", "None", "\\N", float("nan"), None]
)
def test_number_is_nothing_where_nothing_is_written(cell) -> None:
    assert read_number(cell, None) is None
    assert is_nothing(cell)


@pytest.mark.parametrize("cell", ["1_0", "inf", "12 %", "1,23,456", "1.2.3", "often", "1" * 200])
def test_number_is_refused_where_it_is_none(cell) -> None:
    assert read_number(cell, None) == f"{cell[:40]!r} is not a number"


def test_number_that_may_be_two_is_asked_about() -> None:
    assert read_number("1,234", None) == (
        "'1,234' may be 1234 or 1.234: choose how numbers are written"
    )
    assert read_number("1,234", ".") == pytest.approx(1234)
    assert read_number("1,234", ",") == pytest.approx(1.234)
    assert read_number("1.234", ",") == pytest.approx(1234)
    assert "not written like the other numbers" in str(read_number("1.234,5", "."))
    assert find_decimal(["12", "1,234", "0,5"]) == ","
    assert find_decimal(["1,234", "0.5"]) == "."
    assert find_decimal(["1,234", "12"]) is None
    assert find_decimal(["1,5", "1.5"]) is None


@pytest.mark.parametrize(
    ("cell", "utc"),
    [
        ("2026-11-29 16:07:26", (2026, 11, 29, 21, 7, 26)),
        ("2026-11-29T16:07:26Z", (2026, 11, 29, 16, 7, 26)),
        ("2026-11-29T16:07:26+05:30", (2026, 11, 29, 10, 37, 26)),
        ("29/11/2026 20:50", (2026, 11, 30, 1, 50)),
        ("11/29/2026 8:50 PM", (2026, 11, 30, 1, 50)),
        ("29.11.2026 20:50", (2026, 11, 30, 1, 50)),
        ("Nov 29, 2026 8:50 pm", (2026, 11, 30, 1, 50)),
        ("Sun, 29 Nov 2026 08:50:00 +0100", (2026, 11, 29, 7, 50)),
        ("4/4/2026 12:00 AM", (2026, 4, 4, 4, 0)),
        ("2026-07-01 10:00", (2026, 7, 1, 14, 0)),
        ("2026-03-08 02:30", (2026, 3, 8, 7, 30)),  # an hour that is skipped: 03:30
        ("1800000000", (2027, 1, 15, 8, 0)),
        (1800000000500.0, (2027, 1, 15, 8, 0, 0, 500_000)),
    ],
)
def test_moment_is_read_in_the_zone_of_its_file(cell, utc) -> None:
    moment = read_moment(cell, NEW_YORK)
    assert (moment.at, moment.day_only) == (datetime(*utc, tzinfo=UTC), False)


@pytest.mark.parametrize(
    "cell", ["2026-11-29", "20261129", 20261129, "2026-W48-7", "29.11.26", "29 November 2026"]
)
def test_moment_of_a_date_is_the_end_of_its_day(cell) -> None:
    moment = read_moment(cell, NEW_YORK)
    assert (moment.at, moment.day_only) == (datetime(2026, 11, 30, 4, 59, 59, tzinfo=UTC), True)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("2026-02-30", "is no date of the calendar"),
        ("2026-11-29 25:00", "is no date of the calendar"),
        ("monday", "is no date or time"),
        ("3/4/2026", "may be two dates"),
        (True, "is no time"),
        ("9" * 200, "is no date or time"),
    ],
)
def test_moment_is_refused_where_it_is_none(cell, words) -> None:
    assert words in read_moment(cell, NEW_YORK)


def test_moment_without_a_zone_needs_that_of_its_file() -> None:
    for cell in ("2026-11-29 16:07", "2026-11-29"):
        assert "choose the time zone" in read_moment(cell, CellForms())
    assert read_moment("2026-11-29 16:07Z", CellForms()).at.hour == 16


def test_time_signs_tell_what_is_to_be_asked() -> None:
    signs = find_time_signs(["3/4/2026", "29/11/2026 20:50", None, "NULL"])
    assert (signs.needs_zone, signs.needs_day, signs.day) == (True, True, "first")
    signs = find_time_signs(["3/4/2026 10:00Z", "4/5/2026 10:00Z"])
    assert (signs.needs_zone, signs.needs_day, signs.day) == (False, True, None)
    assert not find_time_signs(["1800000000", 3.0]).needs_zone
    day = CellForms("UTC", "first")
    assert read_moment("3/4/2026 10:00", day).at == datetime(2026, 4, 3, 10, tzinfo=UTC)


def test_category_is_found_however_a_spreadsheet_writes_it() -> None:
    channel, vip = CategoryCells(["Web", "Phone"]), CategoryCells(["true", "false"])
    assert [channel.read(c) for c in ("web", "Web ", "PHONE", "Fax", None, "NULL")] == [
        *("Web", "Web", "Phone", "Fax", None, None)
    ]
    assert [vip.read(cell) for cell in (True, "TRUE", "False ", 1.0)] == [
        *("true", "true", "false", "1")
    ]
    twins = CategoryCells(["a", "A", "NULL"])
    assert [twins.read(cell) for cell in ("a", "A", " a", "NULL")] == ["a", "A", " a", "NULL"]


def test_id_is_kept_to_the_byte() -> None:
    assert [read_id(cell) for cell in ("007 ", " a", "=1", 12.0, "NA")] == [
        *(("007 ", None), (" a", None), ("=1", None), ("12", None), ("NA", None))
    ]


@pytest.mark.parametrize("cell", [None, "", "NULL", 4.9e17, "4.91701E+11"])
def test_id_that_names_nobody_is_refused(cell) -> None:
    _, wrong = read_id(cell)
    assert wrong is not None

"""Workbooks as tables: what people see in the first sheet, within the limits of a child."""

import struct

import pytest

from bandits.errors import InvalidInput
from tests.workbooks import DATE, PADDED, TIME, formula, number, people, sheet, text, truth
from tests.workbooks import write_workbook as write
from webapp.files import spreadsheet_child
from webapp.files.spreadsheet import SheetFile
from webapp.files.table_files import open_table

HEADER = [text("id"), text("when"), text("at"), text("vip"), text("sum")]


def table_of(path):
    """Columns and rows of a workbook."""
    table = open_table(path)
    rows = [
        row
        for portion in table.portions(table.columns)
        for row in zip(*portion.cells.values(), strict=True)
    ]
    return table, rows


def refusal(path):
    with pytest.raises(InvalidInput) as caught:
        open_table(path)
    (fault,) = caught.value.faults
    return fault.detail


def test_workbook_has_the_values_that_people_see(tmp_path) -> None:
    """Ids keep zeros and blanks, whole numbers have no point, dates are as Excel shows them."""
    row = [
        text("007 "),
        number(46355, DATE),
        number(46355.868055555, TIME),
        truth(value=True),
        number(12.5),
    ]
    long = [number(4917012345), None, None, truth(value=False), formula("12")]
    write(tmp_path / "people.xlsx", {"List": sheet([HEADER, row, [], long])})
    table, rows = table_of(tmp_path / "people.xlsx")
    assert table.columns == ("id", "when", "at", "vip", "sum")
    assert rows == [
        ("007 ", "2026-11-29", "2026-11-29T20:50:00", True, 12.5),
        (4917012345, None, None, False, "12"),
    ]
    assert table.notes == ()


def test_workbook_is_read_from_its_first_visible_sheet_with_cells(tmp_path) -> None:
    sheets = {"Notes": people([["hidden"]]), "Empty": sheet([]), "List": people([["id"], ["a"]])}
    write(tmp_path / "people.xlsx", sheets | {"More": people([["x"]])}, hidden=["Notes"])
    table, rows = table_of(tmp_path / "people.xlsx")
    assert (table.columns, rows) == (("id",), [("a",)])
    (note,) = table.notes
    assert note == "Sheet “List” is read, the first with cells; not read: Empty, More, Notes."


def test_workbook_may_have_a_title_above_its_columns(tmp_path) -> None:
    rows = [
        [text("Customers 2026")],
        [],
        [text("id"), text("city"), text("x")],
        *[[text("a"), text("b"), text("c")]],
    ]
    write(tmp_path / "people.xlsx", {"List": sheet(rows, first=3)})
    table, rows = table_of(tmp_path / "people.xlsx")
    assert (table.columns, rows) == (("id", "city", "x"), [("a", "b", "c")])
    assert table.notes == ("The column names are in row 5.",)
    assert table.place(6, "id").endswith("row 6, column 'id'")


def test_workbook_fills_merged_cells_downwards(tmp_path) -> None:
    rows = [
        [text("city"), text("id")],
        [text("Bonn"), text("a")],
        [None, text("b")],
        [text("Köln"), text("c")],
    ]
    write(tmp_path / "people.xlsx", {"List": sheet(rows, merged=["A2:A3"])})
    table, cells = table_of(tmp_path / "people.xlsx")
    assert cells == [("Bonn", "a"), ("Bonn", "b"), ("Köln", "c")]
    assert table.notes == ("Merged cells: each row of them has their value.",)


def test_workbook_may_begin_anywhere(tmp_path) -> None:
    rows = [[None, text("id"), text("x")], [None, text("a"), text("b")], [None, None, text("c")]]
    write(tmp_path / "people.xlsx", {"List": sheet(rows, merged=["B4:B5"], first=3)})
    table, cells = table_of(tmp_path / "people.xlsx")
    assert (table.columns, cells) == (("id", "x"), [("a", "b"), ("a", "c")])


@pytest.mark.parametrize(("before", "letter"), [([], "B"), ([None] * 3, "E")])
def test_workbook_names_columns_without_a_name(tmp_path, before, letter) -> None:
    rows = [[text("id"), None, text("x")], [text("a"), text("b"), text("c")]]
    write(tmp_path / "people.xlsx", {"List": sheet([[*before, *row] for row in rows])})
    table, _ = table_of(tmp_path / "people.xlsx")
    assert table.columns == ("id", f"Column {letter}", "x")


def test_workbook_whose_numbers_only_look_padded_says_so(tmp_path) -> None:
    rows = [[text("id")], [number(123, PADDED)]]
    write(tmp_path / "people.xlsx", {"List": sheet(rows)}, padded=True)
    table, cells = table_of(tmp_path / "people.xlsx")
    assert cells == [(123,)]
    assert "leading zeros" in table.notes[0]


def test_workbook_that_unpacks_to_far_more_is_refused(tmp_path) -> None:
    """200 kB that unpack to 200 MB: before anything is unpacked."""
    content = write(
        tmp_path / "bomb.xlsx",
        {"List": people([["id"]])},
        extra={"xl/bomb.xml": b" " * 200_000_000},
    )
    assert len(content) < 300_000
    assert "bomb.xlsx: unpacks from" in refusal(tmp_path / "bomb.xlsx")


def test_workbook_that_lies_about_its_size_is_ended(tmp_path, monkeypatch) -> None:
    """What the directory of the package says of a part is not what the part unpacks to."""
    path = tmp_path / "liar.xlsx"
    cells = "".join(f"<c><v>{i}</v></c>" for i in range(100))
    rows = f"<row>{cells}</row>" * 60_000
    content = bytearray(write(path, {"List": f"<sheetData>{rows}</sheetData>"}))
    name = b"xl/worksheets/sheet1.xml"
    at = content.rindex(name)
    size = struct.unpack_from("<L", content, at - 22)[0]
    assert size > 50_000_000
    struct.pack_into("<L", content, at - 22, 1000)
    path.write_bytes(content)
    assert "liar.xlsx: " in refusal(path)


@pytest.mark.parametrize("column", ["XFD", "CV"])
def test_workbook_with_a_far_cell_ends_the_child_alone(tmp_path, column) -> None:
    """Two cells far apart: read as a whole, the first sheet needs 500 GB, and the second 3."""
    cell = '<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'
    far = cell.format(1, "A") + cell.format(1_048_576, column)
    write(tmp_path / "far.xlsx", {"List": f"<sheetData>{far}</sheetData>"})
    assert "needs more memory or time" in refusal(tmp_path / "far.xlsx")


def test_workbook_with_many_columns_is_refused(tmp_path) -> None:
    cells = "".join(f'<c t="inlineStr"><is><t>c{i}</t></is></c>' for i in range(2001))
    write(tmp_path / "wide.xlsx", {"List": f'<sheetData><row r="1">{cells}</row></sheetData>'})
    assert "has 2,001 columns; at most 2,000 are taken" in refusal(tmp_path / "wide.xlsx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04 and no more", "is no workbook, or it is damaged"),
        (b"\xd0\xcf\x11\xe0 an old one", "is an old Excel file, or has a password"),
        (b"id\na\n", "is no workbook: save it as .xlsx or .csv"),
    ],
)
def test_file_that_is_no_workbook_is_refused(tmp_path, content, words) -> None:
    (tmp_path / "people.xlsx").write_bytes(content)
    assert words in refusal(tmp_path / "people.xlsx")


def test_workbook_without_cells_is_empty(tmp_path) -> None:
    write(tmp_path / "people.xlsx", {"List": sheet([])})
    assert refusal(tmp_path / "people.xlsx") == f"{tmp_path}/people.xlsx: is empty"


def test_workbook_under_another_name_is_still_one(tmp_path) -> None:
    write(tmp_path / "people.csv", {"List": people([["id"], ["a"]])})
    assert table_of(tmp_path / "people.csv")[1] == [("a",)]


def test_sheet_file_is_read_once_and_private(tmp_path, monkeypatch) -> None:
    write(tmp_path / "people.xlsx", {"List": people([["id"], ["a"]])})
    cells = tmp_path / "cells"
    first = SheetFile(tmp_path / "people.xlsx", "people.xlsx", cells)
    assert cells.stat().st_mode & 0o777 == 0o600
    (tmp_path / "people.xlsx").unlink()
    again = SheetFile(tmp_path / "people.xlsx", "people.xlsx", cells)
    assert [row.cells for row in again.rows()] == [row.cells for row in first.rows()] == [("a",)]


def test_child_has_limits_of_memory_time_and_output() -> None:
    limits = spreadsheet_child.MEMORY, spreadsheet_child.CPU_SECONDS, spreadsheet_child.OUTPUT
    assert limits == (1_500_000_000, 60, 2_000_000_000)

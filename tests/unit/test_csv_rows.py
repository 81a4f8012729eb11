"""CSV rows: their separator is found outside quotes, and a bad row takes no other with it."""

import io

import pytest

from bandits import csv_rows
from bandits.csv_rows import whole_rows
from bandits.errors import InvalidInput


def rows_of(content, **options):
    """Rows of a text, and the lines and reasons of bad ones."""
    bad = []
    file = io.StringIO(content, newline="")
    rows = [row for _, row in whole_rows("f.csv", file, lambda *b: bad.append(b), **options)]
    return rows, bad


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (
            'a;b;"Name (first, last, title, suffix)"\r\n1;2;x\r\n',
            [["a", "b", "Name (first, last, title, suffix)"], ["1", "2", "x"]],
        ),
        (
            'a\tb\t"City, region, country"\n1\t2\tX\n',
            [["a", "b", "City, region, country"], ["1", "2", "X"]],
        ),
        ('a,b,"x;y;z;w"\n1,2,q\n', [["a", "b", "x;y;z;w"], ["1", "2", "q"]]),
        ("a|b\n1,5|2\n", [["a", "b"], ["1,5", "2"]]),
        ("a^b\n1^2\n", [["a", "b"], ["1", "2"]]),
        ("a;last, first\n1;2\n", [["a", "last, first"], ["1", "2"]]),
        ("sep=;\na;b\n1,2;3\n", [["a", "b"], ["1,2", "3"]]),
        ('"sep=|"\r\na|b,c\n1|2\n', [["a", "b,c"], ["1", "2"]]),
        ("a\n1,5\n", [["a"]]),
        ("e-mail\nx;y\n", [["e-mail"], ["x;y"]]),
    ],
)
def test_rows_are_split_by_what_stands_outside_quotes(content, rows) -> None:
    assert rows_of(content)[0] == rows


def test_rows_are_split_by_what_somebody_names() -> None:
    assert rows_of("a,b;c\n1,2;3\n", delimiter=";")[0] == [["a,b", "c"], ["1,2", "3"]]


@pytest.mark.parametrize(
    ("content", "lines", "bad"),
    [
        ('a,b\n1,"x\n2,3\n4,5\n', ["2", "4"], [(2, "unexpected end of data")]),
        ('a,b\n1,"x"y\n2,3\n4\n\n5,6\n', ["2", "5"], [2, 4]),
        ('a,b\n1,"x\n2,"y"z\n3,"q"\n', ["3"], [2, 3]),
        ('a,b\n1,"two\nlines"\n2,x,\n3,y\n', ["1", "3"], [(4, "has 3 fields, the header has 2")]),
    ],
)
def test_bad_row_takes_no_other_with_it(content, lines, bad) -> None:
    rows, found = rows_of(content)
    assert [row[0] for row in rows[1:]] == lines
    assert [
        b if isinstance(expected, tuple) else b[0] for b, expected in zip(found, bad, strict=True)
    ] == bad


def test_bad_row_is_refused_where_nobody_takes_it() -> None:
    with pytest.raises(InvalidInput, match="line 2: has 1 fields"):
        list(whole_rows("f.csv", io.StringIO("a,b\n1\n")))


def test_quote_without_an_end_reads_no_whole_file_again(monkeypatch) -> None:
    """A file of nothing but open quotes would be read once for each of its rows."""
    monkeypatch.setattr(csv_rows, "MAX_RECORD", 1000)
    monkeypatch.setattr(csv_rows, "_MOST_READ_AGAIN", 20_000)
    rows, bad = rows_of("a,b\n1,x\n" + '2,"y\n' + "3,z\n" * 2000)
    assert len(rows) == 2002
    assert bad == [(3, "is longer than 1,000 characters: a quote has no end")]
    with pytest.raises(InvalidInput, match="too many quotes have no end"):
        rows_of("a,b\n" + '2,"y" z\n3,"\n' * 40_000)

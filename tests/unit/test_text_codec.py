"""Encodings of text files: found by their bytes."""

import pytest

from bandits.errors import InvalidInput
from webapp.files.table_files import RejectedRow, TableFormat, open_table
from webapp.files.text_codec import find_encoding

TEXT = "id,city\nu1,Köln\nu2,Orléans – Süd\n"


def cities(path, **options):
    """Column of cities, and rows that were left out."""
    rejected = []
    table = open_table(path, **options)
    portions = list(table.portions(["id", "city"], reject=rejected.append))
    return [city for p in portions for city in p.cells["city"]], rejected


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-8-sig"), "utf-8"),
        (TEXT.encode("cp1252"), "windows-1252"),
        (TEXT.encode("utf-16"), "utf-16-le"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        ("\ufeff" + TEXT).encode("utf-16-be")
        and (("\ufeff" + TEXT).encode("utf-16-be"), "utf-16-be"),
    ],
)
def test_encoding_is_found(tmp_path, content, encoding) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(content)
    assert find_encoding(path) == encoding
    assert open_table(path).columns == ["id", "city"]
    assert cities(path) == (["Köln", "Orléans – Süd"], [])


def test_encoding_may_be_chosen(tmp_path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes("id,city\nu1,Łódź\n".encode("cp1250"))
    assert cities(path)[0] != ["Łódź"]
    assert cities(path, table_format=TableFormat("windows-1250")) == (["Łódź"], [])


def test_row_with_bytes_of_another_encoding_is_left_out_alone(tmp_path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(("id,city\n" + "u,Köln\n" * 20).encode() + "v,Köln\n".encode("cp1252"))
    good, rejected = cities(path)
    assert good == ["Köln"] * 20
    assert rejected == [RejectedRow(22, "city", "K?ln", "is not text in UTF-8")]
    with pytest.raises(InvalidInput, match="line 22, column 'city': is not text in UTF-8"):
        list(open_table(path).portions(["id"]))

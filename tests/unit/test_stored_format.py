"""The numbers of stored formats."""

import pytest
from sqlalchemy.dialects import sqlite

from storage.stored_format import FormattedBlob, FormattedJson, NewerFormat, pack_json, unpack_json

DIALECT = sqlite.dialect()
CONTENT = [b"\x82\xa6family", b"\x95\x91", b"\xc1 behind a mark of its own", b"x" * 100_000]
DOCUMENTS = [
    "{}",
    '{"version":1,"arms":[]}',
    '"a\\nb"',
    '{"format":7,"content":1}',
    "null",
    "[1,\n2]",
]


@pytest.mark.parametrize("content", CONTENT)
def test_blob_comes_back_behind_its_number(content):
    column = FormattedBlob("table.column", 3)
    stored = column.process_bind_param(content, DIALECT)
    assert stored[:2] == b"\xc1\x03"
    assert column.process_result_value(stored, DIALECT) == content


@pytest.mark.parametrize("content", [b"", None])
def test_blob_without_content_has_no_number(content):
    column = FormattedBlob("table.column", 1)
    assert column.process_bind_param(content, DIALECT) == content
    assert column.process_result_value(content, DIALECT) == content


def test_blob_from_before_numbers_is_read_as_it_is():
    column = FormattedBlob("table.column", 1)
    assert column.process_result_value(b"\x95\x91", DIALECT) == b"\x95\x91"


def test_blob_of_an_earlier_format_is_read_by_a_later_version():
    stored = FormattedBlob("table.column", 1).process_bind_param(b"x", DIALECT)
    assert FormattedBlob("table.column", 2).process_result_value(stored, DIALECT) == b"x"


def test_blob_of_a_newer_format_is_refused():
    stored = FormattedBlob("table.column", 2).process_bind_param(b"x", DIALECT)
    with pytest.raises(NewerFormat, match=r"table\.column was stored in format 2, .* up to 1\."):
        FormattedBlob("table.column", 1).process_result_value(stored, DIALECT)


@pytest.mark.parametrize("content", DOCUMENTS)
def test_json_comes_back_out_of_its_document(content):
    column = FormattedJson("table.column", 1)
    stored = column.process_bind_param(content, DIALECT)
    assert stored == pack_json(content, 1) != content
    assert column.process_result_value(stored, DIALECT) == content
    assert column.process_bind_param(None, DIALECT) is None
    assert column.process_result_value(None, DIALECT) is None


@pytest.mark.parametrize("content", ["", "{}", '{"version":1}', '"text"', "not JSON at all"])
def test_json_from_before_numbers_is_read_as_it_is(content):
    assert unpack_json(content, "table.column", 1) == content


def test_json_of_a_newer_format_is_refused():
    with pytest.raises(NewerFormat, match=r"place was stored in format 12, .* up to 11\."):
        unpack_json(pack_json("{}", 12), "place", 11)
    assert unpack_json(pack_json("{}", 11), "place", 12) == "{}"

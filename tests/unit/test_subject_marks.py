"""Marks of an event hold every name in it, however deep, so that erasure finds its subject."""

import msgspec
import pytest

from storage.connections.marks import marks_in, marks_of
from storage.store_context import subject_hasher

HASHER = subject_hasher(b"k" * 32)


def holds(body: bytes, name: str) -> bool:
    return set(marks_of(HASHER, [name])) <= set(marks_in(HASHER, body))


@pytest.mark.parametrize(
    "content",
    [
        {"email": "ann@shop.example"},
        {"data": [{"to": [" Ann@Shop.EXAMPLE "]}]},
        {"to": "Ann <ann@shop.example>"},
        {"url": "https://shop.example/?who=ann%40shop.example&n=1"},
        {"ann@shop.example": 1},
        [["ann@shop.example"]],
    ],
)
def test_marks_find_an_address_wherever_it_stands(content):
    body = msgspec.json.encode(content)
    assert holds(body, "ann@shop.example")
    assert not holds(body, "bob@shop.example")


def test_marks_find_numbers_spaces_and_other_alphabets():
    assert holds(b'{"customer": 4711}', "4711")
    assert holds(b'{"customer": "Ann B"}', "ann b")
    assert holds(b'{"name": "J\\u00fcrgen"}', "jürgen")
    assert holds('{"name": "Ju\u0308rgen"}'.encode(), "jürgen")  # composed or not


def test_marks_find_names_in_what_is_no_json():
    assert holds(b"to=ann%40shop.example&ip=1", "ann@shop.example")
    assert holds(b"{broken ann@shop.example", "ann@shop.example")
    assert marks_in(HASHER, b"") == []
    assert marks_in(HASHER, b"\xff\xfe") is not None


def test_marks_survive_nesting_that_no_parser_follows():
    assert holds(b"[" * 100_000 + b'"ann@shop.example"', "ann@shop.example")

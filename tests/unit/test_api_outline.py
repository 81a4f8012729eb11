"""The outline of a JSON text: names, depth, and names that come twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.errors import InvalidInput
from webapp.api.outline import Outline, refuse_repeated_names

texts = st.text() | st.text(alphabet='{}[]":,\\ab')
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=30,
)


def names(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(names, value.values()))
    return sum(map(names, value)) if isinstance(value, list) else 0


def depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_names_and_depth_are_those_of_the_value(value, ascii_only, indent) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="replace")
    outline = Outline(text)
    assert (outline.names, outline.depth) == (names(value), depth(value))
    assert [outline.deeper_than(levels) for levels in range(8)] == [
        depth(value) > levels for levels in range(8)
    ]
    refuse_repeated_names(text, outline)


@given(values, texts, values, values)
def test_a_name_that_comes_twice_is_found_wherever_it_is(around, name, first, second) -> None:
    quoted = json.dumps(name)
    twice = f"{{{quoted}: {json.dumps(first)}, {quoted}: {json.dumps(second)}}}"
    text = f'[{json.dumps(around)}, {{"x": {twice}}}]'.encode()
    with pytest.raises(InvalidInput) as caught:
        refuse_repeated_names(text, Outline(text))
    assert caught.value.faults[0].pointer.startswith("/1/x/")


@given(st.binary())
def test_whatever_comes_has_an_outline(text) -> None:
    outline = Outline(text)
    assert outline.names >= 0
    assert outline.depth >= 0

"""The outline of a JSON text: names, depth, and names that come twice."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.errors import InvalidInput
from bandits.schemas import Request
from webapp.api.bodies import MAX_DEPTH, Body
from webapp.api.decisions import ChooseBatch
from webapp.api.json_scan import Outline, is_lean, refuse_repeated_names
from webapp.api.rewards import RewardBatch

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
def test_json_scan_counts_names_and_depth(value, ascii_only, indent) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="replace")
    outline = Outline(text)
    assert (outline.names, outline.depth) == (names(value), depth(value))
    refuse_repeated_names(text)
    if depth(value) <= MAX_DEPTH:
        assert Body(Any).decode(text) == value


@given(values, texts, values, values)
def test_duplicate_name_is_found_wherever_it_is(around, name, first, second) -> None:
    quoted = json.dumps(name)
    twice = f"{{{quoted}: {json.dumps(first)}, {quoted}: {json.dumps(second)}}}"
    text = f'[{json.dumps(around)}, {{"x": {twice}}}]'.encode()
    with pytest.raises(InvalidInput) as caught:
        refuse_repeated_names(text)
    assert caught.value.faults[0].pointer.startswith("/1/x/")


@given(st.binary())
def test_json_scan_takes_any_text(text) -> None:
    outline = Outline(text)
    assert outline.names >= 0
    assert outline.depth >= 0


def written(pairs) -> str:
    """Write an object with names as often as they come."""
    inner = (f"{json.dumps(n)}:{v if isinstance(v, str) else written(v)}" for n, v in pairs)
    return f"{{{','.join(inner)}}}"


def repeats(pairs) -> bool:
    names = [name for name, _ in pairs]
    return len(set(names)) < len(names) or any(
        repeats(value) for _, value in pairs if isinstance(value, list)
    )


members = st.one_of(
    st.tuples(st.just("decision_id"), st.sampled_from(["null", '"d:{"'])),
    st.tuples(st.just("personalize"), st.sampled_from(["true", "false"])),
    st.tuples(
        st.just("context"),
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "null"])), max_size=3),
    ),
)
requests = st.lists(
    st.lists(members, max_size=4).map(lambda more: [("subject_id", '"u"'), *more]), max_size=4
)


@given(requests)
def test_duplicate_names_in_a_long_body_are_found(objects) -> None:
    inside = ",".join(map(written, objects))
    text = f'{{"requests":[{inside}]{" " * 3000}}}'.encode()
    if any(map(repeats, objects)):
        with pytest.raises(InvalidInput, match="twice"):
            Body(ChooseBatch).decode(text)
    else:
        assert len(Body(ChooseBatch).decode(text).requests) == len(objects)


MADE = msgspec.field(default_factory=int)  # what is made is written, told or not


@pytest.mark.parametrize(
    ("kind", "lean"),
    [
        (list[dict[str, float | None]], True),
        (Any, False),
        (dict[str, msgspec.Raw], False),
        (msgspec.defstruct("Required", [("a", int)]), True),
        (msgspec.defstruct("Written", [("a", int, 1)]), False),
        (msgspec.defstruct("Omitted", [("a", int, 1)], omit_defaults=True), True),
        (msgspec.defstruct("Made", [("a", int, MADE)], omit_defaults=True), False),
        (msgspec.defstruct("Inner", [("a", list[msgspec.defstruct("W", [("b", int, 1)])])]), False),
    ],
)
def test_is_lean_is_false_where_encoding_may_add_fields(kind, lean) -> None:
    assert is_lean(msgspec.inspect.type_info(kind)) == lean


def test_is_lean_is_true_of_bodies_that_come_by_the_thousand() -> None:
    for content in (Request, RewardBatch, ChooseBatch):
        assert is_lean(msgspec.inspect.type_info(content))

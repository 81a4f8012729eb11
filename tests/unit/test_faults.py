"""What does not fit a type is told at its place, in our words, whatever msgspec's release."""

from datetime import datetime
from math import inf
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from bandits.errors import Fault
from bandits.identifiers import Key
from bandits.schemas import Id
from bandits.validation import misfit, refusal


class Circle(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="circle"):
    radius: Annotated[float, Meta(gt=0, le=10)]


class Square(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="square"):
    side: int = 1


class Drawing(Struct, frozen=True, forbid_unknown_fields=True):
    shapes: Annotated[list[Circle | Square], Meta(min_length=1, max_length=3)]
    colours: dict[Key, str] = {}
    title: Annotated[str, Meta(min_length=2, max_length=5)] | None = None


class Loose(Struct, frozen=True):
    size: int


def shapes(*listed: Any, **rest: Any) -> dict[str, Any]:
    return {"shapes": list(listed), **rest}


DOT = {"kind": "circle", "radius": 1}
TIME = "must be a time as in RFC 3339"
MISFITS = [
    (int, "7", "", "must be a whole number, not text"),
    (int, 7.5, "", "must be a whole number, not a number"),
    (int, True, "", "must be a whole number, not true or false"),
    (float, None, "", "must be a number, not null"),
    (bool, 1, "", "must be true or false, not a whole number"),
    (str, ["a"], "", "must be text, not a list"),
    (str, inf, "", "must be text, not a number"),
    (None, {}, "", "must be null, not an object"),
    (list[int], (1, "a"), "/1", "must be a whole number, not text"),
    (dict[str, int], [], "", "must be an object, not a list"),
    (dict[str, int], {"a/b": None}, "/a~1b", "must be a whole number, not null"),
    (dict[Key, int], {"a b": 1}, "/a b",
     "as a name must be a letter or digit, then letters, digits, _ . or -; at most 64"),
    (Annotated[dict[str, int], Meta(min_length=1)], {}, "",
     "must be an object of length at least 1"),
    (Annotated[int, Meta(ge=2)], 1, "", "must be a whole number of at least 2"),
    (Annotated[float, Meta(le=1.0)], 2, "", "must be a number of at most 1"),
    (Annotated[float, Meta(gt=0.5)], 0.5, "", "must be a number above 0.5"),
    (Annotated[float, Meta(lt=1e50)], 1e50, "", "must be a number below 1e+50"),
    (Annotated[int, Meta(multiple_of=5)], 7, "", "must be a whole number that is a multiple of 5"),
    (Annotated[int, Meta(le=9)], 10**400, "", "must be a finite number"),
    (Annotated[str, Meta(pattern="^a$")], "b", "", "must be text matching '^a$'"),
    (Id, "a b", "", "must be 1 to 128 printable ASCII characters without spaces"),
    (Literal["a", "b"], "c", "", "must be 'a' or 'b', not 'c'"),
    (Literal["a", "b"], 3, "", "must be text, not a whole number"),
    (Literal[1, 2], None, "", "must be a whole number, not null"),
    (int | None, "x", "", "must be a whole number or null, not text"),
    (None | float | str, [], "", "must be a number or text or null, not a list"),
    (float | list[float], ["x"], "/0", "must be a number, not text"),
    (datetime, "yesterday", "", f"{TIME}, not text"),
    (datetime, 1767225600, "", f"{TIME}, not a whole number"),
    (Annotated[datetime, Meta(tz=True)], "2026-01-01T00:00:00", "",
     f"{TIME} with a timezone component"),
    (Annotated[datetime, Meta(tz=False)], "2026-01-01T00:00:00Z", "",
     f"{TIME} without a timezone component"),
    (Drawing, [], "", "must be an object, not a list"),
    (Drawing, {}, "/shapes", "is required"),
    (Drawing, shapes(), "/shapes", "must be a list of length at least 1"),
    (Drawing, shapes(DOT, DOT, DOT, DOT), "/shapes", "must be a list of length at most 3"),
    (Drawing, shapes(DOT, colour=1), "/colour",
     "unknown field; known are shapes, colours, title"),
    (Drawing, shapes(DOT, title="x"), "/title", "must be text of length at least 2"),
    (Drawing, shapes(DOT, title="x" * 6), "/title", "must be text of length at most 5"),
    (Drawing, shapes(DOT, title=7), "/title", "must be text or null, not a whole number"),
    (Drawing, shapes(3), "/shapes/0", "must be an object, not a whole number"),
    (Drawing, shapes(DOT, {}), "/shapes/1/kind", "is required"),
    (Drawing, shapes(DOT, {"kind": 3}), "/shapes/1/kind", "must be text, not a whole number"),
    (Drawing, shapes({"kind": "line"}), "/shapes/0/kind",
     "must be 'circle' or 'square', not 'line'"),
    (Drawing, shapes({"kind": "circle"}), "/shapes/0/radius", "is required"),
    (Drawing, shapes({"kind": "circle", "radius": 11}), "/shapes/0/radius",
     "must be a number of at most 10"),
    (Drawing, shapes({"kind": "square", "side": None}), "/shapes/0/side",
     "must be a whole number, not null"),
    (Drawing, shapes({"kind": "square", "edge": 1}), "/shapes/0/edge",
     "unknown field; known are kind, side"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "place", "detail"), MISFITS)
def test_refusal_names_the_place_and_what_would_fit(kind, value, place, detail) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, kind)
    assert refusal(value, kind).faults == (Fault(place, detail),)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Drawing, shapes(DOT, {"kind": "square"}, colours={"a": "b"}, title="abc")),
        (Drawing, shapes(DOT, title=None)),
        (Loose, {"size": 1, "more": "is left out"}),
        (float | None, 3),
        (Annotated[datetime, Meta(tz=True)], "2026-01-01T00:00:00+02:00"),
        (Any, {"a": [1, {"b": None}]}),
    ],
)
def test_misfit_of_what_fits_is_none(kind, value) -> None:
    msgspec.convert(value, kind)
    assert misfit(value, kind) is None


@pytest.mark.parametrize("number", [inf, -inf, float("nan"), 10**309])
@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (float, lambda n: n, ""),
        (Any, lambda n: {"a": [0, n]}, "/a/1"),
        (dict[str, Any], lambda n: {"a": {"b": n}}, "/a/b"),
        (Loose, lambda n: {"size": 1, "more": [n]}, "/more/0"),
    ],
)
def test_misfit_finds_a_number_that_no_double_holds(number, kind, value, place) -> None:
    assert misfit(value(number), kind) == Fault(place, "must be a finite number")


@pytest.mark.parametrize(
    ("kind", "value", "detail"),
    [
        (int, "lots", "must be a whole number, not text"),
        (Annotated[int, Meta(ge=10)], "9", "must be a whole number of at least 10"),
        (bool, "perhaps", "must be true or false, not text"),
        (float | None, "x", "must be a number or null, not text"),
    ],
)
def test_misfit_of_text_that_stands_for_a_value(kind, value, detail) -> None:
    assert misfit(value, kind, strict=False) == Fault("", detail)
    for text, other in (("12", int), ("true", bool), ("1.5", float | None), ("null", float | None)):
        assert misfit(text, other, strict=False) is None


def test_refusal_of_what_only_msgspec_finds_wrong_is_told_at_the_whole() -> None:
    assert refusal(3, int).faults == (Fault("", "is not as declared"),)

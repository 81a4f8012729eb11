"""What errors carry, and what they say."""

import inspect
import re

import pytest

from bandits import errors
from bandits.errors import (
    AlreadyExists,
    BanditsError,
    Fault,
    FixedOnceStarted,
    InvalidInput,
    NotFound,
    StaleEdit,
    Unavailable,
)

EVERY = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, BanditsError)]


def drawn_parents() -> dict[str, str]:
    """Read the tree at the top of the module: each error's name and its parent's."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line):
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            if depth:
                parents[found[2]] = above[depth - 1]
    return parents


def test_error_tree_in_the_docstring_is_that_of_the_classes() -> None:
    classes = {c.__name__: c.__bases__[0].__name__ for c in EVERY if c is not BanditsError}
    assert drawn_parents() == classes


def test_invalid_input_says_every_place_and_what_would_fit() -> None:
    error = InvalidInput([Fault("/floor", "must be at most 0.1"), Fault("", "is empty")])
    assert str(error) == "/floor: must be at most 0.1; /: is empty"


def test_invalid_input_moves_below_the_place_of_its_part() -> None:
    error = InvalidInput.at("/name", "unknown").under("/policy")
    assert error.faults == (Fault("/policy/name", "unknown"),)


@pytest.mark.parametrize(
    ("error", "carried"),
    [
        (NotFound("experiment", "spring"), {"kind": "experiment", "key": "spring"}),
        (AlreadyExists("experiment", "spring"), {"kind": "experiment", "key": "spring"}),
        (StaleEdit("spring", 3, 5), {"key": "spring", "edited": 3, "current": 5}),
        (Unavailable("the disk is full", 7), {"retry_after_seconds": 7}),
        (FixedOnceStarted([Fault("/key", "x")]), {"faults": (Fault("/key", "x"),)}),
    ],
)
def test_an_error_carries_what_its_message_is_made_of(
    error: BanditsError, carried: dict[str, object]
) -> None:
    assert {name: getattr(error, name) for name in carried} == carried
    for value in carried.values():
        if isinstance(value, str):
            assert value in str(error)

"""The names of the code and of its tests keep to the rules of the house."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

names = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("names.py"))))

# Shares of all there are; where nothing is said of a share, the least that can be: none.
LIMITS = {
    "gerund_modules": 0.02,
    "participle_classes": 0.01,
    "repeated_classes": 0,
    "repeated_modules": 0,
    "headless_docstrings": 0.02,
    "empty_locals": 0,
    "empty_fields": 0,
    "empty_parameters": 0,
    "tests_of_nothing": 0,
}


@pytest.mark.parametrize("measured", LIMITS)
def test_names_keep_to_their_limit(measured: str) -> None:
    measure = getattr(names, measured)()
    assert measure.limit == LIMITS[measured]
    value = measure.value
    assert value <= LIMITS[measured], "\n".join([*measure.row(), *map(str, measure.offenders)])


@pytest.mark.parametrize(
    ("name", "participle"),
    [
        ("Chosen", True),
        ("Kept", True),
        ("_Waiting", True),
        ("Deciding", True),
        ("Penalised", True),
        ("Split", False),
        ("Everything", False),
        ("ChosenArm", False),
        ("KeptSnapshots", False),
        ("Engine", False),
    ],
)
def test_participle_classes_are_told_by_their_form(name: str, participle: bool) -> None:
    assert names.is_participle(name) is participle


@pytest.mark.parametrize(
    ("name", "pronoun"),
    [
        ("test_what_is_late_never_counts", True),
        ("test_it", True),
        ("test_ones_of_old_go", True),
        ("test_all_that_is_stored_is_told", True),
        ("test_nobody_signs_in", True),
        ("test_whatever_is_sent_is_answered", True),
        ("test_all_routes_are_documented", False),
        ("test_every_route_is_documented", False),
        ("test_a_late_event_never_counts", False),
        ("test_items_are_counted", False),
        ("test_erase_twice_is_a_no_op", False),
    ],
)
def test_pronouns_at_the_start_of_a_test_are_found(name: str, pronoun: bool) -> None:
    assert names.begins_with_a_pronoun(name) is pronoun


def test_bindings_of_every_kind_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import a as found
known: int = 1
told, (mine, *made) = 1, (2, 3)
for given in x: pass
with x as each: pass
(some := 1)
try: pass
except E as wanted: pass
match x:
    case [asked, *found]: pass
    case {**known}: pass
print([told for told in x])
"""
    tree = names.ast.parse(code)
    monkeypatch.setitem(names.bound.__globals__, "trees", lambda *_: {Path("x.py"): tree})
    bound = [name for _, _, name in names.bound()]
    assert set(bound) == names.EMPTY
    assert len(bound) == 13
    assert names.empty_locals().size == 13


def test_a_class_of_two_packages_is_found() -> None:
    uses = [names.Use(Path(f"{room}.py"), 1, "Line") for room in "ab"]
    assert names.repeated([*uses, names.Use(Path("c.py"), 1, "Lines")]) == (uses, 1)

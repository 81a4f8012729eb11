"""What every registered policy declares of itself, from which its form and its page are made."""

import inspect

import msgspec
import pytest

from bandits.errors import InvalidInput
from bandits.registry import make, policies

every_policy = pytest.mark.parametrize("name", sorted(policies()))


@every_policy
def test_every_parameter_declares_title_help_default_and_bounds(name):
    policy = policies()[name]
    declared = msgspec.json.schema(policy)["$defs"][policy.__name__]["properties"]
    for field in declared.values():
        assert field["title"]
        assert field["description"].endswith(".")
        assert "default" in field
        bounded = field.get("items", field)
        assert {"minimum", "exclusiveMinimum"} & set(bounded) or "enum" in bounded
        assert "maximum" in bounded or "enum" in bounded


@every_policy
def test_a_parameter_outside_its_bounds_is_refused_by_name(name):
    policy = policies()[name]
    declared = msgspec.json.schema(policy)["$defs"][policy.__name__]["properties"]
    for key, field in declared.items():
        if "maximum" not in field:
            continue
        for wrong in (field["maximum"] + 1, float("nan"), float("inf"), "1", None, True):
            with pytest.raises(InvalidInput) as caught:
                make(name, {key: wrong})
            assert caught.value.faults[0].pointer == f"/params/{key}"


@every_policy
def test_an_unknown_parameter_is_refused_by_name(name):
    with pytest.raises(InvalidInput, match="unknown parameter"):
        make(name, {"no_such_parameter": 1})


@every_policy
def test_every_policy_says_what_it_is_for_and_where_it_comes_from(name):
    policy = policies()[name]
    text = inspect.getdoc(policy)
    summary, blank, *_ = text.split("\n")
    assert summary.endswith(".")
    assert blank == ""
    assert "Source: " in text
    assert policy.label

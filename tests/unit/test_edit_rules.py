"""What a running experiment lets change."""

from typing import Any

import msgspec
import pytest

from bandits.experiment import Experiment
from bandits.lifecycle import refused_changes
from bandits.registry import make, policies

SPRING: dict[str, Any] = {
    "key": "spring",
    "slots": [
        {"key": "subject", "variants": [{"key": "a"}, {"key": "b"}]},
        {"key": "discount", "variants": [{"key": "d0"}, {"key": "d10"}]},
    ],
    "policy": {"name": "uniform"},
    "reward": {"metrics": {"click": {}, "open": {}}},
}


def refused(**changes: Any) -> list[str]:
    """Return the places that a started spring experiment does not allow to change."""
    old = msgspec.convert(SPRING, Experiment)
    new = msgspec.convert(SPRING | changes, Experiment)
    return [f.pointer for f in refused_changes(old, new)]


def subjects(*keys: str, **first: Any) -> list[dict[str, Any]]:
    """Declare other variants of the subject line; `first` changes the first of them."""
    variants: list[dict[str, Any]] = [{"key": k} for k in keys]
    variants[0] |= first
    return [{"key": "subject", "variants": variants}, SPRING["slots"][1]]


FREE: list[dict[str, Any]] = [
    {},
    {"name": "Spring sale"},
    {"floor": 0.05},
    {"learn_every_seconds": 5},
    {"ends_at": "2026-12-01T00:00:00Z"},
    {"retention_days": 30},
    {"machine_rules": 1},
    {"guardrails": [{"event": "complaint", "limit": 0.003}]},
    {"paused": [{"subject": "b"}]},
    {"send_within_seconds": 3600},
    {"control": {"subject": "a", "discount": "d0"}},  # as it was, now spelled out
    {"policy": {"name": "thompson"}},
    {"policy": {"name": "uniform", "params": {"weights": [1, 2]}}},
    {"slots": subjects("a", "b", payload={"text": "a typo less"})},
    {"slots": subjects("a", "b", paused=True, name="A")},
    {"slots": subjects("a", "b", "c", "d")},
    {"reward": {"metrics": {"open": {}, "click": {}}}},
]
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"key": "summer"}, ["/key"]),
    ({"control": {"subject": "b"}}, ["/control"]),
    ({"exclude": [{"subject": "b"}]}, ["/exclude"]),
    ({"holdout": 0.1}, ["/holdout"]),
    ({"forgetting": {"half_life_seconds": 1}}, ["/forgetting"]),
    ({"assignment": "per_subject"}, ["/assignment"]),
    ({"await_activation": True}, ["/await_activation"]),
    ({"strict": True}, ["/strict"]),
    ({"attribution": "last"}, ["/attribution"]),
    ({"starts_at": "2026-12-01T00:00:00Z"}, ["/starts_at"]),
    ({"reward": {"metrics": {"click": {}}}}, ["/reward"]),
    ({"context": [{"kind": "category", "name": "x", "values": ["a"]}]}, ["/context"]),
    ({"slots": subjects("a")}, ["/slots/0/variants"]),
    ({"slots": subjects("b", "a")}, ["/slots/0/variants/1", "/slots/0/variants/0"]),
    ({"slots": subjects("a", "c", "b")}, ["/slots/0/variants/2"]),
    ({"slots": SPRING["slots"][:1]}, ["/slots"]),
    ({"slots": SPRING["slots"][::-1]}, ["/slots"]),
    ({"slots": [SPRING["slots"][0] | {"kind": "discount"}, SPRING["slots"][1]]}, ["/slots"]),
    ({"holdout": 0.1, "strict": True}, ["/holdout", "/strict"]),
]


MARGIN: dict[str, Any] = {
    "slots": [SPRING["slots"][0], {"key": "discount", "variants": [{"key": "d0"}, {"key": "d10"}]}],
    "reward": {"metrics": {"order": {"weight": 0.4, "high": 90, "by": {"discount": {"d10": 0.3}}}}},
}


def refused_weights(by: dict[str, float], *, goal: str = "maximise", added: str = "d20") -> list:
    """Return the places refused where a variant is added with weights of all discounts."""
    rule = MARGIN["reward"] | {"goal": goal}
    old = msgspec.convert(SPRING | MARGIN | {"reward": rule}, Experiment)
    metric = rule["metrics"]["order"] | {"by": {"discount": by}}
    discounts = {"key": "discount", "variants": [{"key": k} for k in ("d0", "d10", added)]}
    declared = {"slots": [SPRING["slots"][0], discounts], "reward": rule}
    declared["reward"] = rule | {"metrics": {"order": metric}}
    return [f.pointer for f in refused_changes(old, msgspec.convert(SPRING | declared, Experiment))]


@pytest.mark.parametrize("goal", ["maximise", "minimise"])
def test_edit_may_add_a_variant_with_its_weight_or_without(goal: str) -> None:
    assert refused_weights({"d10": 0.3, "d20": 0.2}, goal=goal) == []
    assert refused_weights({"d10": 0.3}, goal=goal) == []
    assert refused_weights({"d10": 0.3, "d20": -0.1}) == []


@pytest.mark.parametrize(
    "by",
    [{"d10": 0.31, "d20": 0.2}, {"d20": 0.2}, {"d0": 0.5, "d10": 0.3}, {"d0": 0.4, "d10": 0.3}],
)
def test_edit_may_not_change_the_weight_of_a_variant_that_was_sent(by: dict[str, float]) -> None:
    assert refused_weights(by) == ["/reward"]


def test_edit_may_not_move_the_bounds_that_results_were_mirrored_within() -> None:
    assert refused_weights({"d10": 0.3, "d20": -0.1}, goal="minimise") == ["/reward/metrics"]


@pytest.mark.parametrize("changes", FREE)
def test_edit_that_leaves_the_log_meaningful_is_allowed(changes: dict[str, Any]) -> None:
    assert refused(**changes) == []


@pytest.mark.parametrize(("changes", "places"), REFUSED)
def test_edit_that_would_falsify_the_log_is_refused(
    changes: dict[str, Any], places: list[str]
) -> None:
    assert refused(**changes) == places


def test_edit_rules_cover_every_field_of_an_experiment() -> None:
    tried = {name for changes in (*FREE, *(c for c, _ in REFUSED)) for name in changes}
    assert tried == {f.name for f in msgspec.structs.fields(Experiment)}


def test_edit_may_change_the_rule_of_attribution_where_there_is_one() -> None:
    rules = ("last", "all")
    last, every = (msgspec.convert(SPRING | {"attribution": rule}, Experiment) for rule in rules)
    assert refused_changes(last, every) == []
    assert [f.pointer for f in refused_changes(every, msgspec.convert(SPRING, Experiment))] == [
        "/attribution"
    ]


def test_edit_to_a_policy_of_another_statistic_is_refused() -> None:
    moments = make("uniform").statistic
    others = [n for n in policies() if make(n).statistic is not moments]
    assert others
    for name in others:
        assert refused(policy={"name": name}) == ["/policy/name"]

"""What an experiment is made of, and what it refuses."""

from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment, covers
from bandits.machines import RULES
from bandits.versions import Arm, Configuration

SPRING: dict[str, Any] = {
    "key": "spring",
    "slots": [
        {"key": "subject", "variants": [{"key": "a", "payload": {"text": "Hi"}}, {"key": "b"}]},
        {"key": "discount", "variants": [{"key": "d0"}, {"key": "d10"}, {"key": "d20"}]},
    ],
    "policy": {"name": "uniform"},
    "reward": {"metrics": {"click": {}}, "window_seconds": 60},
}


def experiment(**changes: Any) -> Experiment:
    """Make the spring experiment with other fields."""
    return msgspec.convert(SPRING | changes, Experiment)


def slots(*variants: list[str], paused: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Declare slots s0, s1 … with these variants."""
    return [
        {"key": f"s{i}", "variants": [{"key": v, "paused": v in paused} for v in keys]}
        for i, keys in enumerate(variants)
    ]


def categories(*sizes: int) -> list[dict[str, Any]]:
    """Declare features x0, x1 … with so many values."""
    return [
        {"kind": "category", "name": f"x{i}", "values": [str(v) for v in range(size)]}
        for i, size in enumerate(sizes)
    ]


def faults(**changes: Any) -> list[Fault]:
    """Return what `check` says of the changed experiment."""
    with pytest.raises(InvalidInput) as caught:
        experiment(**changes).check()
    return list(caught.value.faults)


def test_the_arms_are_every_combination_the_last_slot_changing_fastest() -> None:
    assert experiment().combinations() == [
        ("a", "d0"),
        ("a", "d10"),
        ("a", "d20"),
        ("b", "d0"),
        ("b", "d10"),
        ("b", "d20"),
    ]


def test_an_exclusion_takes_out_every_arm_that_agrees_with_it() -> None:
    left = experiment(exclude=[{"discount": "d20"}, {"subject": "b", "discount": "d10"}])
    assert left.combinations() == [("a", "d0"), ("a", "d10"), ("b", "d0")]


def test_the_control_is_the_first_variants_where_none_is_named() -> None:
    assert experiment().control_variants() == ("a", "d0")
    assert experiment(control={"discount": "d20"}).control_variants() == ("a", "d20")
    configuration = Configuration.first(experiment(control={"subject": "b", "discount": "d10"}))
    assert configuration.arms[configuration.control] == Arm(("b", "d10"))


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"slots": slots(["a", "b"], ["a", "a"])}, ["/slots/1/variants/1/key"]),
        ({"slots": slots(["a", "b"]) * 2}, ["/slots/1/key"]),
        ({"slots": slots(["a"])}, ["/slots"]),
        ({"slots": slots([f"v{i}" for i in range(60)], list("abcdefghi"))}, ["/slots"]),
        ({"slots": slots(*([[f"v{i}" for i in range(100)]] * 4))}, ["/slots"]),
        ({"floor": 0.09}, ["/floor"]),
        ({"exclude": [{}]}, ["/exclude/0"]),
        (
            {"exclude": [{"sender": "a"}, {"subject": "c"}]},
            ["/exclude/0/sender", "/exclude/1/subject"],
        ),
        ({"exclude": [{"subject": "a", "discount": "d0"}]}, ["/control"]),
        ({"control": {"subject": "c"}}, ["/control/subject"]),
        ({"slots": slots(["a", "b"], paused=("a",))}, ["/control/s0"]),
        ({"forgetting": {}}, ["/forgetting"]),
        ({"forgetting": {"half_life_seconds": 1, "window_seconds": 1}}, ["/forgetting"]),
        ({"policy": {"name": "thomson"}}, ["/policy/name"]),
        ({"policy": {"name": "uniform", "params": {"a/b": 1}}}, ["/policy/params/a~1b"]),
        (
            {"policy": {"name": "uniform", "params": {"weights": [-1]}}},
            ["/policy/params/weights/0"],
        ),
        ({"reward": {"metrics": {"click": {"weight": 0}}}}, ["/reward/metrics/click/weight"]),
        (
            {"context": [{"kind": "number", "name": "age", "low": 1, "high": 0}]},
            ["/context/0/high"],
        ),
        ({"context": categories(1) * 2}, ["/context/1/name"]),
        ({"context": categories(100, 100, 100, 100, 100)}, ["/context"]),
        (
            {
                "context": categories(100, 100),
                "policy": {"name": "linucb"},
                "slots": slots(list("abcdefghij"), list("klmnopqrst")),
            },
            ["/context"],
        ),
    ],
)
def test_inconsistent_experiment_is_refused_at_its_place(
    changes: dict[str, Any], places: list[str]
) -> None:
    assert [f.pointer for f in faults(**changes)] == places


def test_exclusions_cost_little_however_many_there_are() -> None:
    many = experiment(
        slots=slots([f"v{i}" for i in range(100)], [f"w{i}" for i in range(100)]),
        exclude=[{"s0": f"v{i // 10}", "s1": f"w{i % 100}"} for i in range(1000)],
    )
    left = many.combinations()
    assert len(left) == 100 * 100 - 1000
    assert ("v0", "w9") not in left
    assert ("v0", "w10") in left


def test_faults_of_an_experiment_are_named_at_once() -> None:
    found = faults(floor=0.4, forgetting={}, reward={"metrics": {"click": {"weight": 0}}})
    assert [f.pointer for f in found] == ["/reward/metrics/click/weight", "/forgetting"]


def test_a_payload_has_a_size() -> None:
    variants = [{"key": "a"}, {"key": "b", "payload": {"html": "x" * 100_001}}]
    found = faults(slots=[{"key": "block", "variants": variants}])
    assert found == [
        Fault("/slots/0/variants/1/payload", "must be at most 100,000 bytes, it is 100,012")
    ]


def test_a_policy_that_cannot_take_the_rewards_names_those_that_can() -> None:
    reward = {"metrics": {"click": {}, "unsubscribe": {"weight": -5}}}
    (fault,) = faults(policy={"name": "thompson"}, reward=reward)
    assert fault.pointer == "/policy/name"
    assert "thompson takes rewards in [0, 1], this rule gives [-5, 1]" in fault.detail
    assert "thompson_gaussian" in fault.detail
    experiment(policy={"name": "uniform"}, reward=reward).check()


def test_support_covers_bounds_that_lie_within_it() -> None:
    assert covers((0, 1), (0, 1))
    assert covers((-np.inf, np.inf), (-5, 1))
    assert not covers((0, 1), (-0.1, 1))
    assert not covers((0, 1), (0, 1.1))


def test_the_problem_tells_levels_features_and_bounds() -> None:
    context = [{"kind": "category", "name": "channel", "values": ["Web", "Phone"]}]
    problem = Configuration.first(
        experiment(exclude=[{"subject": "b", "discount": "d20"}], context=context)
    ).problem
    assert problem.n_arms == 5
    assert problem.slot_levels.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    assert problem.n_features == 3
    assert (problem.low, problem.high) == (0.0, 1.0)


def test_eligible_arms_are_those_not_paused_and_not_left_out() -> None:
    configuration = Configuration.first(
        experiment(slots=slots(["a", "b"], ["x", "y"], paused=("y",)))
    )
    assert configuration.eligible().tolist() == [0, 2]
    assert configuration.eligible({"s0": ["b"]}).tolist() == [2]
    assert configuration.eligible({"s0": ["b", "a"], "s1": ["x", "y"]}).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("restriction", "place"),
    [
        ({"s9": ["a"]}, "/s9"),
        ({"s0": ["a", "c"]}, "/s0"),
        ({"s1": ["y"]}, ""),
        ({"s0": []}, ""),
    ],
)
def test_a_restriction_that_cannot_be_met_is_refused(
    restriction: dict[str, list[str]], place: str
) -> None:
    configuration = Configuration.first(
        experiment(slots=slots(["a", "b"], ["x", "y"], paused=("y",)))
    )
    with pytest.raises(InvalidInput) as caught:
        configuration.eligible(restriction)
    assert [f.pointer for f in caught.value.faults] == [place]


def test_a_draft_may_change_its_arms_freely() -> None:
    first = Configuration.first(experiment(slots=slots(["a", "b", "c"])))
    second = first.next_version(experiment(slots=slots(["c", "x"])), started=False)
    assert second.version == 2
    assert second.arms == (Arm(("c",)), Arm(("x",)))


def test_started_experiment_keeps_arm_indices_and_newcomers_join_at_the_end() -> None:
    first = Configuration.first(experiment(slots=slots(["a", "b"], ["x", "y"])))
    second = first.next_version(experiment(slots=slots(["a", "b", "c"], ["x", "y"])), started=True)
    assert [a.variants for a in second.arms[:4]] == [a.variants for a in first.arms]
    assert second.arms[4:] == (Arm(("c", "x"), newcomer=True), Arm(("c", "y"), newcomer=True))
    third = second.next_version(
        experiment(slots=slots(["a", "b", "c"], ["x", "y", "z"])), started=True
    )
    assert third.arms[:6] == second.arms
    assert third.newcomers.tolist() == [False] * 4 + [True] * 5
    assert third.problem.slot_levels[-1].tolist() == [2, 2]


def test_the_sender_is_told_each_slot_with_its_payload() -> None:
    configuration = Configuration.first(experiment())
    assert configuration.slots_of(2) == {
        "subject": {"variant": "a", "payload": {"text": "Hi"}},
        "discount": {"variant": "d20", "payload": {}},
    }


def test_a_configuration_reads_back_as_it_was_written() -> None:
    configuration = Configuration.first(
        experiment(
            exclude=[{"subject": "b"}],
            forgetting={"half_life_seconds": 60},
            context=[{"kind": "number", "name": "age", "low": 0, "high": 99}],
        )
    )
    packed = msgspec.json.encode(configuration)
    assert msgspec.json.decode(packed, type=Configuration) == configuration


@pytest.mark.parametrize("version", [*RULES, None])
def test_experiment_takes_each_version_of_the_rules_against_machines(version) -> None:
    assert experiment(machine_rules=version).machine_rules == version


@pytest.mark.parametrize("version", [0, max(RULES) + 1])
def test_experiment_takes_no_other_version_of_them(version) -> None:
    with pytest.raises(msgspec.ValidationError):
        experiment(machine_rules=version)

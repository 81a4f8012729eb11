"""From requests to decisions, column by column."""

from typing import Any

import msgspec
import numpy as np
import pytest

from bandits.engine.active_policy import ActivePolicy
from bandits.engine.assignment import AssignmentBatch, assign_arms
from bandits.errors import IdReused, InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Request
from bandits.versions import Configuration, decode_restriction

NOW = 1_700_000_000.0
SPRING: dict[str, Any] = {
    "key": "spring",
    "slots": [{"key": "subject", "variants": [{"key": v} for v in "abc"]}],
    "policy": {"name": "uniform"},
    "reward": {"metrics": {"click": {}}},
    "context": [{"kind": "number", "name": "recency", "low": 0, "high": 10}],
}


def live(**changes: Any) -> ActivePolicy:
    """Let the spring experiment decide, with other fields."""
    config = Configuration.first(msgspec.convert(SPRING | changes, Experiment))
    return ActivePolicy("spring", b"a salt of 16 by.", config, None)


def batch(*requests: Request) -> AssignmentBatch:
    """Make the batch of one call."""
    return AssignmentBatch(b"spring", requests, NOW)


def test_decision_id_twice_with_one_body_is_one_decision() -> None:
    first = Request("u", {"recency": 1.0}, "id-1", {"subject": ["a", "b"]})
    made = batch(first, Request("v"), first)
    assert made.ids[0] == "id-1"
    assert made.rows == [0, 1, 0]
    assert len(made.ids) == len(made.subjects) == len(made.digests) == 2


@pytest.mark.parametrize(
    "other",
    [
        Request("v", {"recency": 1.0}, "id-1"),
        Request("u", {"recency": 2.0}, "id-1"),
        Request("u", {"recency": 1.0}, "id-1", {"subject": ["a"]}),
        Request("u", {"recency": 1.0}, "id-1", personalize=False),
    ],
)
def test_decision_id_twice_with_different_bodies_is_refused(other: Request) -> None:
    with pytest.raises(IdReused):
        batch(Request("u", {"recency": 1.0}, "id-1"), other)


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    one = Request("u", {"a": 1.0, "b": 2.0}, "id-1")
    other = Request("u", {"b": 2.0, "a": 1.0}, "id-1")
    assert batch(one, other).rows == [0, 0]


def test_digest_depends_on_the_experiment() -> None:
    request = Request("u", None, "id-1")
    assert batch(request).digests != AssignmentBatch(b"autumn", [request], NOW).digests


def test_ids_made_here_ascend_in_the_order_of_the_call_and_have_no_digest() -> None:
    made = batch(*(Request(f"u{i}") for i in range(100)))
    assert made.ids == sorted(set(made.ids))
    assert made.digests == [b""] * 100


def test_columns_hold_every_distinct_request() -> None:
    requests = [
        Request("u0", {"recency": 5.0}, "x"),
        Request("u1", {"recency": 11.0}),
        Request("u2"),
    ]
    chosen = assign_arms(live(), batch(*requests))
    assert list(chosen.subjects) == ["u0", "u1", "u2"]
    assert chosen.contexts.tolist() == [[1, 0.5], [1, 1], [1, 0.5]]
    assert chosen.propensities == pytest.approx([1 / 3] * 3)
    assert chosen.mended == (1, 0, 1)
    assert not chosen.holdout.any()
    assert not chosen.fallback.any()


def test_request_alone_gets_what_it_gets_among_many() -> None:
    requests = [Request(f"u{i}", {"recency": i / 10}, f"id-{i}") for i in range(40)]
    together = assign_arms(live(), batch(*requests))
    alone = [assign_arms(live(), batch(r)) for r in requests]
    assert together.arms.tolist() == [int(c.arms[0]) for c in alone]
    assert len(set(together.arms.tolist())) == 3


def test_eligible_sets_are_met_and_stored_in_one_spelling() -> None:
    requests = [
        Request("u", eligible={"subject": ["c", "b", "c"]}),
        Request("v", eligible={"subject": ["a"]}),
        Request("w", eligible={"subject": ["b", "c"]}),
        Request("x"),
    ]
    chosen = assign_arms(live(), batch(*requests))
    assert chosen.eligible_sets[0] == chosen.eligible_sets[2]
    assert decode_restriction(chosen.eligible_sets[0]) == {"subject": ["b", "c"]}
    assert decode_restriction(chosen.eligible_sets[3]) is None
    assert chosen.arms[0] in (1, 2)
    assert chosen.arms[1] == 0
    assert chosen.propensities == pytest.approx([0.5, 1.0, 0.5, 1 / 3])


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        (Request("u", {"recency": "x"}), "/requests/3/context/recency"),
        (Request("u", {"a/b": 1.0}), "/requests/3/context/a~1b"),
        (Request("u", eligible={"subject": ["z"]}), "/requests/3/eligible/subject"),
        (Request("u", eligible={"header": ["a"]}), "/requests/3/eligible/header"),
    ],
)
def test_fault_names_the_row_of_the_call(request_: Request, place: str) -> None:
    twice = Request("u", None, "id-1")  # so that rows of the call and distinct ones differ
    with pytest.raises(InvalidInput) as caught:
        assign_arms(live(), batch(twice, twice, Request("v"), request_))
    assert [f.pointer for f in caught.value.faults] == [place]


def test_held_out_subjects_get_the_control_with_certainty_and_others_are_drawn() -> None:
    deciding = live(holdout=0.5, control={"subject": "b"})
    requests = [Request(f"u{i}", None, f"id-{i}") for i in range(100)]
    chosen = assign_arms(deciding, batch(*requests))
    held = chosen.holdout
    assert held.tolist() == deciding.held_out([f"u{i}" for i in range(100)]).tolist()
    assert 0 < held.sum() < 100
    assert np.all(chosen.arms[held] == 1)
    assert np.all(chosen.propensities[held] == 1)
    assert chosen.propensities[~held] == pytest.approx(1 / 3)
    assert set(chosen.arms[~held].tolist()) == {0, 1, 2}


def test_held_out_subjects_not_eligible_for_the_control_are_set_apart() -> None:
    deciding = live(holdout=0.5)
    requests = [Request(f"u{i}", eligible={"subject": ["b", "c"]}) for i in range(100)]
    chosen = assign_arms(deciding, batch(*requests))
    assert np.all(chosen.arms[chosen.holdout] == 1)
    assert chosen.fallback.tolist() == chosen.holdout.tolist()


@pytest.mark.parametrize("strict", [False, True])
def test_request_without_personalization_is_encoded_as_unknown(strict: bool) -> None:
    declared = {"kind": "number", "name": "recency", "low": 0, "high": 10, "default": 4.0}
    deciding = live(context=[declared], strict=strict)
    known = {"recency": 9.0}
    requests = [Request("u", known), Request("v", known, personalize=False), Request("w", known)]
    contexts = assign_arms(deciding, batch(*requests)).contexts
    assert contexts[:, 1].tolist() == [0.9, 0.4, 0.9]
    assert assign_arms(deciding, batch(requests[1])).mended == (0, 0, 0)  # nothing was to be mended


def test_a_context_that_may_not_be_used_is_not_even_looked_at() -> None:
    bad = {"recency": float("nan"), "undeclared": "x"}
    assign_arms(live(), batch(Request("u", bad, personalize=False)))
    with pytest.raises(InvalidInput) as caught:
        assign_arms(live(), batch(Request("u", bad, personalize=False), Request("v", bad)))
    assert {f.pointer.rpartition("/")[0] for f in caught.value.faults} == {"/requests/1/context"}


def test_digest_leaves_out_a_context_that_may_not_be_used() -> None:
    one = Request("u", {"recency": 1.0}, "id-1", personalize=False)
    other = Request("u", {"recency": 2.0}, "id-1", personalize=False)
    assert batch(one, other).rows == [0, 0]

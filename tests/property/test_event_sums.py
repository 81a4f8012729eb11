"""Event sums add up in any order, and hold what the sums of each event's rewards would."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.array_types import FloatArray
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.event_sums import EventSums, EventValues
from tests.conftest import SOAK

N_ARMS = 3
NAMES = ("click", "open", "order")
ELIGIBLE = np.array([[True, True, True], [True, True, False], [True, True, True]])
some = settings(max_examples=1000 if SOAK else 50)

# Powers of two, so that nothing is rounded and sums of parts are the very sums of all.
decision = st.tuples(
    st.integers(0, len(ELIGIBLE) - 1),
    st.integers(0, N_ARMS),  # the last is the control group
    st.sampled_from([0.25, 0.5]),
    st.tuples(*(st.sampled_from([0.0, 0.0, 1.0, 2.0]) for _ in NAMES)),
)
decisions = st.lists(decision, max_size=12)
Decision = tuple[int, int, float, tuple[float, ...]]


def summed(rows: Sequence[Decision]) -> EventSums:
    """Sum decisions, all of them closed."""
    strata, groups = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    strata[(strata == 1) & (groups == N_ARMS - 1)] = 0  # nobody gets what they could not
    propensities = np.array([row[2] for row in rows])
    events = {
        name: EventValues(
            np.minimum(values, np.inf if name == "order" else 1.0),
            np.ceil(values),
            valued=name == "order",
        )
        for i, name in enumerate(NAMES)
        if (values := np.array([row[3][i] for row in rows])).any()
    }
    sent = EventSums.from_sent(groups, events, N_ARMS)
    return sent + EventSums.from_closed(ELIGIBLE, strata, groups, propensities, events)


def rewards_of(rows: Sequence[Decision], rewards: FloatArray) -> AipwSums:
    """Sum rewards of the decisions that were not held out, one by one."""
    kept = [i for i, row in enumerate(rows) if row[1] < N_ARMS]
    strata, arms = (np.array([rows[i][j] for i in kept], dtype=np.int64) for j in (0, 1))
    strata[(strata == 1) & (arms == N_ARMS - 1)] = 0
    propensities = np.array([rows[i][2] for i in kept])
    return AipwSums.from_decisions(ELIGIBLE, strata, arms, rewards[kept], propensities)


def same(one: EventSums, other: EventSums) -> None:
    """Compare all fields."""
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(a, b), field.name


@some
@given(decisions, decisions, decisions)
def test_event_sums_add_up_in_any_order(
    one: list[Decision], other: list[Decision], third: list[Decision]
) -> None:
    at_once = summed(one + other + third)
    same(summed(one) + summed(other) + summed(third), at_once)
    same(summed(third) + (summed(other) + summed(one)), at_once)
    same(at_once - summed(other), summed(one) + summed(third))
    same(at_once - at_once, EventSums.zeros(N_ARMS))
    same(EventSums.load(at_once.dump()), at_once)


@some
@given(decisions)
def test_event_sums_have_what_rewards_of_each_event_sum_up_to(rows: list[Decision]) -> None:
    sums, arms = summed(rows), rewards_of(rows, np.zeros(len(rows)))
    rates, amounts = sums.rate_sums(NAMES, arms), sums.value_sums(["order"], arms)
    for i, name in enumerate(NAMES):
        values = np.array([row[3][i] for row in rows])
        expected = rewards_of(rows, (values != 0).astype(np.float64))
        assert np.array_equal(rates.moments[i], expected.moments), name
        assert np.array_equal(rates.earning[i], expected.earning), name
    values = rewards_of(rows, np.array([row[3][2] for row in rows]))
    assert np.array_equal(amounts.moments[0], values.moments)
    assert np.array_equal(amounts.earning[0], values.earning)


@some
@given(decisions, decisions)
def test_padded_arms_come_before_the_control_group(
    one: list[Decision], other: list[Decision]
) -> None:
    padded = summed(one).padded(N_ARMS + 2)
    same(padded + summed(other).padded(N_ARMS + 2), summed(one + other).padded(N_ARMS + 2))
    assert padded.sent[-1] == sum(row[1] == N_ARMS for row in one)
    assert padded.sent[N_ARMS : N_ARMS + 2].tolist() == [0, 0]
    assert padded.so_far.shape == (len(padded.names), 4, N_ARMS + 3)


def test_event_sums_of_rare_names_take_no_room() -> None:
    rows: list[Decision] = [(0, 1, 0.5, (0.0, 1.0, 0.0))]
    sums = summed(rows)
    assert (sums.names, sums.amounts) == (("open",), ())
    assert sums.happened.shape == (1, 1, 3, N_ARMS)
    assert sums.valued.size == 0
    assert sums.counts(["click", "open"])[0][:, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    with pytest.raises(ValueError, match="not in"):
        sums.spread((), (), sums.eligible)

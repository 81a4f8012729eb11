"""Laws of what the engine does to a policy's probabilities before it draws."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.allocation import apply_floor, cap_newcomers, default_floor
from bandits.array_types import BoolArray, FloatArray
from bandits.experiment import MAX_ARMS, MAX_FLOOR_TOTAL

ROUNDING = 1e-12


@st.composite
def distributions(draw: Any) -> FloatArray:
    """Draw probabilities (K,) or (n, K), zeros and certainties among them."""
    n_arms = draw(st.integers(1, 12))
    weight = st.one_of(st.just(0.0), st.floats(1e-12, 1.0))
    rows = draw(
        st.lists(
            st.lists(weight, min_size=n_arms, max_size=n_arms).filter(any), min_size=1, max_size=3
        )
    )
    weights = np.array(rows)
    out = weights / weights.sum(axis=-1, keepdims=True)
    return out[0] if draw(st.booleans()) else out


@st.composite
def with_newcomers(draw: Any) -> tuple[FloatArray, BoolArray]:
    """Draw probabilities, and which arms are new."""
    probabilities = draw(distributions())
    n_arms = probabilities.shape[-1]
    return probabilities, np.array(draw(st.lists(st.booleans(), min_size=n_arms, max_size=n_arms)))


@given(with_newcomers(), st.floats(0, 1))
def test_floor_keeps_row_sums_at_one(given_: tuple[FloatArray, BoolArray], part: float) -> None:
    probabilities, newcomers = given_
    floor = part * MAX_FLOOR_TOTAL / probabilities.shape[-1]
    out = apply_floor(cap_newcomers(probabilities, newcomers), floor)
    assert out.sum(axis=-1) == pytest.approx(1, abs=ROUNDING)
    assert np.all(out >= 0)


@given(distributions(), st.floats(0, 1))
def test_floor_is_given_to_every_arm_and_keeps_their_order(
    probabilities: FloatArray, part: float
) -> None:
    floor = part * MAX_FLOOR_TOTAL / probabilities.shape[-1]
    out = apply_floor(probabilities, floor)
    assert np.all(out >= floor - ROUNDING)
    before, after = np.diff(probabilities, axis=-1), np.diff(out, axis=-1)
    assert np.all(np.sign(after) * np.sign(before) >= 0)


@given(distributions())
def test_floor_of_zero_changes_nothing(probabilities: FloatArray) -> None:
    assert apply_floor(probabilities, 0.0).tolist() == probabilities.tolist()


@given(st.integers(1, MAX_ARMS))
def test_the_default_floor_takes_at_most_a_twentieth(n_arms: int) -> None:
    assert 0 < default_floor(n_arms) <= 0.01
    assert n_arms * default_floor(n_arms) <= 0.05 + ROUNDING


@given(with_newcomers())
def test_newcomer_cap_limits_newcomers_and_takes_nothing_from_others(
    given_: tuple[FloatArray, BoolArray],
) -> None:
    probabilities, newcomers = given_
    out = cap_newcomers(probabilities, newcomers)
    if newcomers.all():
        assert out.tolist() == probabilities.tolist()
        return
    cap = 1 / probabilities.shape[-1]
    assert np.all(out[..., newcomers] <= cap)
    assert np.all(out[..., newcomers] <= probabilities[..., newcomers])
    assert np.all(out[..., ~newcomers] >= probabilities[..., ~newcomers] - ROUNDING)


@given(with_newcomers())
def test_newcomer_cap_shares_the_excess_in_proportion(
    given_: tuple[FloatArray, BoolArray],
) -> None:
    probabilities, newcomers = given_
    out = np.atleast_2d(cap_newcomers(probabilities, newcomers))[:, ~newcomers]
    was = np.atleast_2d(probabilities)[:, ~newcomers]
    for now, before in zip(out, was, strict=True):
        if before.sum() > 0:
            assert now / now.sum() == pytest.approx(before / before.sum(), abs=ROUNDING)
        elif len(now):
            assert now == pytest.approx(now[0])


@given(with_newcomers())
def test_newcomer_cap_leaves_its_argument_untouched(
    given_: tuple[FloatArray, BoolArray],
) -> None:
    probabilities, newcomers = given_
    copy = probabilities.copy()
    apply_floor(cap_newcomers(probabilities, newcomers), 0.01)
    assert probabilities.tolist() == copy.tolist()


def test_newcomer_cap_holds_after_the_floor_too() -> None:
    newcomers = np.array([False, False, True, True])
    out = apply_floor(cap_newcomers(np.array([0.0, 0.0, 0.9, 0.1]), newcomers), 0.05)
    assert np.all(out[newcomers] <= 1 / 4 + ROUNDING)

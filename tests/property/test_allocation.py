"""Laws of what the engine does to a policy's probabilities before it draws."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.allocation import apply_floor, cap_newcomers, default_floor, renormalize_others
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
def with_newcomers(draw: Any) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Draw probabilities, which arms are new, though not all, and shares among the others."""
    probabilities = draw(distributions())
    n_arms = probabilities.shape[-1]
    new = st.lists(st.booleans(), min_size=n_arms, max_size=n_arms).filter(lambda x: not all(x))
    newcomers = np.array(draw(new))
    if draw(st.booleans()):
        return probabilities, newcomers, renormalize_others(probabilities, newcomers)
    weights = np.array(draw(st.lists(st.floats(0, 1), min_size=n_arms, max_size=n_arms)))
    weights = np.where(weights.sum() > 0, weights, 1.0)[~newcomers]
    weights = weights if weights.sum() > 0 else np.ones_like(weights)
    shares = np.broadcast_to(weights / weights.sum(), (*probabilities.shape[:-1], len(weights)))
    return probabilities, newcomers, shares


@given(with_newcomers(), st.floats(0, 1))
def test_floor_keeps_row_sums_at_one(
    case: tuple[FloatArray, BoolArray, FloatArray], part: float
) -> None:
    floor = part * MAX_FLOOR_TOTAL / case[0].shape[-1]
    out = apply_floor(cap_newcomers(*case), floor)
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
def test_newcomer_cap_limits_newcomers_and_shares_the_rest_as_asked(
    case: tuple[FloatArray, BoolArray, FloatArray],
) -> None:
    probabilities, newcomers, among_others = case
    out = cap_newcomers(*case)
    cap = 1 / probabilities.shape[-1]
    expected = np.minimum(cap, probabilities[..., newcomers])
    assert out[..., newcomers].tolist() == expected.tolist()
    rest = 1 - expected.sum(axis=-1, keepdims=True)
    assert out[..., ~newcomers] == pytest.approx(among_others * rest, abs=ROUNDING)


@given(with_newcomers())
def test_renormalize_others_keeps_their_ratios_and_takes_nothing_from_them(
    case: tuple[FloatArray, BoolArray, FloatArray],
) -> None:
    probabilities, newcomers, _ = case
    shares = renormalize_others(probabilities, newcomers)
    out = cap_newcomers(probabilities, newcomers, shares)
    assert np.all(out[..., ~newcomers] >= probabilities[..., ~newcomers] - ROUNDING)
    before = np.atleast_2d(probabilities)[:, ~newcomers]
    for now, was in zip(np.atleast_2d(shares), before, strict=True):
        if was.sum() > 0:
            assert now == pytest.approx(was / was.sum(), abs=ROUNDING)
        else:
            assert now == pytest.approx(1 / len(now))


@given(with_newcomers())
def test_newcomer_cap_leaves_its_arguments_untouched(
    case: tuple[FloatArray, BoolArray, FloatArray],
) -> None:
    copies = [array.tolist() for array in case]
    apply_floor(cap_newcomers(*case), 0.01)
    renormalize_others(*case[:2])
    assert [array.tolist() for array in case] == copies


def test_newcomer_cap_holds_after_the_floor_too() -> None:
    newcomers = np.array([False, False, True, True])
    shares = cap_newcomers(np.array([0.0, 0.0, 0.9, 0.1]), newcomers, np.array([1.0, 0.0]))
    out = apply_floor(shares, 0.05)
    assert np.all(out[newcomers] <= 1 / 4 + ROUNDING)

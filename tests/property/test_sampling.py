"""Laws of the draw."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from bandits.array_types import FloatArray
from bandits.ids import time_ordered_ids
from bandits.sampling import draw, uniform, uniforms

units = st.floats(0, 1, exclude_max=True)
ids = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1)


@st.composite
def distributions(draw_: Any) -> FloatArray:
    """Draw probabilities (K,), many of them 0."""
    weights = draw_(
        st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1.0)), min_size=1, max_size=30).filter(any)
    )
    return np.array(weights) / np.sum(weights)


@given(distributions(), st.lists(units, min_size=1, max_size=20))
def test_an_arm_of_probability_zero_never_comes(
    probabilities: FloatArray, numbers: list[float]
) -> None:
    chosen = draw(probabilities, np.array(numbers))
    assert np.all(probabilities[chosen] > 0)


@given(distributions(), st.lists(units, min_size=1, max_size=20))
def test_a_shared_distribution_draws_as_each_own_copy_of_it(
    probabilities: FloatArray, numbers: list[float]
) -> None:
    u = np.array(numbers)
    own = np.tile(probabilities, (len(u), 1))
    assert draw(probabilities, u).tolist() == draw(own, u).tolist()


@given(distributions(), units)
def test_draw_takes_the_arm_where_the_number_falls_in_the_cumulative_shares(
    probabilities: FloatArray, number: float
) -> None:
    arm = int(draw(probabilities, np.array([number]))[0])
    below = probabilities[:arm].sum()
    assert below - 1e-12 <= number <= below + probabilities[arm] + 1e-12


@given(st.binary(min_size=1, max_size=64), st.lists(ids, max_size=10))
def test_uniform_of_an_id_is_the_same_alone_and_among_others(salt: bytes, keys: list[str]) -> None:
    numbers = uniforms(salt, keys).tolist()
    assert numbers == [uniform(salt, k) for k in keys]
    assert all(0 <= u < 1 for u in numbers)


@given(st.integers(0, 300), st.floats(0, 4e9))
def test_made_ids_are_distinct_and_ascend(n: int, now: float) -> None:
    made = time_ordered_ids(n, now)
    assert len(made) == n
    assert made == sorted(set(made))


def statistic(probabilities: FloatArray, chosen: FloatArray) -> float:
    """Return Pearson's chi-square of choices against the probabilities they came from."""
    expected = probabilities * len(chosen)
    observed = np.bincount(chosen, minlength=len(probabilities))
    return float(((observed - expected) ** 2 / expected).sum())


FALSE_ALARM = 1e-6
N = 100_000


@pytest.mark.parametrize("keys", ["made here", "a sender's, counted up"])
def test_draw_frequencies_are_the_probabilities(keys: str) -> None:
    # The salt is fixed, so this passes or fails for good; a sound hash fails for one salt in 1e6.
    salt = b"fixed for the test"
    made = time_ordered_ids(N, 1.7e9) if keys == "made here" else [f"c-{i}" for i in range(N)]
    if keys == "made here":  # their noise is the machine's: hash a fixed stand-in for it
        made = [f"{m[:15]}{i:021x}" for i, m in enumerate(made)]
    u = uniforms(salt, [f"draw:{i}" for i in made])
    probabilities = np.array([0.5, 0.3, 0.15, 0.04, 0.01])
    bound = chi2.isf(FALSE_ALARM, len(probabilities) - 1)
    assert statistic(probabilities, draw(probabilities, u)) < bound
    # Negative control: choices from shares that are off by one in a hundred are found out.
    off = probabilities + np.array([-0.02, 0.02, 0, 0, 0])
    assert statistic(probabilities, draw(off, u)) > bound


def test_neighbouring_ids_draw_independently() -> None:
    # A pair of fair draws has four outcomes of 1/4; 3 degrees of freedom, one salt in 1e6 fails.
    u = uniforms(b"fixed for the test", [f"draw:c-{i}" for i in range(N)])
    half = draw(np.array([0.5, 0.5]), u)
    bound = chi2.isf(FALSE_ALARM, 3)
    fair = np.full(4, 0.25)
    assert statistic(fair, 2 * half[0::2] + half[1::2]) < bound
    # Negative control: numbers that step evenly, as a bad hash of a counter would.
    stepping = draw(np.array([0.5, 0.5]), np.arange(N) * 0.618033988749895 % 1)
    assert statistic(fair, 2 * stepping[0::2] + stepping[1::2]) > bound

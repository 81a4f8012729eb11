"""Laws of choosing that hold whatever has been seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandits.problem import Problem
from bandits.registry import make, policies
from bandits.statistics import Moments
from tests.conftest import SOAK

few = settings(max_examples=500 if SOAK else 25)
WITHOUT_CONTEXT = [n for n, p in policies().items() if p.statistic is Moments]
NO_CONTEXTS = np.zeros((1, 0))
# Shares of frozen draws hold the next two laws within the error of their number alone.
INTEGRATED = [n for n in WITHOUT_CONTEXT if "draws" not in policies()[n].__struct_fields__]
# Not for values: a win also widens an arm's variance, and may so lower a sure winner's chance.
WINS_HELP = [n for n in INTEGRATED if n != "thompson_gaussian"]
counts = st.integers(0, 2000)
any_arms = st.integers(1, 6)
two_arms = st.just(2)


@st.composite
def rates(draw, n_arms=any_arms):
    """Successes and sends of some arms."""
    k = draw(n_arms)
    sends = np.array(draw(st.lists(counts, min_size=k, max_size=k)), float)
    parts = np.array(draw(st.lists(st.floats(0, 1), min_size=k, max_size=k)))
    return np.round(sends * parts), sends


def moments(successes, sends, pending=None):
    return Moments(
        sends, successes, successes, np.zeros_like(sends) if pending is None else pending
    )


def shares(name, statistic, upcoming=1, params=None):
    problem = Problem.of(statistic.count.shape[-1])
    policy = make(name, params or {})
    prepared = policy.prepare(statistic, problem, upcoming, np.random.default_rng(1))
    return policy.propensities(prepared, NO_CONTEXTS)


@pytest.mark.parametrize("name", WITHOUT_CONTEXT)
@few
@given(seen=rates(), upcoming=st.sampled_from([1, 3, 1000]))
def test_rows_sum_to_one(name, seen, upcoming):
    actual = shares(name, moments(*seen), upcoming)
    assert actual.min() >= 0
    assert abs(actual.sum() - 1) < 1e-12


@pytest.mark.parametrize("name", INTEGRATED)
@few
@given(seen=rates(), seed=st.integers(0, 99), upcoming=st.sampled_from([1, 3, 1000]))
def test_permuting_arms_permutes_shares(name, seen, seed, upcoming):
    order = np.random.default_rng(seed).permutation(len(seen[0]))
    before, after = moments(*seen), moments(*seen).take(order)
    np.testing.assert_allclose(
        shares(name, after, upcoming), shares(name, before, upcoming)[order], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("name", WINS_HELP)
@few
@given(seen=rates(), arm=st.integers(0, 5), upcoming=st.sampled_from([1, 50]))
def test_wins_never_lower_an_arms_chance(name, seen, arm, upcoming):
    successes, sends = seen
    arm %= len(sends)
    more = successes.copy()
    more[arm] = min(sends[arm], successes[arm] + 1)
    before, after = (shares(name, moments(s, sends), upcoming)[arm] for s in (successes, more))
    assert after >= before - 1e-9


@few
@given(seen=rates(n_arms=two_arms))
def test_minimising_mirrors_maximising_for_thompson(seen):
    successes, sends = seen
    best = shares("thompson", moments(successes, sends))
    worst = shares("thompson", moments(sends - successes, sends))
    np.testing.assert_allclose(best, worst[::-1], rtol=0, atol=1e-9)


@few
@given(seen=rates(n_arms=two_arms))
def test_minimising_mirrors_maximising_for_values(seen):
    successes, sends = seen
    zeros = np.zeros(2)
    best = shares("thompson_gaussian", Moments(sends, successes, successes, zeros))
    worst = shares("thompson_gaussian", Moments(sends, -successes, successes, zeros))
    np.testing.assert_allclose(best, worst[::-1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["thompson_gaussian", "ucb1", "epsilon_greedy"])
@few
@given(
    seen=rates(), scale=st.sampled_from([1e-3, 7.0, 1e4]), shift=st.sampled_from([-2.0, 0.0, 50])
)
def test_shares_do_not_depend_on_the_currency_of_rewards(name, seen, scale, shift):
    successes, sends = seen
    total = scale * successes + shift * sends
    square = scale**2 * successes + 2 * scale * shift * successes + shift**2 * sends
    k, nothing = len(sends), np.zeros_like(sends)
    policy = make(name)
    rng = np.random.default_rng(1)
    actual = [
        policy.propensities(policy.prepare(statistic, problem, 1, rng), NO_CONTEXTS)
        for statistic, problem in (
            (Moments(sends, successes, successes, nothing), Problem.of(k)),
            (Moments(sends, total, square, nothing), Problem.of(k, 0, shift, shift + scale)),
        )
    ]
    np.testing.assert_allclose(actual[0], actual[1], rtol=0, atol=1e-4)


@few
@given(seen=rates(), waiting=st.lists(counts, min_size=6, max_size=6))
def test_pending_decisions_narrow_only_the_width(seen, waiting):
    successes, sends = seen
    pending = np.array(waiting[: len(sends)], float)
    statistic = moments(successes, sends, pending)
    np.testing.assert_array_equal(statistic.means, moments(successes, sends).means)
    np.testing.assert_allclose(
        shares("thompson", statistic), shares("thompson", moments(successes, sends)), atol=1e-12
    )


@few
@given(
    weights=st.lists(st.floats(0, 100), min_size=1, max_size=8),
    kept=st.sets(st.integers(0, 7), min_size=1),
)
def test_a_fixed_split_keeps_the_proportions_of_the_arms_left(weights, kept):
    arms = np.array(sorted(kept))
    problem = Problem.of(8).take(arms)
    policy = make("uniform", {"weights": tuple(weights)})
    actual = policy.prepare(Moments.zeros(problem), problem, 1, np.random.default_rng(1))
    expected = np.array([weights[a] if a < len(weights) else np.mean(weights) for a in arms])
    if expected.sum() == 0:
        expected = np.ones(len(arms))
    np.testing.assert_allclose(actual, expected / expected.sum(), rtol=0, atol=1e-12)

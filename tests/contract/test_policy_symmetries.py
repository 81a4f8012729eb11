"""What every policy must not care about: units, names for the same, what has faded, and hairs."""

import numpy as np
import pytest

from bandits.problem import Problem
from bandits.registry import make, policies
from bandits.rewards import Metric, RewardRule

K, D, N = 4, 3, 100
ALL = sorted(policies())
every_policy = pytest.mark.parametrize("name", ALL)
every_wave = pytest.mark.parametrize("upcoming", [1, 10_000])
# These freeze posterior draws, so that their probabilities are those of a sample of 1,000.
DRAWING = [n for n in ALL if "draws" in policies()[n].__struct_fields__]
SAMPLING_ERROR = 0.1  # more than six standard deviations of a share of 1,000 draws
CONTEXTS = np.column_stack([np.ones(N), np.random.default_rng(1).random((N, D - 1))])
# Their data is the arms' alone, so that where 0 lies and what a unit is called cannot matter.
# But for effects of parts, which multiply what an email earns, as long as it earns nothing below 0.
WITHOUT_UNITS = [
    n
    for n, p in policies().items()
    if not p.statistic.contextual and p.support[0] == -np.inf and n != "parts_thompson"
]


def shares(name, statistic, problem, upcoming=1):
    policy = make(name)
    prepared = policy.prepare(statistic, problem, upcoming, np.random.default_rng(2))
    actual = policy.propensities(prepared, CONTEXTS[:5])
    return np.broadcast_to(actual, (5, problem.n_arms))


def known_equally_well(name, n_arms, n_wins):
    """Arms that the same recipients got, with so many wins (K,) each, and what is known then."""
    problem = Problem.of(n_arms, D)
    order = np.random.default_rng(3).permutation(N)
    rewards = np.zeros((n_arms, N))
    for arm, wins in enumerate(n_wins):
        rewards[arm, order[:wins]] = 1.0
    arms = np.repeat(np.arange(n_arms), N)
    observed = arms, rewards.ravel(), np.tile(CONTEXTS, (n_arms, 1)), np.ones(len(arms))
    return problem, observed, make(name).statistic.from_observations(problem, *observed)


@every_policy
@every_wave
@pytest.mark.parametrize("wins", [(20, 40, 40, 20), (40, 10, 20, 40), (7, 7, 7, 7)])
def test_arms_that_did_equally_well_get_equal_shares(name, upcoming, wins):
    problem, _, statistic = known_equally_well(name, K, wins)
    actual = shares(name, statistic, problem, upcoming)
    tolerance = SAMPLING_ERROR if name in DRAWING else 1e-9
    for a in range(K):
        for b in range(a):
            if wins[a] == wins[b]:
                assert np.allclose(actual[:, a], actual[:, b], rtol=0, atol=tolerance)


@every_policy
@every_wave
def test_arms_never_sent_get_equal_shares_beside_others(name, upcoming):
    problem, (arms, rewards, contexts, weights), _ = known_equally_well(name, 2, (40, 20))
    problem = Problem.of(K, D)
    statistic = make(name).statistic.from_observations(problem, arms, rewards, contexts, weights)
    actual = shares(name, statistic, problem, upcoming)
    tolerance = SAMPLING_ERROR if name in DRAWING else 1e-9
    assert np.allclose(actual[:, 2], actual[:, 3], rtol=0, atol=tolerance)


@every_policy
@every_wave
@pytest.mark.parametrize("wins", [(20, 21), (3, 90), (0, 100), (49, 50)])
def test_better_of_two_arms_known_equally_well_never_gets_less(name, upcoming, wins):
    problem, _, statistic = known_equally_well(name, 2, wins)
    slack = SAMPLING_ERROR if name in DRAWING else 1e-9
    assert shares(name, statistic, problem, upcoming)[:, 1].mean() >= 0.5 - slack


@every_policy
@pytest.mark.parametrize("n_arms", [2, 7])
def test_arms_apart_by_a_hair_are_told_apart_wholly_or_hardly(name, n_arms):
    """A rule jumps where arms tie, and a hundredth of the hair changes nothing, or it is smooth."""
    by_hair = {}
    for hair in (1e-4, 1e-6):
        problem, (arms, rewards, contexts, weights), _ = known_equally_well(
            name, n_arms, [30] * n_arms
        )
        better = np.where((arms == 0) & (rewards == 0), hair, rewards)
        statistic = make(name).statistic.from_observations(problem, arms, better, contexts, weights)
        actual = shares(name, statistic, problem)
        assert actual.min() >= 0
        assert actual.max() <= 1
        by_hair[hair] = actual
    jumps = np.array_equal(by_hair[1e-4], by_hair[1e-6])
    error = SAMPLING_ERROR if name in DRAWING else 1e-3
    assert jumps or np.allclose(by_hair[1e-6], 1 / n_arms, rtol=0, atol=error)


@every_policy
@every_wave
def test_minimised_rewards_are_chosen_by_as_their_mirror_maximised(name, upcoming):
    """Minimising complaints sends what maximising their absence sends, arm for arm."""
    problem, (arms, complaints, contexts, weights), _ = known_equally_well(name, K, (5, 9, 2, 30))
    few = np.random.default_rng(4).random(len(arms)) < 0.4  # not all known equally well
    arms, complaints, contexts, weights = (a[few] for a in (arms, complaints, contexts, weights))
    rule = RewardRule({"complaint": Metric()}, goal="minimise")
    family = make(name).statistic
    least = family.from_observations(
        problem, arms, rule.as_maximised(complaints), contexts, weights
    )
    quiet = family.from_observations(
        problem, arms, np.where(complaints == 1, 0.0, 1.0), contexts, weights
    )
    actual = shares(name, least, problem, upcoming)
    assert np.array_equal(actual, shares(name, quiet, problem, upcoming))


@pytest.mark.parametrize("name", WITHOUT_UNITS)
@every_wave
@pytest.mark.parametrize(("scale", "shift"), [(1.0, -1.0), (1.0, 40.0), (250.0, -30.0)])
def test_shares_do_not_depend_on_units_and_zero_of_rewards(name, upcoming, scale, shift):
    """An arm never sent is among them: it counts as the mean of all, and not as one of 0."""
    problem, (arms, rewards, contexts, weights), _ = known_equally_well(name, 3, (12, 20, 15))
    family = make(name).statistic
    problem = Problem.of(K, D)
    moved = Problem.of(K, D, shift, scale + shift)
    statistic = family.from_observations(problem, arms, rewards, contexts, weights)
    also = family.from_observations(moved, arms, scale * rewards + shift, contexts, weights)
    actual = shares(name, also, moved, upcoming)
    assert np.allclose(actual, shares(name, statistic, problem, upcoming), rtol=0, atol=1e-6)


@every_policy
@every_wave
def test_observations_outside_the_window_have_no_weight(name, upcoming):
    problem, observed, _ = known_equally_well(name, K, (20, 30, 40, 10))
    inside = np.random.default_rng(5).random(len(observed[0])) < 0.3
    arms, rewards, contexts, _ = observed
    family = make(name).statistic
    faded = family.from_observations(problem, arms, rewards, contexts, inside.astype(float))
    kept = family.from_observations(problem, *(a[inside] for a in observed))
    actual = shares(name, faded, problem, upcoming)
    assert np.allclose(actual, shares(name, kept, problem, upcoming), rtol=0, atol=1e-9)


@every_policy
@every_wave
def test_observations_a_half_life_old_count_half(name, upcoming):
    problem, (arms, rewards, contexts, weights), today = known_equally_well(
        name, K, (20, 30, 40, 9)
    )
    twice = (np.concatenate([a, a]) for a in (arms, rewards, contexts, weights / 2))
    old = make(name).statistic.from_observations(problem, *twice)
    actual = shares(name, old, problem, upcoming)
    assert np.allclose(actual, shares(name, today, problem, upcoming), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in ALL if policies()[n].statistic.invertible])
@every_wave
def test_decayed_statistic_equals_observations_with_that_weight(name, upcoming):
    problem, (arms, rewards, contexts, weights), today = known_equally_well(
        name, K, (20, 30, 40, 9)
    )
    half = make(name).statistic.from_observations(problem, arms, rewards, contexts, weights / 2)
    actual = shares(name, today.decayed(0.5), problem, upcoming)
    assert np.allclose(actual, shares(name, half, problem, upcoming), rtol=0, atol=1e-12)


@every_policy
def test_single_arm_gets_everything(name):
    problem, _, statistic = known_equally_well(name, 1, (20,))
    assert np.array_equal(shares(name, statistic, problem), np.ones((5, 1)))

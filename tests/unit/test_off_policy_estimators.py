"""Estimators of a policy's value by hand, in their limits, and their intervals beside formulas."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from bandits.errors import InvalidInput
from simulations import FixedShares, LoggedRounds, RewardModel, WithoutArm, evaluate
from simulations.evaluation.estimators import (
    ESTIMATORS,
    RoundScores,
    WeightedRounds,
    dm,
    dr,
    dros,
    ipw,
    slope,
    sndr,
    snipw,
    switch_dr,
)
from simulations.evaluation.score_intervals import (
    Bounds,
    betting_interval,
    bootstrap_totals,
    earlier_variances,
    standard_error,
    studentized_interval,
)
from simulations.evaluation.slot_weights import additive_weights, marginal_weights
from simulations.evaluation.targets import GivenProbabilities

ROUNDS = WeightedRounds(
    np.array([0.5, 2.0, 0.5, 4.0]),
    np.array([1.0, 0.0, 0.0, 1.0]),
    np.array([0.3, 0.4, 0.3, 0.4]),
    np.array([0.2, 0.5, 0.2, 0.5]),
)


def test_estimators_by_hand():
    assert ipw(ROUNDS).value == pytest.approx((0.5 + 4) / 4)
    assert snipw(ROUNDS).value == pytest.approx((0.5 + 4) / 7)
    assert dm(ROUNDS).value == pytest.approx(0.35)
    residuals = 0.5 * 0.8 - 2 * 0.5 - 0.5 * 0.2 + 4 * 0.5
    assert dr(ROUNDS).value == pytest.approx(0.35 + residuals / 4)
    assert sndr(ROUNDS).value == pytest.approx(0.35 + residuals / 7)
    switched = 0.5 * 0.8 - 2 * 0.5 - 0.5 * 0.2
    assert switch_dr(ROUNDS, 2.0).value == pytest.approx(0.35 + switched / 4)
    shrunk = [3 * w / (w * w + 3) for w in (0.5, 2, 0.5, 4)]
    expected = 0.35 + (shrunk[0] * 0.8 - shrunk[1] * 0.5 - shrunk[2] * 0.2 + shrunk[3] * 0.5) / 4
    assert dros(ROUNDS, 3.0).value == pytest.approx(expected)


def test_tuned_estimators_go_from_the_model_to_doubly_robust():
    for tuned in (switch_dr, dros):
        assert tuned(ROUNDS, 0.0).value == pytest.approx(dm(ROUNDS).value)
        assert tuned(ROUNDS, np.inf).value == pytest.approx(dr(ROUNDS).value)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_resampled_sums_give_the_estimate_and_its_error(name):
    scores = ESTIMATORS[name](ROUNDS)
    totals = scores.columns.sum(axis=0, keepdims=True)
    values, errors = scores.from_totals(totals, np.array([4.0]))
    assert values[0] == pytest.approx(scores.value)
    assert errors[0] == pytest.approx(scores.standard_error * np.sqrt(3 / 4))


def test_slope_takes_the_smallest_deviation_that_agrees_with_the_less_biased():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=400)
    noise -= noise.mean()
    wide, narrow, wrong = (RoundScores(noise * s + m) for s, m in ((5, 1.0), (1, 1.1), (0.1, 9.0)))
    assert slope([wrong, wide, narrow]) is narrow
    assert slope([wide, RoundScores(noise * 0.1 + 1.2), narrow]).value == pytest.approx(1.2)
    assert slope([wide]) is wide


# Two slots of two variants: arm = 2 * first + second.
LEVELS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


def slot_view(logged, target, arms):
    n = len(arms)
    rows = np.broadcast_to(logged, (n, 4))
    rounds = LoggedRounds(
        arms, np.zeros(n), rows[np.arange(n), arms], probabilities=rows, slot_levels=LEVELS
    )
    return GivenProbabilities(np.array(target)).view(rounds)


def test_additive_weights_of_independent_slots_are_sums_of_their_own():
    first, second = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    target = np.array([0.1, 0.2, 0.3, 0.4])
    view = slot_view(np.outer(first, second).ravel(), target, np.arange(4))
    of_first = target.reshape(2, 2).sum(axis=1) / first
    of_second = target.reshape(2, 2).sum(axis=0) / second
    expected = of_first[LEVELS[:, 0]] + of_second[LEVELS[:, 1]] - 1
    np.testing.assert_allclose(additive_weights(view), expected, atol=1e-9)


def test_additive_weights_are_unbiased_for_any_log_that_sends_each_variant():
    logged, target = np.array([0.5, 0.2, 0.3, 0.0]), np.array([0.0, 0.0, 0.2, 0.8])
    rewards = np.array([0.1, 0.3])[LEVELS[:, 0]] + np.array([0.2, 0.5])[LEVELS[:, 1]]
    weights = additive_weights(slot_view(logged, target, np.arange(3)))
    assert logged[:3] @ (weights * rewards[:3]) == pytest.approx(target @ rewards, abs=1e-9)
    plain = np.where(logged > 0, target / np.where(logged > 0, logged, 1), 0)
    assert logged @ (plain * rewards) != pytest.approx(target @ rewards, abs=0.1)


def test_marginal_weights_use_the_named_slots_alone():
    logged, target = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.1, 0.4, 0.4])
    view = slot_view(logged, target, np.arange(4))
    np.testing.assert_allclose(marginal_weights(view, [0]), [0.2 / 0.7] * 2 + [0.8 / 0.3] * 2)
    np.testing.assert_allclose(marginal_weights(view, [0, 1]), target / logged)
    for wrong in ([], [2]):
        with pytest.raises(InvalidInput, match=r"must be some of 0 to 1"):
            marginal_weights(view, wrong)


def test_betting_interval_holds_where_scores_are_rare_and_large():
    """Scores of 0, and of 40 in one round of a hundred: the normal interval misses far more."""
    chance, size, n, runs = 0.01, 40.0, 400, 400
    mean = chance * size
    bounds = Bounds(np.zeros(n), np.full(n, size))
    rng = np.random.default_rng(5)
    misses = normal_misses = 0
    for _ in range(runs):
        scores = size * (rng.random(n) < chance)
        low, high = betting_interval(scores, bounds, 0.95)
        misses += not low <= mean <= high
        half = 1.96 * standard_error(scores)
        normal_misses += abs(scores.mean() - mean) > half
    assert misses <= 0.05 * runs
    assert normal_misses > 0.05 * runs


def test_betting_stakes_follow_earlier_scores_alone():
    scores = np.random.default_rng(8).random(50)
    changed = scores.copy()
    changed[30:] = 5.0
    one, two = earlier_variances(scores), earlier_variances(changed)
    np.testing.assert_array_equal(one[:31], two[:31])
    assert two[31] > 2 * one[31]
    assert one[-1] == pytest.approx(scores.var(), rel=0.3)


def test_betting_interval_shrinks_and_stays_within_the_range():
    rng = np.random.default_rng(6)
    widths = []
    for n in (100, 1600):
        scores = (rng.random(n) < 0.3).astype(float)
        low, high = betting_interval(scores, Bounds(np.zeros(n), np.ones(n)), 0.95)
        assert 0 <= low < 0.3 < high <= 1
        widths.append(high - low)
    assert widths[1] < 0.35 * widths[0]
    assert betting_interval(np.full(5, 0.5), Bounds(np.zeros(5), np.ones(5)), 0.95) == (0.0, 1.0)


def test_studentized_interval_agrees_with_the_normal_one_where_nothing_is_skew():
    rng = np.random.default_rng(7)
    scores = RoundScores(rng.normal(2, 1, 5000))
    columns = np.hstack([scores.columns, np.ones((5000, 1))])
    totals = bootstrap_totals(columns, rng, 2000)
    resampled = scores.from_totals(totals[:, :-1], totals[:, -1])
    low, high = studentized_interval(scores.value, scores.standard_error, resampled, 0.95)
    half = 1.96 * scores.standard_error
    assert low == pytest.approx(scores.value - half, abs=0.15 * half)
    assert high == pytest.approx(scores.value + half, abs=0.15 * half)


def drawn(n=400, n_arms=3, n_features=2, seed=0):
    rng = np.random.default_rng(seed)
    contexts = rng.random((n, n_features))
    arms = rng.integers(0, n_arms, n)
    rates = 1 / (1 + np.exp(1 - contexts.sum(axis=1) - 0.5 * arms))
    rewards = (rng.random(n) < rates).astype(float)
    probabilities = np.full((n, n_arms), 1 / n_arms)
    return LoggedRounds(arms, rewards, probabilities[:, 0], probabilities, contexts)


def test_shared_logistic_model_is_scikit_learns():
    rounds = drawn()
    marks = np.eye(3)
    features = np.hstack([rounds.contexts, marks[rounds.arms]])
    for penalty in (0.01, 1.0):
        other = LogisticRegression(C=1 / penalty, max_iter=10_000, tol=1e-10)
        other.fit(features, rounds.rewards)
        model = RewardModel(kind="logistic", by_arm=False, penalty=penalty)
        predictions = model.predict(rounds, rounds.features)
        for arm in range(3):
            rows = np.hstack([rounds.contexts, np.tile(marks[arm], (rounds.n, 1))])
            expected = other.predict_proba(rows)[:, 1]
            np.testing.assert_allclose(predictions[:, arm], expected, atol=1e-4)


def test_shared_ridge_model_is_scikit_learns():
    rounds = drawn()
    features = np.hstack([rounds.features, np.eye(3)[rounds.arms]])
    other = Ridge(alpha=2.0).fit(features, rounds.rewards)
    predictions = RewardModel(by_arm=False, penalty=2.0).predict(rounds, rounds.features)
    sent = predictions[np.arange(rounds.n), rounds.arms]
    np.testing.assert_allclose(sent, np.clip(other.predict(features), 0, 1), atol=1e-9)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_folds_by_time_use_earlier_rounds_alone(kind):
    rounds = drawn()
    rewards = rounds.rewards.copy()
    rewards[200:] = 1 - rewards[200:]
    other = LoggedRounds(
        rounds.arms, rewards, rounds.propensities, rounds.probabilities, rounds.contexts
    )
    model, rng = RewardModel(kind=kind), np.random.default_rng(0)
    one, two = (model.cross_fit(log, rng) for log in (rounds, other))
    np.testing.assert_array_equal(one[:201], two[:201])
    assert np.abs(one[350:] - two[350:]).max() > 0.01


def test_random_folds_leave_out_the_round_itself():
    rounds = drawn(n=60)
    for row in (0, 30):
        rewards = rounds.rewards.copy()
        rewards[row] = 1 - rewards[row]
        other = LoggedRounds(
            rounds.arms, rewards, rounds.propensities, rounds.probabilities, rounds.contexts
        )
        model = RewardModel(folds="random")
        one, two = (model.cross_fit(log, np.random.default_rng(1)) for log in (rounds, other))
        np.testing.assert_array_equal(one[row], two[row])
        assert np.abs(one - two).max() > 0


def test_reward_model_refuses_odds_of_rewards_beyond_one():
    rounds = LoggedRounds([0, 1], [0, 5], [0.5, 0.5], high=10.0)
    with pytest.raises(InvalidInput, match=r"/kind: must be ridge where rewards are not in"):
        RewardModel(kind="logistic").cross_fit(rounds, np.random.default_rng(0))


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_evaluate_moves_with_the_unit_of_rewards(scale):
    rounds = drawn(n=1000)
    moved = LoggedRounds(
        rounds.arms,
        rounds.rewards * scale - 2,
        rounds.propensities,
        rounds.probabilities,
        rounds.contexts,
        low=-2.0,
        high=scale - 2,
    )
    target = [0.2, 0.2, 0.6]
    one, two = (evaluate(log, target, resamples=50) for log in (rounds, moved))
    for name in ("snipw",):
        assert two[name].value == pytest.approx(one[name].value * scale - 2)
    assert (two["dr"].high - two["dr"].low) == pytest.approx(
        scale * (one["dr"].high - one["dr"].low), rel=0.1
    )
    assert two["dr"].low < two["dr"].value < two["dr"].high


def test_evaluate_by_another_target_names_what_is_wrong():
    rounds = drawn()
    for target, detail in (
        ([0.5, 0.5], r"/target: must have shape \(K,\) = \(3,\), not \(2,\)"),
        ([0.5, 0.6, -0.1], "/target: row 0: -0.1 is a negative probability"),
        ([0.5, 0.6, 0.1], "/target: row 0: 1.2 is the sum"),
        ([0.5, np.nan, 0.5], r"/target: \[1\] is nan"),
        (np.ones((3, 400)) / 3, r"/target: must have shape \(n, K\) = \(400, 3\), not \(3, 400\)"),
        (FixedShares({"9": 1.0}), "the log has no arm '9'"),
        (FixedShares({"1": 0.4}), "/target: row 0: 0.4 is the sum"),
    ):
        with pytest.raises(InvalidInput, match=detail):
            evaluate(rounds, target)
    alone = LoggedRounds(rounds.arms, rounds.rewards, rounds.propensities)
    with pytest.raises(InvalidInput, match=r"needs the probability of every arm"):
        evaluate(alone, WithoutArm("1"))
    with pytest.raises(InvalidInput, match=r"/estimators: 'magic' is none of ipw, snipw"):
        evaluate(rounds, [1, 0, 0], estimators=["magic"])
    with pytest.raises(InvalidInput, match=r"/predictions: must have shape \(n, K\)"):
        evaluate(rounds, [1, 0, 0], predictions=np.zeros((400, 2)))
    with pytest.raises(InvalidInput, match=r"/slot_levels: are needed"):
        evaluate(rounds, [1, 0, 0], estimators=["slot_wise"])
    with pytest.raises(InvalidInput, match=r"/level"):
        evaluate(rounds, [1, 0, 0], level=1.0)

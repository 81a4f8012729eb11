"""Targets give their probabilities in every round, and refusals say why a log cannot tell."""

import json

import numpy as np
import pytest

from bandits.errors import InvalidInput
from bandits.policy import AnyPolicy
from bandits.registry import make
from bandits.statistics import Moments
from simulations import (
    FixedShares,
    FrozenPolicy,
    LearningPolicy,
    LoggedPolicy,
    LoggedRounds,
    RewardModel,
    WithoutArm,
    evaluate,
)
from simulations.evaluation.targets import PolicyState

ARMS = ("a", "b", "c")


def drawn(n=600, row=(0.5, 0.3, 0.2), seed=1, rates=(0.2, 0.5, 0.3), **columns):
    rng = np.random.default_rng(seed)
    arms = rng.choice(3, n, p=row)
    rewards = (rng.random(n) < np.array(rates)[arms]).astype(float)
    rows = np.tile(row, (n, 1))
    propensities = rows[np.arange(n), arms]
    return LoggedRounds(arms, rewards, propensities, rows, names=ARMS, **columns)


def test_fixed_shares_are_shared_out_among_eligible_arms():
    eligible = np.ones((600, 3), dtype=bool)
    rounds = drawn()
    eligible[rounds.arms != 2, 2] = False
    rounds = LoggedRounds(
        rounds.arms, rounds.rewards, rounds.propensities, eligible=eligible, names=ARMS
    )
    target = FixedShares({"a": 0.2, "b": 0.3, "c": 0.5})
    probabilities = target.view(rounds).probabilities
    expected = np.where((rounds.arms == 2)[:, None], [0.2, 0.3, 0.5], [0.4, 0.6, 0.0])
    np.testing.assert_allclose(probabilities, expected, atol=1e-12)
    with pytest.raises(InvalidInput, match=r"0 is the share of the arms that were eligible"):
        FixedShares.always("c").view(rounds)
    with pytest.raises(InvalidInput, match=r"on arms that were not eligible"):
        evaluate(rounds, np.tile([0.2, 0.3, 0.5], (600, 1)))
    assert (target.label, FixedShares.always("c").label) == (
        "split a 0.2, b 0.3, c 0.5",
        "always c",
    )


def test_without_arm_keeps_the_others_in_proportion():
    probabilities = WithoutArm("a").view(drawn()).probabilities
    np.testing.assert_allclose(probabilities, [[0.0, 0.6, 0.4]] * 600)
    row = np.array([1.0, 0.0, 0.0])
    alone = LoggedRounds([0], [0], [1.0], [row], names=ARMS)
    np.testing.assert_allclose(WithoutArm("a").view(alone).probabilities, [row])


def test_logged_policy_is_worth_the_mean_reward():
    rounds = drawn()
    own = evaluate(rounds, LoggedPolicy(), resamples=20)
    for name in ("ipw", "snipw"):
        assert own[name].value == pytest.approx(rounds.rewards.mean())
    assert own.diagnostics.effective_rows == pytest.approx(600)
    alone = LoggedRounds(rounds.arms, rounds.rewards, rounds.propensities, names=ARMS)
    shown = evaluate(alone, LoggedPolicy(), resamples=20)
    assert [estimate.name for estimate in shown.estimates] == ["ipw", "snipw"]


def test_frozen_policy_is_the_registered_one_on_the_first_rows():
    rounds = drawn()
    frozen = FrozenPolicy("thompson", first=0.5, floor=0.02)
    view = frozen.view(rounds)
    assert view.rounds.n == 300
    policy: AnyPolicy = make("thompson")
    ones, rows = np.ones(300), slice(0, 300)
    state = PolicyState(policy, rounds, 0.0, 0)
    statistic = policy.statistic.from_observations(
        state.problem, rounds.arms[rows], rounds.rewards[rows], rounds.features[rows], ones
    )
    rng = np.random.default_rng(0)
    shares = policy.propensities(policy.prepare(statistic, state.problem, 1, rng), rounds.features)
    np.testing.assert_allclose(view.probabilities[0], 0.02 + (1 - 3 * 0.02) * shares, atol=1e-9)
    later = rounds.rewards.copy()
    later[300:] = 1 - later[300:]
    other = LoggedRounds(rounds.arms, later, rounds.propensities, rounds.probabilities, names=ARMS)
    np.testing.assert_array_equal(frozen.view(other).probabilities, view.probabilities)


def test_frozen_policy_chooses_among_eligible_arms_alone():
    rounds = drawn()
    eligible = np.ones((600, 3), dtype=bool)
    eligible[rounds.arms != 0, 0] = False
    rounds = LoggedRounds(
        rounds.arms, rounds.rewards, rounds.propensities, eligible=eligible, names=ARMS
    )
    for name in ("thompson", "linucb", "logistic_thompson"):
        probabilities = FrozenPolicy(name).view(rounds).probabilities
        assert np.all(probabilities[~eligible[300:]] == 0)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        (FrozenPolicy("thompson", first=1.0), "/first: leaves 600 of 600 rows"),
        (FrozenPolicy("thompson", first=0.001), "/first: leaves 0 of 600 rows"),
        (FrozenPolicy("thompson", floor=0.5), r"/floor: must lie in \[0, 1/K\] with K = 3 arms"),
        (LearningPolicy("thompson", orders=1), "/orders: must be at least 2"),
    ],
)
def test_policies_as_targets_say_what_does_not_fit(target, detail):
    with pytest.raises(InvalidInput, match=detail):
        evaluate(drawn(), target)


def test_policies_as_targets_refuse_rewards_that_they_do_not_take():
    with pytest.raises(
        InvalidInput, match=r"thompson takes rewards in \[0, 1\], the log's range is"
    ):
        evaluate(drawn(high=5.0), "thompson")


def refusal(rounds, target):
    evaluation = evaluate(rounds, target)
    assert evaluation.estimates == ()
    assert evaluation.best is None
    with pytest.raises(KeyError):
        evaluation["dr"]
    assert f"No value is shown: {evaluation.refusal}." in " ".join(str(evaluation).split())
    return evaluation.refusal


def test_evaluation_is_refused_below_a_hundred_effective_rows():
    row = (0.9, 0.05, 0.05)
    reason = refusal(drawn(n=1200, row=row), FixedShares.always("c"))
    assert reason.startswith("the log has 1,200 rows, but says as much about this target as ")
    assert evaluate(drawn(n=4800, row=row), FixedShares.always("c")).refusal is None


def test_evaluation_is_refused_below_one_row_in_a_hundred():
    reason = refusal(drawn(n=40_000, row=(0.99, 0.005, 0.005)), FixedShares.always("b"))
    assert reason.startswith("only 0.")
    assert reason.endswith("at least 1 % are needed")


def test_evaluation_is_refused_where_the_log_never_sent_an_arm():
    rounds = drawn(row=(0.5, 0.5, 0.0))
    reason = refusal(rounds, [0.45, 0.45, 0.1])
    assert reason.startswith("10.0 % of the target's emails are ones that the log never sent")
    assert evaluate(rounds, [0.5, 0.5, 0.0]).diagnostics.support == pytest.approx(1)


def test_evaluation_is_refused_where_logged_propensities_are_wrong():
    rounds = drawn(n=3000)
    row = np.array([0.3, 0.3, 0.4])  # not what was drawn from
    wrong = LoggedRounds(
        rounds.arms, rounds.rewards, row[rounds.arms], np.tile(row, (3000, 1)), names=ARMS
    )
    assert "and should be 1: the logged propensities" in refusal(wrong, FixedShares.always("a"))
    assert evaluate(rounds, FixedShares.always("a")).refusal is None


def test_evaluation_is_refused_where_the_rows_that_matter_were_not_drawn():
    """Two arms at .001: none of 2,000 rows has the second; the first one's weights look fine."""
    row = np.array([0.998, 0.001, 0.001])
    arms = np.zeros(2000, dtype=int)
    rounds = LoggedRounds(arms, np.zeros(2000), row[arms], np.tile(row, (2000, 1)), names=ARMS)
    evaluation = evaluate(rounds, [0.5, 0.25, 0.25])
    assert evaluation.diagnostics.effective_rows == pytest.approx(2000)
    assert evaluation.diagnostics.expected_rows < 100
    assert evaluation.refusal is not None


def test_sorted_log_is_noticed_and_valued_without_folds_by_time():
    rounds = drawn(n=3000)
    assert evaluate(rounds, [0.2, 0.3, 0.5]).diagnostics.in_order is True
    order = np.argsort(rounds.arms, kind="stable")
    shown = evaluate(rounds.take(order), [0.2, 0.3, 0.5])
    assert shown.diagnostics.in_order is False
    assert any("the log was sorted" in warning for warning in shown.warnings)
    assert shown["dr"].interval == "bootstrap"
    assert shown["snipw"].value == pytest.approx(evaluate(rounds, [0.2, 0.3, 0.5])["snipw"].value)


def test_estimates_say_how_their_intervals_are_made():
    rounds = drawn(n=3000)
    shown = evaluate(rounds, [0.2, 0.3, 0.5], resamples=100)
    kinds = {estimate.name: estimate.interval for estimate in shown.estimates}
    assert kinds["dr"] == "betting"
    assert (kinds["dm"], shown["dm"].low) == ("none", None)
    assert {kinds[n] for n in ("ipw", "snipw", "sndr", "switch_dr", "dros")} == {"bootstrap"}
    assert shown.best == shown["dr"]
    model = RewardModel(folds="random")
    assert evaluate(rounds, [0.2, 0.3, 0.5], model=model)["dr"].interval == "bootstrap"
    own = np.full((3000, 3), 0.3)
    assert evaluate(rounds, [0.2, 0.3, 0.5], predictions=own)["dr"].interval == "bootstrap"
    for name in ("switch_dr", "dros"):
        assert shown[name].low <= shown[name].value <= shown[name].high
        assert shown[name].parameter is not None
    fixed = evaluate(rounds, [0.2, 0.3, 0.5], tau=1.5, lam=2.0)
    assert (fixed["switch_dr"].parameter, fixed["dros"].parameter) == (1.5, 2.0)


def test_predictions_of_the_whole_log_are_those_of_the_rows_that_are_valued():
    rounds = drawn()
    predictions = np.repeat([[0.1], [0.6]], 300, axis=0) * np.ones(3)
    shown = evaluate(rounds, FrozenPolicy("uniform"), predictions=predictions, estimators=["dm"])
    assert shown["dm"].value == pytest.approx(0.6)


def test_tuned_estimates_lie_in_their_interval_however_biased_they_are():
    rounds = drawn(n=3000)
    wrong = np.full((3000, 3), 0.95)
    shown = evaluate(rounds, [0.2, 0.3, 0.5], predictions=wrong, tau=0.0, lam=0.0)
    for name in ("switch_dr", "dros"):
        estimate = shown[name]
        assert estimate.value == pytest.approx(0.95)
        assert estimate.high == pytest.approx(0.95)
        assert estimate.low < 0.2 * 0.2 + 0.3 * 0.5 + 0.5 * 0.3 < estimate.high


def test_evaluation_is_a_table_a_dictionary_and_a_text(tmp_path):
    shown = evaluate(drawn(), [0.2, 0.3, 0.5], resamples=50, seed=3)
    assert shown == evaluate(drawn(), [0.2, 0.3, 0.5], resamples=50, seed=3)
    table = shown.table()
    assert table["name"].to_pylist() == ["ipw", "snipw", "dm", "dr", "sndr", "switch_dr", "dros"]
    assert table["value"][3].as_py() == shown["dr"].value
    shown.to_json(tmp_path / "shown.json")
    assert json.loads((tmp_path / "shown.json").read_text()) == json.loads(
        json.dumps(shown.to_dict())
    )
    text = str(shown)
    assert "95 % interval" in text
    assert f"{shown['dr'].value:.5f}" in text
    assert "600 rows, worth" in text


def test_slots_are_valued_where_whole_arms_cannot_be():
    """Sixteen arms of four slots, one of them hardly ever sent as a whole."""
    levels = np.array([[(k >> s) & 1 for s in range(4)] for k in range(16)])
    rng = np.random.default_rng(2)
    row = np.where(np.arange(16) == 15, 0.004, 0.996 / 15)
    arms = rng.choice(16, 6000, p=row)
    effects = np.array([0.05, 0.1, -0.05, 0.1])
    rates = 0.3 + levels @ effects
    rewards = (rng.random(6000) < rates[arms]).astype(float)
    rounds = LoggedRounds(arms, rewards, row[arms], np.tile(row, (6000, 1)), slot_levels=levels)
    target = np.eye(16)[15]
    assert evaluate(rounds, target).refusal is not None
    shown = evaluate(rounds, target, estimators=["dr", "slot_wise", "mips"], slots=[1])
    assert [estimate.name for estimate in shown.estimates] == ["slot_wise", "mips"]
    assert shown.refusal is None
    assert "values by whole emails are left out" in " ".join(shown.warnings)
    slot_wise = shown["slot_wise"]
    assert slot_wise.low < rates[15] < slot_wise.high
    assert abs(slot_wise.value - rates[15]) < 4 * slot_wise.se
    first_alone = rates[levels[:, 1] == 1]
    weights = row[levels[:, 1] == 1]
    of_slot = float(first_alone @ weights / weights.sum())
    assert abs(shown["mips"].value - of_slot) < 4 * shown["mips"].se


class CountingSplit:
    """An equal split that keeps the counts it has learned."""

    name, label, support = "counting_split", "Counting split", (0.0, 1.0)
    statistic = Moments

    def __init__(self):
        self.counts = np.zeros(3)

    def prepare(self, statistic, problem, upcoming, rng):
        self.counts = np.array(statistic.count)

    def propensities(self, prepared, contexts):
        return np.full(3, 1 / 3)


def test_learning_policy_learns_from_the_arms_that_it_would_send():
    rounds = drawn(n=4000, row=(0.8, 0.1, 0.1))
    policy = CountingSplit()
    evaluate(rounds, LearningPolicy(policy, orders=2))
    assert policy.counts.sum() > 200
    np.testing.assert_allclose(policy.counts / policy.counts.sum(), [1 / 3] * 3, atol=0.07)


def test_learning_policy_nears_the_best_arm_as_it_learns():
    rounds = drawn(n=1500, row=(1 / 3, 1 / 3, 1 / 3), rates=(0.1, 0.6, 0.2))
    shown = evaluate(rounds, LearningPolicy("thompson", orders=4), seed=2)
    (estimate,) = shown.estimates
    assert (estimate.name, estimate.interval) == ("sequential_dr", "orders")
    assert 0.5 < estimate.value < 0.65
    assert shown == evaluate(rounds, LearningPolicy("thompson", orders=4), seed=2)
    equal = evaluate(rounds, LearningPolicy("uniform", orders=4), seed=2).estimates[0]
    assert equal.value == pytest.approx(rounds.rewards.mean(), abs=3 * equal.se + 0.01)
    few = evaluate(rounds.take(slice(0, 120)), LearningPolicy("thompson", orders=2))
    assert few.estimates == ()
    assert few.refusal.startswith("of the log's 120 rows the policy would have drawn ")

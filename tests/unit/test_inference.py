import numpy as np
import pytest
from msgspec.structs import replace
from scipy import special, stats

from bandits.inference import aipw
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.clusters import ClusterSums
from bandits.inference.confidence_sequences import lift_bounds, rate_bounds
from bandits.inference.estimates import (
    EstimationContext,
    constant_rates,
    contrast,
    gain_over_control_group,
    gain_over_equal_split,
    lead,
    lifts,
    values,
    variant_weights,
)
from bandits.inference.intervals import LIFT, RATE, WEIGHTED, Family, Interval
from bandits.inference.lift_periods import LiftPeriodSums
from bandits.inference.periods import PeriodSums, levels_evidence, trend_factor
from bandits.inference.sample_ratio import SampleRatio

PLAIN = EstimationContext(contextual=False, drifting=False, floor=0.01)
STEADY = EstimationContext(contextual=False, drifting=False, floor=0.01, steady=True)
CONTEXTUAL = EstimationContext(contextual=True, drifting=False, floor=0.01)
ALONE = Family("rates")
ALL = np.ones((1, 3), dtype=np.bool_)


def _evidence(successes, trials, shares, eligible=None):
    """Make evidence of rewards 0 and 1 that were all drawn with the same shares."""
    sets = np.ones((1, len(trials)), dtype=np.bool_) if eligible is None else eligible
    arms = np.repeat(np.arange(len(trials)), trials)
    rewards = np.concatenate(
        [np.arange(n) < s for s, n in zip(successes, trials, strict=True)]
    ).astype(float)
    strata = np.zeros(len(arms), dtype=np.int64)
    return AipwSums.from_decisions(sets, strata, arms, rewards, np.array(shares)[arms])


def _random_log(seed=0, n=4_000):
    rng = np.random.default_rng(seed)
    sets = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 1, 1]], dtype=np.bool_)
    strata = rng.integers(0, 3, n)
    arms = np.array([rng.choice(np.flatnonzero(sets[g])) for g in strata])
    rewards = np.where(rng.random(n) < 0.4, rng.gamma(2, 3, n), 0)
    return sets, strata, arms, rewards, rng.uniform(0.1, 1, n)


def _scores(evidence, log, weights, *, policy=0.0):
    """Score every decision one by one, (n, K) at a time."""
    _, _, arms, rewards, propensities = log
    got = arms[:, None] == np.arange(evidence.n_arms)
    noise = got * (rewards[:, None] - evidence.means) / propensities[:, None]
    return policy * rewards + (weights * (evidence.means + noise)).sum(axis=1)


def test_a_lift_sums_the_scores_of_decisions_that_could_have_got_both_arms():
    log = _random_log()
    evidence = AipwSums.from_decisions(*log)
    weights = np.array([-1.0, 1.0, 0.0, 0.0])
    both = log[0][log[1]][:, :2].all(axis=1)
    scores = _scores(evidence, log, weights)[both]
    found = aipw.contrast(evidence, weights)
    assert found.n == np.count_nonzero(both)
    assert found.total == pytest.approx(scores.sum())
    assert found.variation >= np.sum((scores - scores.mean()) ** 2) * (1 - 1e-9)
    assert found.variation <= np.sum((scores - scores.mean()) ** 2) * 1.2
    among = both & (log[2] < 2)
    assert found.conversions == np.count_nonzero(log[3][among])
    assert found.fewest_sends == np.bincount(log[2][among]).min()


def test_the_gain_is_reward_less_the_equal_split_of_what_each_decision_could_have_got():
    log = _random_log()
    evidence = AipwSums.from_decisions(*log)
    could = log[0][log[1]]
    split = could / could.sum(axis=1, keepdims=True)
    gain = _scores(evidence, log, -split, policy=1.0)
    found = aipw.gain_over_equal_split(evidence)
    assert found.total == pytest.approx(gain.sum())
    assert found.variation >= np.sum((gain - gain.mean()) ** 2) * (1 - 1e-9)
    assert aipw.equal_split(evidence).total == pytest.approx(_scores(evidence, log, split).sum())
    assert aipw.equal_split(evidence).total + found.total == pytest.approx(log[3].sum())


def test_contrasts_scored_together_are_those_scored_one_by_one():
    evidence = AipwSums.from_decisions(*_random_log())
    weights = np.eye(4)[[1, 2, 3, 2]] - np.eye(4)[[0, 0, 0, 1]]
    weights = np.concatenate([weights, np.eye(4)])
    together = aipw.contrast_rows(evidence, weights)
    for i, row in enumerate(weights):
        alone = aipw.contrast(evidence, row)
        for name in ("n", "total", "variation", "variation_expected", "conversions"):
            assert getattr(together, name)[i] == pytest.approx(getattr(alone, name))
        assert together.fewest_sends[i] == alone.fewest_sends


def test_values_under_equal_shares_are_the_arms_own_means():
    evidence = _evidence([30, 50, 45], [200, 250, 300], [1 / 3] * 3)
    np.testing.assert_allclose(evidence.means, [0.15, 0.2, 0.15])


def test_an_arm_without_success_is_not_taken_as_certain():
    evidence = _evidence([60, 0], [1_000, 30], [0.97, 0.03])
    scores = aipw.contrast(evidence, np.array([-1.0, 1.0]))
    own = 60 / 1000 * 940 / 1000
    assert scores.variation > 0.9 * 30 * own / 0.03**2


def test_a_propensity_of_0_is_refused():
    with pytest.raises(ValueError, match="propensities"):
        AipwSums.from_decisions(ALL, np.array([0]), np.array([1]), np.array([1.0]), np.array([0.0]))


@pytest.mark.parametrize(
    ("facts", "holds"),
    [
        (PLAIN, True),
        (CONTEXTUAL, False),
        (EstimationContext(contextual=False, drifting=True, floor=0.01), False),
        (EstimationContext(contextual=False, drifting=False, floor=0.01, low=-5.0), False),
        (EstimationContext(contextual=False, drifting=False, floor=0.01, high=500.0), False),
    ],
)
def test_constant_rates_need_no_context_no_drift_and_rewards_from_0_to_1(facts, holds):
    evidence = _evidence([30, 50], [200, 250], [0.5, 0.5])
    assert constant_rates(facts, evidence) is holds
    guarantee = RATE if holds else WEIGHTED
    assert {f.guarantee for f in values(facts, evidence, ALONE) if f.measurable} <= {guarantee}


def test_constant_rates_need_every_arm_to_be_eligible_always():
    sets = np.array([[1, 1, 1], [1, 1, 0]], dtype=np.bool_)
    every = AipwSums.from_decisions(
        sets, np.zeros(9, int), np.arange(9) % 3, np.ones(9), np.full(9, 0.3)
    )
    some = AipwSums.from_decisions(
        sets, np.ones(4, int), np.arange(4) % 2, np.ones(4), np.full(4, 0.5)
    )
    assert constant_rates(PLAIN, every)
    assert not constant_rates(PLAIN, every + some)
    assert not constant_rates(PLAIN, some)
    assert not constant_rates(PLAIN, every.padded(4))
    by_time_alone = replace(PLAIN, requested=False)  # an arm joined, or paused
    assert constant_rates(by_time_alone, every + some)
    assert constant_rates(by_time_alone, every.padded(4))


def test_rates_are_shown_by_the_exact_sequence_at_the_familys_level():
    evidence = _evidence([30, 50, 0], [200, 250, 0], [0.4, 0.4, 0.2])
    first, second, third = values(PLAIN, evidence, Family("rates", 3))
    assert first.measurable
    assert second.measurable
    assert (first.low, first.high) == rate_bounds(30, 200, 0.05 / 3)
    assert second.estimate == 0.2
    assert second.confidence == "98.333 %"
    assert second.sentence == "98.333 % interval, valid however often you look"
    assert not third.measurable


def test_a_lift_is_weighted_unless_somebody_vouches_that_rates_are_steady():
    evidence = _evidence([40, 60], [400, 400], [0.5, 0.5])
    weighted, exact = (lifts(f, evidence, 0, ALONE)[1] for f in (PLAIN, STEADY))
    assert weighted.measurable
    assert exact.measurable
    assert weighted.guarantee is WEIGHTED
    assert exact.guarantee is LIFT
    assert (exact.low, exact.high) == lift_bounds(40, 400, 60, 400, 0.05)
    assert weighted.estimate == pytest.approx(exact.estimate)
    assert weighted.estimate == pytest.approx(0.05)


def test_reference_arm_has_no_lift_over_itself():
    assert set(lifts(PLAIN, _evidence([1, 2, 3], [9, 9, 9], [1 / 3] * 3), 1, ALONE)) == {0, 2}


@pytest.mark.parametrize(
    ("successes", "trials", "shown"),
    [([24, 25], [90, 90], False), ([25, 25], [90, 90], True), ([60, 20], [90, 24], False)],
)
def test_a_weighted_interval_waits_for_50_conversions_and_25_decisions(successes, trials, shown):
    found = contrast(PLAIN, _evidence(successes, trials, [0.5, 0.5]), np.array([-1.0, 1.0]), ALONE)
    assert found.measurable is shown
    if not found.measurable:
        assert f"{min(50, sum(successes))} of 50 successes" in found.reason


def test_weighted_intervals_need_a_floor():
    bare = EstimationContext(contextual=True, drifting=False, floor=0.0)
    evidence = _evidence([400, 600], [4_000, 4_000], [0.5, 0.5])
    for found in (*values(bare, evidence, ALONE), gain_over_equal_split(bare, evidence, ALONE)):
        assert not found.measurable
        assert "minimum share" in found.reason


def test_arms_that_never_competed_cannot_be_compared():
    sets = np.array([[1, 0, 1], [0, 1, 1]], dtype=np.bool_)
    strata = np.repeat([0, 1], 500)
    arms = np.where(np.arange(1_000) % 2, 2, strata)
    evidence = AipwSums.from_decisions(sets, strata, arms, np.ones(1_000), np.full(1_000, 0.5))
    assert not lifts(PLAIN, evidence, 0, ALONE)[1].measurable
    assert lifts(PLAIN, evidence, 0, ALONE)[2].measurable


def test_a_gain_is_measurable_only_once_its_interval_excludes_0():
    small = _evidence([60, 70], [1_000, 1_000], [0.5, 0.5])
    large = _evidence([5, 9_000], [500, 9_500 * 3], [0.02, 0.98])
    assert not gain_over_equal_split(PLAIN, small, ALONE).measurable
    found = gain_over_equal_split(PLAIN, large, ALONE)
    assert found.measurable
    assert 0 < found.low < found.estimate < found.high


def _spread_out(successes: list[int], sends: list[int]) -> ClusterSums:
    """Make cluster sums of recipients with one email each."""
    groups = np.repeat([0, 1], sends)
    rewards = np.concatenate([np.arange(n) < s for s, n in zip(successes, sends, strict=True)])
    buckets = np.random.default_rng(5).integers(0, 256, len(groups))
    return ClusterSums.from_decisions(buckets, groups, rewards.astype(float))


def test_the_gain_over_the_control_group_is_the_difference_of_means_for_all_outside_it():
    groups = _evidence([2_850, 100], [95_000, 5_000], [0.95, 0.05])
    found = gain_over_control_group(groups, _spread_out([2_850, 100], [95_000, 5_000]), ALONE)
    assert found.measurable
    assert found.estimate == pytest.approx(95_000 * (2_850 / 95_000 - 100 / 5_000))
    assert found.low < found.estimate < found.high


def test_the_leader_is_compared_with_every_other_at_its_share_of_alpha():
    evidence = _evidence([60, 110, 200], [1_000, 1_000, 1_000], [1 / 3] * 3)
    found = lead(STEADY, evidence, np.arange(3), 0.05)
    assert found is not None
    assert (found.arm, found.leads, found.rivals) == (2, True, ())
    assert found.at_most == 0
    assert found.family.alpha_each == 0.025
    close = lead(STEADY, _evidence([60, 190, 200], [1_000] * 3, [1 / 3] * 3), np.arange(3), 0.05)
    assert close is not None
    assert (close.leads, close.rivals) == (False, (1,))
    assert close.at_most == lift_bounds(200, 1_000, 190, 1_000, 0.025)[1]


def test_lead_leaves_out_a_paused_arm_and_names_one_that_is_not_measurable_yet():
    evidence = _evidence([60, 300, 2], [1_000, 1_000, 10], [0.45, 0.45, 0.1])
    without = lead(PLAIN, evidence, np.array([0, 1]), 0.05)
    assert without is not None
    assert without.leads
    every = lead(PLAIN, evidence, np.arange(3), 0.05)
    assert every == replace(without, uncompared=(2,))
    alone = lead(PLAIN, _evidence([60, 2, 2], [1_000, 10, 10], [0.8, 0.1, 0.1]), np.arange(3), 0.05)
    assert alone is not None
    assert (alone.leads, alone.at_most, alone.uncompared) == (False, None, (0, 2))
    assert lead(PLAIN, AipwSums.zeros(3), np.arange(3), 0.05) is None


def test_a_lucky_arm_of_few_decisions_does_not_lead() -> None:
    """The rare arm has the largest mean, and says least: to send only it would risk most."""
    evidence = _evidence([200, 2_100, 60], [2_000, 10_000, 250], [0.2, 0.78, 0.02])
    assert np.argmax(evidence.means) == 2
    found = lead(PLAIN, evidence, np.arange(3), 0.05)
    assert found is not None
    assert found.arm == 1


def test_a_rare_arm_without_an_interval_of_its_own_does_not_lead_by_its_estimate() -> None:
    """Thirty clicks are too few for its interval, and enough to compare it with the other."""
    evidence = _evidence([1_000, 30], [10_000, 250], [0.976, 0.024])
    assert np.argmax(evidence.means) == 1
    found = lead(PLAIN, evidence, np.arange(2), 0.05)
    assert found is not None
    assert (found.arm, found.leads, found.rivals) == (0, False, (1,))
    assert found.at_most is not None


def test_a_slots_variants_are_compared_under_an_equal_mix_of_combinations_both_go_with():
    levels = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(
        variant_weights(levels, slot=0, variant=1, against=0), [-0.5, -0.5, 0, 0.5, 0.5, 0]
    )
    np.testing.assert_array_equal(
        variant_weights(levels, slot=0, variant=2, against=0), [0, 0, -1, 0, 0, 1]
    )
    assert not variant_weights(levels, slot=0, variant=2, against=1).any()


def test_an_interval_is_expressed_per_thousand():
    per_email = Interval(-0.001, 0.002, 0.0005, 0.05, "rate", ALONE)
    per_thousand = per_email.times(1_000)
    assert (per_thousand.low, per_thousand.high, per_thousand.estimate) == (-1, 2, 0.5)
    assert per_thousand.contains(0)


@pytest.mark.parametrize(
    ("family", "each"),
    [
        (Family.leading(5), 0.0125),
        (Family.against_control(3, alpha=0.1), 0.05),
        (Family.segments(4, 5), 0.0025),
        (Family.leading(1), 0.05),
    ],
)
def test_level_of_a_family_of_comparisons_is_shared_out(family, each):
    assert family.alpha_each == pytest.approx(each)
    assert str(family.comparisons) in family.sentence or family.comparisons == 1


@pytest.mark.parametrize(("comparisons", "alpha"), [(0, 0.05), (1, 0.0), (1, 1.0)])
def test_family_without_comparisons_or_level_is_refused(comparisons, alpha):
    with pytest.raises(ValueError, match="family"):
        Family("claims", comparisons, alpha)


def test_sample_ratios_add_up_over_shared_and_own_probabilities():
    arms = np.array([0, 1, 1, 2])
    shared = np.array([0.5, 0.3, 0.2])
    one = SampleRatio.from_draws(arms, shared)
    other = SampleRatio.from_draws(arms, np.broadcast_to(shared, (4, 3)))
    for field in ("sent", "expected", "square"):
        np.testing.assert_allclose(getattr(one, field), getattr(other, field))
    np.testing.assert_allclose(one.excess, arms.size * (np.array([1, 2, 1]) / 4 - shared))
    np.testing.assert_allclose(one.variance, 4 * shared * (1 - shared))


def test_sample_ratio_p_value_holds_where_three_sends_are_expected():
    n, share = 300, 0.01
    sent = np.arange(n + 1.0)
    expected = np.full(n + 1, n * share)
    ratio = SampleRatio(sent[:, None], expected[:, None], expected[:, None] * share)
    log_chances = stats.binom.logpmf(sent, n, share)
    mean = np.exp(special.logsumexp(log_chances + ratio.evidence[:, 0]))
    assert mean <= 1, "a supermartingale that starts at 1"
    assert ratio.p_values[3, 0] == 1
    assert ratio.p_values[30, 0] < ratio.level


def test_sample_ratio_with_many_sends_alarms_at_about_four_standard_deviations():
    expected, square = 50_000.0, 25_000.0
    for deviation, alarmed in ((3.5, False), (-3.5, False), (4.1, True), (-4.1, True)):
        sent = expected + deviation * np.sqrt(expected - square)
        columns = ((sent, 1e5 - sent), (expected, expected), (square, square))
        assert SampleRatio(*map(np.array, columns)).alarms().tolist() == [alarmed, alarmed]


def test_an_arm_that_could_not_be_sent_alarms_when_it_was():
    none, some = np.array([0.0]), np.array([2.0])
    assert SampleRatio(some, none, none).alarms()[0]
    assert not SampleRatio(none, none, none).alarms()[0]
    assert not SampleRatio(some, some, some).alarms()[0]


def test_levels_need_two_periods_with_successes():
    zeros, some = np.zeros((4, 2)), np.full((4, 2), 9.0)
    days = np.arange(4)
    assert levels_evidence(days[:0], zeros[:0], zeros[:0], zeros[:0]) == pytest.approx(0)
    assert levels_evidence(days, zeros, zeros, zeros) == pytest.approx(0)
    assert levels_evidence(days, 100 * some, zeros, zeros) == pytest.approx(0)
    one = levels_evidence(days[:1], some[:1] * 100, some[:1] * 10, some[:1] * 10)
    assert one == pytest.approx(0)


def test_trend_factor_is_the_ratio_of_two_normal_densities():
    rng = np.random.default_rng(3)
    y, n, time = rng.normal(size=6), rng.integers(1, 9, 6).astype(float), np.arange(6.0)
    vague = np.diag(1 / n) + 1e6  # a mean that may be anything
    moved = vague + 0.3**2 * np.outer(time, time)
    dense = stats.multivariate_normal.logpdf
    expected = dense(y, np.zeros(6), moved) - dense(y, np.zeros(6), vague)
    assert trend_factor(y, n, time, np.array(0.3)) == pytest.approx(expected, abs=1e-4)


def test_lift_sums_weigh_each_decision_by_the_other_arms_share():
    shares = np.array([[0.2, 0.5, 0.3], [0.4, 0.0, 0.6]])  # arm 1 is the control
    sums = LiftPeriodSums.from_decisions(
        np.array([3, 3, 3, 5]),
        np.array([0, 0, 1, 0]),
        np.array([0, 1, 2, 2]),
        np.array([2.0, 3.0, 7.0, 1.0]),
        scales=np.ones(4),
        shares=shares,
        control=1,
    )
    assert sums.numbers.tolist() == [3, 5]
    weight = 0.5 / 0.7  # h / π of arm 0: what both have, the control's part
    first = sums.sums[0]
    np.testing.assert_allclose(
        first[:, 0], [1, weight, 2 * weight, weight**2, *(2 / 7 * x for x in (1, 3)), (2 / 7) ** 2]
    )
    np.testing.assert_allclose(first[:, 2], [0, 0, 0, 0, 3 / 8, 9 / 8, (3 / 8) ** 2])
    assert first[1:, 1].tolist() == [0] * 6
    np.testing.assert_allclose(sums.sums[1, :4, 2], [1, 5 / 8, 5 / 8, (5 / 8) ** 2])
    again = LiftPeriodSums.load(sums.dump(), 3)
    np.testing.assert_array_equal(again.sums, sums.sums)
    nothing = sums.padded(4) - again.padded(4)
    assert isinstance(nothing, LiftPeriodSums)
    assert nothing.numbers.size == 0


def test_lifts_are_looked_at_after_whole_weeks_alone():
    rates = PeriodSums(np.arange(6), np.full((6, 3, 2), 100.0))
    none = LiftPeriodSums.zeros(2)
    assert none.p_value(rates, 0, 1.0) == (1.0, 0)
    for days, weeks in (
        (6, 0),
        (7, 1),
        (13, 1),
        (14, 2),
        (27, 2),
        (28, 4),
        (56, 8),
        (58, 8),
        (59, 16),
    ):
        rates = PeriodSums(np.arange(days), np.full((days, 3, 2), 100.0))
        steady = LiftPeriodSums(np.arange(days), np.full((days, 7, 2), 100.0))
        assert steady.p_value(rates, 0, 1.0) == (1.0, weeks)

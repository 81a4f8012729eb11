"""What a control group can show is said beforehand, and what its sums say of recipients."""

import numpy as np
import pytest

from bandits.inference.clusters import BUCKETS, ClusterSums, buckets_of
from bandits.inference.control_group import design_effect, emails_to_show, smallest_gain_shown


def test_smallest_gain_of_two_million_emails_is_a_tenth():
    assert smallest_gain_shown(2_000_000, 0.02, 0.05) == pytest.approx(0.1, abs=0.005)
    assert emails_to_show(0.1, 0.02, 0.05) == pytest.approx(2_000_000, rel=0.1)


def test_smallest_gain_falls_with_emails_and_with_the_control_group():
    gains = [smallest_gain_shown(n, 0.02, 0.05) for n in (50_000, 100_000, 500_000, 5_000_000)]
    assert gains == sorted(gains, reverse=True)
    assert smallest_gain_shown(100_000, 0.02, 0.2) < smallest_gain_shown(100_000, 0.02, 0.05)


def test_smallest_gain_grows_with_emails_of_the_same_recipient():
    once, often = (smallest_gain_shown(500_000, 0.02, 0.05, m) for m in (1, 12))
    assert often > 2 * once
    assert design_effect(12) == pytest.approx(1 + 11 * 0.4)
    assert emails_to_show(0.1, 0.02, 0.05, 12) > 4 * emails_to_show(0.1, 0.02, 0.05)


def test_smallest_gain_of_a_small_plan_is_none():
    assert smallest_gain_shown(5_000, 0.02, 0.05) is None
    assert smallest_gain_shown(20_000, 0.02, 0.05, 12) is None


@pytest.mark.parametrize("gain", [0.05, 0.2, 0.5, 2.0])
def test_emails_to_show_are_those_that_show(gain):
    emails = emails_to_show(gain, 0.04, 0.1, 3, 1.9)
    shown = smallest_gain_shown(emails * 1.0001, 0.04, 0.1, 3, 1.9)
    assert shown is not None
    assert shown <= gain


def test_buckets_are_even_and_an_experiments_own():
    keys = np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64)
    one, other = buckets_of(b"salt" * 4, keys), buckets_of(b"tlas" * 4, keys)
    for buckets in (one, other):
        counts = np.bincount(buckets, minlength=BUCKETS)
        assert len(counts) == BUCKETS
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 360  # p < 1e-4
    together = np.bincount(one * BUCKETS + other, minlength=BUCKETS**2)
    assert ((together - together.mean()) ** 2 / together.mean()).sum() < 66_900


def test_design_effect_of_one_email_each_is_about_one():
    assert design_effect_of(emails=1) == pytest.approx(1.0, abs=0.25)


def test_design_effect_is_that_of_recipients_who_are_alike():
    assert design_effect_of(emails=10) == pytest.approx(1 + 9 * 0.4, rel=0.25)


@pytest.mark.parametrize("each", [1, 4])
def test_emails_of_a_recipient_are_told_by_how_buckets_vary(each):
    rng = np.random.default_rng(1)
    buckets = np.repeat(rng.integers(0, BUCKETS, 20_000), each)
    groups = np.repeat((rng.random(20_000) < 0.05).astype(np.int64), each)
    sums = ClusterSums.from_decisions(buckets, groups, np.zeros(len(buckets)))
    assert sums.emails_each == pytest.approx(each, rel=0.3)
    assert ClusterSums.zeros().emails_each == 1.0


def test_design_effect_of_what_left_the_log_is_taken_in_proportion():
    half, whole = design_effect_of(emails=10, times=1.0), design_effect_of(emails=10, times=2.0)
    assert whole - 1 == pytest.approx(2 * (half - 1))


def test_design_effect_of_those_decided_for_counts_by_how_much_better_their_emails_are():
    """With hardly any conversion of the held out it is theirs, its excess over the gain."""
    hardly = 1e-9
    as_good, better = (design_effect_of(emails=10, rates=(f * hardly, hardly)) for f in (1.0, 3.0))
    assert as_good - 1 == pytest.approx(3 * (better - 1), rel=1e-4)
    assert as_good == pytest.approx(1 + 9 * 0.4, rel=0.25)


def design_effect_of(*, emails, times=1.0, subjects=20_000, holdout=0.2, rates=(0.2, 0.2)):
    draws = np.random.default_rng(7)
    own = draws.beta(0.3, 1.2, subjects)
    who = np.repeat(np.arange(subjects), emails)
    groups = (draws.random(subjects) < holdout)[who].astype(np.int64)
    buckets = draws.integers(0, BUCKETS, subjects)[who]
    clicks = (draws.random(len(who)) < own[who]).astype(float)
    sums = ClusterSums.from_decisions(buckets, groups, clicks)
    decisions = np.bincount(groups)
    return sums.design_effect(decisions * times, decisions * np.array(rates), holdout)


def test_cluster_sums_without_decisions_are_the_identity_of_addition():
    some = ClusterSums.from_decisions(np.array([3]), np.array([1]), np.array([2.0]))
    none = ClusterSums.zeros()
    for sums in (none + some, some + none, some - none, ClusterSums.load(some.dump())):
        np.testing.assert_array_equal(sums.moments, some.moments)
    assert not (some - some).moments.any()
    assert not (none + none).moments.size
    np.testing.assert_array_equal(some.negated.moments.sum(axis=(1, 2)), [1, -2, 4])

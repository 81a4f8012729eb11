import numpy as np
import pytest

from bandits.inference.aipw_sums import AipwSums
from bandits.inference.cohorts import CohortCounts
from bandits.inference.recent_days import DAY, RecentDays, last_closed_day, sum_by_day

SETS = np.array([[1, 1, 1], [1, 1, 0]], dtype=np.bool_)


def decisions(seed, n=400):
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, 2, n)
    arms = np.where(strata == 1, rng.integers(0, 2, n), rng.integers(0, 3, n))
    rewards = (rng.random(n) < 0.4) * 1.0
    columns = (SETS, strata, arms, rewards, rng.uniform(0.1, 1, n), rewards != 0)
    return columns, rng.integers(90, 110, n)


def same(one, other):
    assert np.array_equal(one.days, other.days)
    assert np.array_equal(one.sums.eligible, other.sums.eligible)
    np.testing.assert_allclose(one.sums.moments, other.sums.moments, atol=1e-9)
    np.testing.assert_allclose(one.sums.earning, other.sums.earning)


def test_sum_by_day_gives_the_same_in_all_as_without_days():
    columns, days = decisions(1)
    every, recent = sum_by_day(columns, days, 103)
    plain = AipwSums.from_decisions(*columns[:-1], earned=columns[-1])
    np.testing.assert_allclose(every.moments, plain.moments)
    assert recent.days.tolist() == list(range(103, 110))
    total = recent.total(105, 107)
    assert total.sends.sum() == np.count_nonzero((days >= 105) & (days <= 107))


def test_recent_days_add_subtract_and_survive_storing():
    (one, first), (two, second) = (decisions(seed) for seed in (1, 2))
    a, b = (sum_by_day(c, d, 100)[1] for c, d in ((one, first), (two, second)))
    same((a + b) - b, a)
    same(a - a, RecentDays.zeros(3))
    same(RecentDays.load((a + b).dump()), a + b)
    same((a + b).since(104), a.since(104) + b.since(104))
    assert (a.padded(5) + RecentDays.zeros(5)).sums.n_arms == 5


def test_recent_days_trimmed_later_are_those_that_were_never_summed():
    columns, days = decisions(3)
    same(sum_by_day(columns, days, 100)[1].since(105), sum_by_day(columns, days, 105)[1])


@pytest.mark.parametrize(
    ("at", "window", "day"),
    [(10 * DAY, 0.0, 9), (10 * DAY - 1, 0.0, 8), (10 * DAY, DAY, 8), (10.5 * DAY, DAY, 8)],
)
def test_day_is_closed_once_the_window_of_its_last_email_is_over(at, window, day):
    assert last_closed_day(at, window) == day


def test_cohort_counts_add_subtract_and_survive_storing():
    def counts(seed):
        (_, strata, *_), days = decisions(seed)
        return CohortCounts.from_decisions(SETS, np.array([False, True]), strata, days)

    a, b = counts(1), counts(2)
    back = (a + b) - b
    assert np.array_equal(back.counts, a.counts)
    assert np.array_equal(back.rows, a.rows)
    assert not (a - a).counts.size
    again = CohortCounts.load((a + b).dump())
    assert np.array_equal(again.spread(a + b), (a + b).counts)
    assert a.narrowed
    assert a.weights(np.array([0, 1])).sum() == 400
    assert a.weights(np.array([0, 2])).sum() == a.counts[:, a.sets[:, 2]].sum()
    assert a.padded(4).weights(np.array([3])).sum() == 0

import mpmath
import numpy as np
import pytest

from bandits.inference.confidence_sequences import lift_bounds, log_mixture_ratio, rate_bounds

ALPHA = 0.05


def _exact_log_ratio(s, n, p):
    with mpmath.workdps(60):
        s, n, p = (mpmath.mpf(float(x)) for x in (s, n, p))
        mixture = mpmath.loggamma(1 + s) + mpmath.loggamma(1 + n - s) - mpmath.loggamma(2 + n)
        wins = s * mpmath.log(p) if s else 0
        losses = (n - s) * mpmath.log(1 - p) if n > s else 0
        return float(mixture - wins - losses)


@pytest.mark.parametrize("n", [1, 2, 17, 1_000, 54_321, 10**6, 10**8])
@pytest.mark.parametrize("part", [0.0, 1e-6, 0.02, 0.5, 0.93, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 59, 1e-9])
def test_rate_interval_ends_solve_the_equation_at_any_count(n, part, alpha):
    for s in (round(n * part), n - round(n * part)):  # a high end is 1 less the mirrored low end
        low, _ = rate_bounds(s, n, alpha)
        if s == 0:
            assert low == 0
        else:
            assert _exact_log_ratio(s, n, low) == pytest.approx(-np.log(alpha), abs=1e-6)
        assert rate_bounds(n - s, n, alpha)[1] == 1 - low


@pytest.mark.parametrize("s", [0.3, 41.7, 99_999.25])
def test_rate_interval_of_fractional_rewards_solves_the_same_equation(s):
    for end in rate_bounds(s, 100_000, ALPHA):
        if end < 1 - 1e-9:  # nearer to 1 a double cannot say it
            assert _exact_log_ratio(s, 100_000, end) == pytest.approx(-np.log(ALPHA), abs=1e-6)


@pytest.mark.parametrize("left_over", [5e-324, 2e-309, 1e-120])
def test_rounding_left_of_no_success_counts_as_none(left_over):
    low, high = rate_bounds(left_over, 100, ALPHA)
    assert low == pytest.approx(0, abs=1e-90)
    assert high == rate_bounds(0, 100, ALPHA)[1]


def test_rate_interval_without_decisions_is_everything():
    assert rate_bounds(0, 0, ALPHA) == (0, 1)


def test_rate_interval_is_0_below_without_successes_and_1_above_without_failures():
    n = np.array([1.0, 10.0, 1e8])
    assert np.all(rate_bounds(np.zeros(3), n, ALPHA)[0] == 0)
    assert np.all(rate_bounds(n, n, ALPHA)[1] == 1)


def test_counts_that_rounding_left_outside_their_range_are_clipped():
    assert rate_bounds(-1e-12, 50, ALPHA) == rate_bounds(0, 50, ALPHA)
    assert rate_bounds(50 + 1e-12, 50, ALPHA) == rate_bounds(50, 50, ALPHA)


def test_rate_intervals_of_many_arms_are_those_of_each_alone():
    s, n = np.array([0.0, 3.0, 250.0, 9.5]), np.array([10.0, 3.0, 10_000.0, 0.0])
    lifts = np.stack(lift_bounds(7, 90, s, n, ALPHA))
    rates = np.stack(rate_bounds(s, n, ALPHA))
    for i in range(4):
        np.testing.assert_allclose(rates[:, i], rate_bounds(s[i], n[i], ALPHA), rtol=1e-12)
        np.testing.assert_allclose(lifts[:, i], lift_bounds(7, 90, s[i], n[i], ALPHA), rtol=1e-9)


def _least_log_product(lift, s_c, n_c, s_a, n_a):
    """Search the control's rate by brute force: ever finer grids around the least value."""
    low, high = max(0.0, -lift), min(1.0, 1.0 - lift)
    for _ in range(8):
        p = np.linspace(low, high, 2001)
        with np.errstate(divide="ignore"):
            values = log_mixture_ratio(s_c, n_c, p)
            values = values + log_mixture_ratio(s_a, n_a, np.clip(p + lift, 0, 1))
        best = int(np.argmin(values))
        low, high = p[max(best - 1, 0)], p[min(best + 1, 2000)]
    return values[best]


@pytest.mark.parametrize(
    ("s_c", "n_c", "s_a", "n_a"),
    [
        (2_000, 10_000, 2_100, 10_000),
        (0, 100, 3, 80),
        (0, 100, 0, 100),
        (100, 100, 90, 100),
        (1, 5, 900, 40_000),
        (20_000, 10**6, 3, 200),
        (10**6, 10**8, 10**6 + 5_000, 10**8),
        (2.5, 30, 11.25, 40),
    ],
)
def test_lift_interval_ends_are_where_the_least_product_reaches_the_threshold(s_c, n_c, s_a, n_a):
    for end in lift_bounds(s_c, n_c, s_a, n_a, ALPHA):
        if abs(end) < 1:
            found = _least_log_product(float(end), s_c, n_c, s_a, n_a)
            assert found == pytest.approx(-np.log(ALPHA), abs=1e-4)


def test_lift_interval_is_the_whole_range_where_nothing_excludes_it():
    assert lift_bounds(0, 0, 0, 0, ALPHA) == (-1, 1)
    assert lift_bounds(0, 40, 40, 40, ALPHA)[1] == 1
    assert lift_bounds(40, 40, 0, 40, ALPHA)[0] == -1


def test_lift_interval_is_14_percent_narrower_than_two_bonferroni_intervals():
    low, high = lift_bounds(2_000, 10_000, 2_000, 10_000, ALPHA)
    each = np.subtract(*rate_bounds(2_000, 10_000, ALPHA / 2)[::-1])
    assert 1 - (high - low) / (2 * each) == pytest.approx(0.14, abs=0.005)


def test_evidence_against_the_true_rate_averages_1_over_all_outcomes():
    n, p = 30, 0.17
    s = np.arange(n + 1.0)
    chances = np.exp([float(mpmath.log(mpmath.binomial(n, int(k)))) for k in s])
    chances *= p**s * (1 - p) ** (n - s)
    assert chances @ np.exp(log_mixture_ratio(s, n, p)) == pytest.approx(1.0, abs=1e-12)

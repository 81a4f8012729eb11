import pytest
from scipy.stats import norm

from simulations.ab_tests.power import (
    Variances,
    crossing_chance,
    fixed_size,
    group_size,
    obrien_fleming,
    rate_variances,
    staying_chance,
)


def test_the_size_of_the_powered_email_test_is_the_known_one():
    """.20 v .22, α .0125, power .8: 9,249 an arm."""
    assert fixed_size(rate_variances(0.20, 0.02), 0.02, 0.0125, 0.8, 0.21 * 0.79) == 9249


def test_the_size_of_scotts_example_is_the_known_one():
    """.04 v .05, α .05, power .95: 22,332 in two arms."""
    assert 2 * fixed_size(rate_variances(0.04, 0.01), 0.01, 0.05, 0.95, 0.045 * 0.955) == 22_332


def test_the_size_for_values_is_the_textbooks():
    z = norm.isf(0.025) + norm.ppf(0.8)
    size = fixed_size(Variances(4.0, 4.0), 0.5, 0.05, 0.8)
    assert size == pytest.approx(2 * 4.0 * z**2 / 0.25, abs=1)


@pytest.mark.parametrize(("looks", "constant"), [(1, 1.960), (2, 1.977), (5, 2.040), (10, 2.087)])
def test_obrien_flemings_boundary_is_that_of_the_tables(looks, constant):
    """Jennison and Turnbull (2000), table 2.3, α = .05."""
    design = obrien_fleming(looks, 0.05, 0.8)
    assert design.barrier / looks**0.5 == pytest.approx(constant, abs=0.001)


@pytest.mark.parametrize(("looks", "ratio"), [(1, 1.0), (2, 1.008), (5, 1.028), (10, 1.040)])
def test_more_looks_cost_what_the_tables_say(looks, ratio):
    """Jennison and Turnbull (2000), table 2.4: the largest size relative to the fixed one."""
    design = obrien_fleming(looks, 0.05, 0.8)
    fixed = (norm.isf(0.025) + norm.ppf(0.8)) ** 2
    assert looks * design.drift**2 / fixed == pytest.approx(ratio, abs=0.0015)


def test_a_walk_of_one_step_stays_as_the_normal_law_says():
    expected = norm.cdf(1.5 - 0.7) - norm.cdf(-1.5 - 0.7)
    assert staying_chance(1.5, 0.7, 1) == pytest.approx(expected, abs=1e-12)


def test_a_group_is_the_designs_share_of_information():
    design = obrien_fleming(5, 0.05, 0.8)
    variances = rate_variances(0.2, 0.02)
    fixed = fixed_size(variances, 0.02, 0.05, 0.8)
    assert 5 * group_size(design, variances, 0.02) == pytest.approx(1.0288 * fixed, rel=0.002)


@pytest.mark.parametrize("looks", [1, 5, 20])
def test_probability_of_leaving_is_the_rest_of_staying(looks):
    assert crossing_chance(6.0, looks) == pytest.approx(1 - staying_chance(6.0, 0.0, looks))


@pytest.mark.parametrize(
    ("looks", "alpha", "power"),
    [(50, 0.05 / 19, 0.8), (50, 1e-6, 0.999999), (5, 1e-30, 0.8), (50, 0.4999, 0.5001)],
)
def test_a_boundary_is_found_for_many_arms_many_looks_and_strict_levels(looks, alpha, power):
    design = obrien_fleming(looks, alpha, power)
    assert crossing_chance(design.barrier, looks) == pytest.approx(alpha, rel=1e-9)
    assert staying_chance(design.barrier, design.drift, looks) == pytest.approx(1 - power, rel=1e-6)


def test_a_size_is_a_whole_number_of_recipients_however_small_or_large_the_lift():
    design = obrien_fleming(5, 0.05, 0.8)
    for lift, size in ((1e-300, 1e15), (1e300, 1)):
        assert fixed_size(Variances(1.0, 1.0), lift, 0.05, 0.8) == size
        assert group_size(design, Variances(1.0, 1.0), lift) == size

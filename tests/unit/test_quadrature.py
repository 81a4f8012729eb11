"""The chance to be the largest, against integrals made in another way: adaptive, with scipy's F."""

import tracemalloc
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from scipy import integrate, special

from bandits.numerics.quadrature import beta_chances, common_edges, student_chances

WANTED = 1e-7
_QUANTILES = np.array([1e-14, 1e-9, 1e-5, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-5, 1 - 1e-9])


def adaptive(pdfs, cdfs, edges):
    """Integrate every f_k Π F_j adaptively between sorted edges, none of them special."""

    def integrand(x):
        below = cdfs(x)
        others = [np.prod(np.delete(below, k)) for k in range(len(below))]
        return pdfs(x) * others

    total = 0.0
    for low, high in pairwise(edges):
        if high > low:
            total = total + integrate.quad_vec(integrand, low, high, epsabs=1e-12)[0]
    return total


def adaptive_beta(alpha, beta):
    # Over y = logit x, since the density of x is infinite at the ends where alpha or beta < 1.
    x = special.betaincinv(alpha, beta, _QUANTILES[:, None])
    with np.errstate(divide="ignore"):
        edges = np.unique(np.clip(special.logit(x), -80, 80))

    def pdfs(y):
        log_x, log_rest = -np.logaddexp(0, -y), -np.logaddexp(0, y)
        return np.exp(alpha * log_x + beta * log_rest - special.betaln(alpha, beta))

    return adaptive(pdfs, lambda y: special.betainc(alpha, beta, special.expit(y)), edges)


def random_posterior(seed):
    rng = np.random.default_rng(seed)
    count = np.floor(10 ** rng.uniform(-1, 6, 5))
    successes = np.floor(count * rng.beta(2, 8, 5))
    return 1 + successes, 1 + count - successes


@pytest.mark.parametrize("seed", range(10))
def test_random_posteriors_of_up_to_a_million_are_exact(seed):
    alpha, beta = random_posterior(seed)
    assert np.abs(beta_chances(alpha, beta) - adaptive_beta(alpha, beta)).max() < WANTED


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        ([1, 5e5], [1, 1e7]),
        ([0.6, 1.0], [199.4, 1.0]),
        ([0.6, 0.6, 5.0], [199.4, 199.4, 1000.0]),
        ([0.5, 0.1, 5e5], [0.5, 3.0, 1e7]),
        ([300, 305, 1, 2000], [700, 695, 1, 5000]),
    ],
)
def test_wide_posterior_beside_a_narrow_one_is_exact(alpha, beta):
    alpha, beta = np.array(alpha, float), np.array(beta, float)
    assert np.abs(beta_chances(alpha, beta) - adaptive_beta(alpha, beta)).max() < WANTED


def test_two_arms_agree_with_a_finite_sum_in_forty_digits():
    # Miller (2015), "Formulas for Bayesian A/B testing", equation 6, for whole parameters.
    alpha, beta = np.array([15, 12]), np.array([80, 90])
    with mpmath.workdps(40):
        terms = [
            mpmath.beta(alpha[1] + i, beta[0] + beta[1])
            / ((beta[0] + i) * mpmath.beta(1 + i, beta[0]) * mpmath.beta(alpha[1], beta[1]))
            for i in range(alpha[0])
        ]
        exact = float(mpmath.fsum(terms))
    assert abs(beta_chances(alpha, beta)[0] - exact) < 1e-12


@pytest.mark.parametrize("n_arms", [1, 2, 5, 50, 200])
@pytest.mark.parametrize("parameter", [0.5, 1.0, 1e6])
def test_equal_arms_share_equally(n_arms, parameter):
    chances = beta_chances(np.full(n_arms, parameter), np.full(n_arms, parameter))
    assert np.abs(chances - 1 / n_arms).max() < 1e-8


def test_states_side_by_side_are_each_alone():
    rng = np.random.default_rng(1)
    alpha, beta = rng.uniform(0.2, 900, (2, 40, 6)), rng.uniform(0.2, 900, (2, 40, 6))
    together = beta_chances(alpha, beta)
    for i in range(0, 40, 7):
        assert np.allclose(
            together[1, i], beta_chances(alpha[1, i], beta[1, i]), rtol=0, atol=1e-13
        )


def test_counts_of_a_million_millions_lose_no_digits():
    chances = beta_chances(np.array([5e11, 5e11 + 3e5]), np.array([1e12, 1e12]))
    # At such counts the rates are normal to many digits.
    mean, n = np.array([5e11, 5e11 + 3e5]) / np.array([1.5e12, 1.5e12 + 3e5]), 1.5e12
    deviation = np.sqrt((mean * (1 - mean) / n).sum())
    assert abs(chances[1] - special.ndtr((mean[1] - mean[0]) / deviation)) < 1e-6


def test_a_chance_below_a_billionth_is_small_but_not_lost():
    alpha, beta = np.array([60.0, 100.0]), np.array([940.0, 900.0])
    chances = beta_chances(alpha, beta)
    with mpmath.workdps(20):
        exact = mpmath.quad(
            lambda x: mpmath.betainc(100, 900, 0, x, regularized=True)
            * x**59 * (1 - x) ** 939 / mpmath.beta(60, 940),
            [0.02, 0.05, 0.07, 0.09, 0.12, 0.2],
        )  # fmt: skip
    assert abs(chances[0] / float(exact) - 1) < 1e-6


@pytest.mark.parametrize("dof", [1.0, 2.0, 3.5, 40.0, 1e6])
def test_student_chances_are_exact_even_with_heavy_tails(dof):
    rng = np.random.default_rng(2)
    for _ in range(3):
        dofs = np.array([dof, dof, 2.0, 30.0])
        location, scale = rng.normal(size=4), 10 ** rng.uniform(-3, 1, 4)
        quantiles = special.stdtrit(dofs, _QUANTILES[2:-1, None]) * scale + location
        # An adaptive integral needs a finite interval: x = tan(θ) has every tail.
        edges = np.unique(np.arctan(quantiles))
        edges = np.concatenate([[-np.pi / 2 + 1e-12], edges, [np.pi / 2 - 1e-12]])
        constant = special.gammaln((dofs + 1) / 2) - special.gammaln(dofs / 2)

        def pdfs(theta, dofs=dofs, location=location, scale=scale, constant=constant):
            z = (np.tan(theta) - location) / scale
            log_density = constant - (dofs + 1) / 2 * np.log1p(z * z / dofs)
            return np.exp(log_density) / np.sqrt(dofs * np.pi) / scale / np.cos(theta) ** 2

        def cdfs(theta, dofs=dofs, location=location, scale=scale):
            return special.stdtr(dofs, (np.tan(theta) - location) / scale)

        actual = student_chances(dofs, location, scale)
        assert np.abs(actual - adaptive(pdfs, cdfs, edges)).max() < WANTED


def test_panels_succeed_where_one_interval_with_many_nodes_fails():
    """The negative control: what the composite rule is for."""
    alpha, beta = np.array([1.0, 5e5]), np.array([1.0, 1e7])
    nodes, weights = np.polynomial.legendre.leggauss(256)
    x = ((nodes + 1) / 2)[:, None]
    log_density = (alpha - 1) * np.log(x) + (beta - 1) * np.log1p(-x) - special.betaln(alpha, beta)
    others = special.betainc(alpha, beta, x)[:, ::-1]
    coarse = weights @ (np.exp(log_density) * others)
    exact = adaptive_beta(alpha, beta)
    assert np.abs(coarse / coarse.sum() - exact).max() > 1e-2
    assert np.abs(beta_chances(alpha, beta) - exact).max() < WANTED


@pytest.mark.parametrize("seed", range(5))
def test_no_common_panel_is_wider_than_an_arm_allows(seed):
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.normal(size=(3, 6, 17)) * 10 ** rng.uniform(-4, 2, (3, 6, 1)), axis=-1)
    actual = common_edges(edges)
    for state in range(3):
        for arm in range(6):
            own = edges[state, arm]
            # How many of its own panels, in fractions, each common panel holds.
            held = np.diff(np.interp(actual[state], own, np.arange(17)))
            assert held.max() <= 1 + 1e-9
    assert np.allclose(actual[:, 0], edges.min(axis=(1, 2)))
    assert np.allclose(actual[:, -1], edges.max(axis=(1, 2)))


def test_each_panel_is_as_wide_as_the_narrowest_there_allows():
    """By going through all places and arms one after another."""
    rng = np.random.default_rng(3)
    edges = np.sort(rng.normal(size=(4, 5, 17)) * 10 ** rng.uniform(-2, 1, (4, 5, 1)), axis=-1)
    edges[1, 2] = edges[1, 4]  # arms may be alike,
    edges[2, :, 8] = 0.5  # or meet in one place
    edges.sort(axis=-1)
    actual = common_edges(edges)
    for state, arms in enumerate(edges):
        places = np.unique(arms)
        middles = (places[:-1] + places[1:]) / 2
        narrowest = np.full(len(middles), np.inf)
        for e in arms:
            for i, middle in enumerate(middles):
                panel = np.searchsorted(e, middle) - 1
                if 0 <= panel < 16:
                    narrowest[i] = min(narrowest[i], e[panel + 1] - e[panel])
        demand = np.concatenate([[0], np.cumsum(np.diff(places) / narrowest)])
        held = np.diff(np.interp(actual[state], places, demand))
        assert held == pytest.approx(demand[-1] / (actual.shape[1] - 1), rel=1e-9)


def test_panels_of_many_arms_are_found_in_one_table():
    """Of the width that each has at each place: it is most of what fifty arms cost."""
    rng = np.random.default_rng(4)
    edges = np.sort(rng.normal(size=(3, 60, 17)), axis=-1)
    common_edges(edges)
    tracemalloc.start()
    common_edges(edges)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.5 * 8 * 3 * 60 * (60 * 17)


def test_arms_that_are_alike_need_no_more_panels_than_one():
    edges = np.broadcast_to(np.linspace(-8, 8, 17), (1, 300, 17))
    assert common_edges(edges).shape == (1, 17)

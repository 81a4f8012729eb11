"""Chances to be best are calibrated: of arms said to be best with chance p, a part p are.

Rates are drawn from the prior, so that Bayes' rule promises it. Seeds are fixed, the false-alarm
rate of each test is 1e-6, and overconfident chances are the negative control that must fail.
"""

import numpy as np
import pytest
from scipy import stats

from bandits.problem import Problem
from bandits.registry import make
from bandits.statistics import Moments
from tests.conftest import SOAK

FALSE_ALARM = 1e-6
WORLDS = 200_000 if SOAK else 8_000
K = 4
NO_CONTEXTS = np.zeros((1, 0))


def worlds(prior, seed):
    """Which arm is best in each world, (W,), and the chances (W, K) after 5 to 60 sends an arm."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(*prior, (WORLDS, K))
    sends = rng.integers(5, 60, rates.shape)
    wins = rng.binomial(sends, rates).astype(float)
    statistic = Moments(sends.astype(float), wins, wins, np.zeros_like(wins))
    policy = make("thompson", {"prior_successes": prior[0], "prior_failures": prior[1]})
    prepared = policy.prepare(statistic, Problem.of(K), 1, rng)
    return rates.argmax(axis=-1), policy.propensities(prepared, NO_CONTEXTS)


def calibrated(best, chances):
    """Whether, in each of ten classes of chances, as many are best as the chances say."""
    hits = (np.arange(K) == best[:, None]).ravel()
    said = chances.ravel()
    classes = np.minimum((said * 10).astype(int), 9)
    expected = np.bincount(classes, said, minlength=10)
    variance = np.bincount(classes, said * (1 - said), minlength=10)
    z = (np.bincount(classes, hits, minlength=10) - expected) / np.sqrt(variance)
    # Arms of one world exclude each other, which only lowers the variance of a class.
    return np.abs(z).max() < stats.norm.isf(FALSE_ALARM / 10 / 2)


@pytest.mark.parametrize("prior", [(1.0, 1.0), (2.0, 8.0), (0.5, 0.5)])
def test_chances_to_be_best_are_calibrated(prior):
    assert calibrated(*worlds(prior, seed=1))


def test_overconfident_chances_are_found():
    best, chances = worlds((1.0, 1.0), seed=1)
    sharper = chances**1.3
    assert not calibrated(best, sharper / sharper.sum(axis=-1, keepdims=True))


def test_chances_of_a_wrong_prior_are_found():
    best, _ = worlds((2.0, 8.0), seed=2)
    _, chances = worlds((1.0, 1.0), seed=2)
    assert not calibrated(best, chances)

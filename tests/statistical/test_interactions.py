"""Interactions: a dependency of two parts is claimed only where there is one, and then found.

Campaigns of 2 × 2 versions run side by side by Thompson sampling with a floor of 5 %, with 40 looks
each. A claim *errs* in a campaign when at any look the interval of an interaction misses 0 where
there is none. With R campaigns and a true error of at most α, the number that err exceeds the bound
with probability at most 1e-4, each test's false-alarm rate.
"""

import numpy as np
import pytest
from scipy.stats import binom, norm

from bandits.allocation import apply_floor
from bandits.array_types import BoolArray, FloatArray
from bandits.engine.analysis.interactions import interaction_weights
from bandits.inference import aipw
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.estimates import BURN_IN_CONVERSIONS, BURN_IN_DECISIONS
from bandits.numerics.quadrature import beta_chances
from tests.conftest import SOAK

CAMPAIGNS = 2000 if SOAK else 300
LOOKS, WAVE, FLOOR, ALPHA, FALSE_ALARM = 40, 600, 0.05, 0.05, 1e-4
LEVELS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
APART = (0.10, 0.14, 0.13, 0.17)  # both parts matter, and neither depends on the other
DEPENDENT = (0.10, 0.10, 0.10, 0.25)  # the second subject line works with the second discount only


def claims(rates: tuple[float, ...], seed: int) -> tuple[BoolArray, BoolArray]:
    """Run campaigns; return whether each claimed a dependency (R,), by ours and by a z-test."""
    rng = np.random.default_rng(seed)
    shape = (CAMPAIGNS, len(rates))
    weights = interaction_weights(LEVELS, np.ones(4, dtype=np.bool_), (0, 1), (1, 1), (0, 0))
    successes, trials = np.zeros(shape), np.zeros(shape)
    evidence = _evidence(np.zeros(shape), np.zeros(shape), np.ones(shape))
    ours, naive = np.zeros(CAMPAIGNS, dtype=np.bool_), np.zeros(CAMPAIGNS, dtype=np.bool_)
    for _ in range(LOOKS):
        shares = apply_floor(beta_chances(successes + 1, trials - successes + 1), FLOOR)
        sent = rng.multinomial(WAVE, shares)
        won = rng.binomial(sent, rates)
        successes, trials = successes + won, trials + sent
        evidence = evidence + _evidence(sent, won, shares)
        scores = aipw.contrast(evidence, weights)
        shown = (scores.conversions >= BURN_IN_CONVERSIONS) & (
            scores.fewest_sends >= BURN_IN_DECISIONS
        )
        ours |= shown & (np.abs(scores.total) > scores.margin(ALPHA))
        naive |= _z(successes, trials, weights) > norm.isf(ALPHA / 2)
    return ours, naive


def _evidence(sent: FloatArray, won: FloatArray, shares: FloatArray) -> AipwSums:
    """Sum decisions whose reward is 0 or 1 and whose shares are the same within a wave."""
    powers = shares[:, None, :] ** -np.arange(3.0)[:, None]
    moments = np.stack([sent, won, won], axis=1)[:, :, None, :] * powers[:, None]
    eligible = np.ones((1, shares.shape[1]), dtype=np.bool_)
    return AipwSums(eligible, moments[:, None], won[:, None].astype(np.float64))


def _z(successes: FloatArray, trials: FloatArray, weights: FloatArray) -> FloatArray:
    """Test the contrast of raw rates, as if nobody had looked before."""
    n = np.maximum(trials, 1.0)
    rate = (successes + 1) / (n + 2)
    return np.abs((successes / n) @ weights) / np.sqrt((weights**2 * rate * (1 - rate) / n).sum(-1))


@pytest.fixture(scope="module")
def apart() -> tuple[BoolArray, BoolArray]:
    return claims(APART, 1)


def test_interaction_is_hardly_ever_claimed_where_there_is_none(apart) -> None:
    assert apart[0].sum() <= binom.isf(FALSE_ALARM, CAMPAIGNS, ALPHA)


def test_interaction_by_a_test_for_one_look_is_claimed_far_too_often(apart) -> None:
    """The negative control: the same harness finds a method that does not keep the promise."""
    assert apart[1].sum() > binom.isf(FALSE_ALARM, CAMPAIGNS, ALPHA)


def test_interaction_that_there_is_is_found() -> None:
    found = claims(DEPENDENT, 2)[0]
    assert found.sum() >= binom.ppf(FALSE_ALARM, CAMPAIGNS, 0.9)

"""Whether comparisons with overlap weights keep their promise, and how much sooner they tell.

Campaigns of Thompson sampling run side by side, 100 looks each. A comparison *errs* in a campaign
when at any look its interval misses the difference of true means, averaged over the emails so far
by the weights that the past gave them. `python -m tests.statistical.test_overlap` prints the table
of the README; with `SOAK=1` before it, of as many campaigns as `make soak` runs.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from bandits.allocation import apply_floor
from bandits.array_types import BoolArray, FloatArray
from bandits.inference import aipw
from bandits.inference.aipw import Scores
from bandits.inference.aipw_sums import AipwSums, ratio
from bandits.inference.estimates import BURN_IN_CONVERSIONS, BURN_IN_DECISIONS
from bandits.inference.overlap import OverlapSums, compare, comparisons_of
from bandits.numerics.quadrature import beta_chances
from bandits.verdict import LITTLE
from tests.conftest import SOAK

CAMPAIGNS = 600 if SOAK else 200
LOOKS = 100
LOOKS_A_DAY = 5
ALPHA = 0.05
FALSE_ALARM = 1e-4
CONTROL = 0


@dataclass(frozen=True)
class World:
    """Campaigns whose emails go out in 100 waves.

    Attributes:
        rates: of conversions, by arm; the first is the control.
        wave: emails in a wave.
        floor: least share of an arm.
        factors: what rates are multiplied with from day to day.
        held_out: the part of recipients that the control group is.
        size: sigma of log-normal values of conversions; 0 where each counts 1.
        high: the largest value.
        learn_every: waves after which shares change.
    """

    rates: tuple[float, ...]
    wave: int
    floor: float = 0.01
    factors: tuple[float, ...] = (1.0,)
    held_out: float = 0.0
    size: float = 0.0
    high: float = np.inf
    learn_every: int = 1

    def at(self, look: int) -> FloatArray:
        return np.array(self.rates) * self.factors[look // LOOKS_A_DAY % len(self.factors)]


@dataclass(frozen=True)
class Look:
    """Everything so far, of R campaigns side by side.

    Attributes:
        sums: of all pairs of arms.
        evidence: by arm, the held out left aside.
        truth: (R, K, K) Σ h (μ_a − μ_b).
        worth: (K,) of a conversion.
        regret: mean Σ (best rate − rate) so far.
    """

    sums: OverlapSums
    evidence: AipwSums
    truth: FloatArray
    worth: FloatArray
    regret: float

    def scores(self, one: int, other: int) -> Scores:
        """Compare two arms, (R,)."""
        place = self.sums.comparisons.arms(one, [other])
        scores = compare(self.sums, place, self.evidence, worth=self.worth)
        return replace(
            scores, **{f: getattr(scores, f)[..., 0] for f in scores.__dataclass_fields__}
        )

    def average(self, one: int, other: int) -> FloatArray:
        """Return Σ h (μ_one − μ_other) of each campaign, (R,)."""
        return self.truth[:, one, other]


def _campaigns(
    world: World, seed: int, campaigns: int, *, group_as_drawn: bool = False
) -> Iterator[Look]:
    """Run campaigns; weigh the control group by its own probabilities unless it is `as drawn`."""
    rng = np.random.default_rng(seed)
    n_arms = len(world.rates)
    comparisons = comparisons_of(tuple((k,) for k in range(n_arms)), CONTROL)
    shares = np.full((campaigns, n_arms), 1 / n_arms)
    successes = trials = np.zeros((campaigns, n_arms))
    value = np.exp(world.size**2 / 2)  # mean of a conversion, before it is capped
    if world.high < np.inf:
        value = float(
            np.minimum(np.exp(world.size * rng.standard_normal(10**7)), world.high).mean()
        )
    held_out = round(world.wave * world.held_out)
    sums = OverlapSums.zeros(comparisons, (campaigns,))
    evidence = None
    truth, regret = np.zeros((campaigns, n_arms, n_arms)), 0.0
    for look in range(LOOKS):
        if look and look % world.learn_every == 0:
            shares = apply_floor(beta_chances(successes + 1, trials - successes + 1), world.floor)
        rates = np.minimum(world.at(look), 1.0)
        sent = rng.multinomial(world.wave - held_out, shares).astype(np.float64)
        won = rng.binomial(sent.astype(int), rates).astype(np.float64)
        beside = np.zeros_like(sent)
        beside[:, CONTROL] = held_out
        won_beside = rng.binomial(beside.astype(int), rates).astype(np.float64)
        successes, trials = successes + won, trials + sent
        q = 0.0 if group_as_drawn else held_out / world.wave
        combined = (1 - q) * shares
        combined[:, CONTROL] += q
        earned, earned_beside = (_values(rng, w, world) for w in (won, won_beside))
        columns = (
            sent + beside,
            won + won_beside,
            *(a + b for a, b in zip(earned, earned_beside, strict=True)),
        )
        moments = np.stack(columns, axis=1)[:, :, None]
        sums = sums + OverlapSums.from_counts(comparisons, combined[:, None], moments)
        of_wave = _evidence(sent, won, earned, shares)
        evidence = of_wave if evidence is None else evidence + of_wave
        both = combined[:, :, None] * combined[:, None]
        h = world.wave * ratio(both, combined[:, :, None] + combined[:, None])
        truth = truth + h * value * (rates[:, None] - rates)
        regret += world.wave * float((rates.max() - combined @ rates).mean())
        yield Look(sums, evidence, truth, _worth(evidence, world), regret)


def _values(
    rng: np.random.Generator, won: FloatArray, world: World
) -> tuple[FloatArray, FloatArray]:
    """Return Σ r and Σ r² of conversions (R, K)."""
    if not world.size:
        return won, won
    counts = won.astype(int).ravel()
    cells = np.repeat(np.arange(len(counts)), counts)
    values = np.minimum(np.exp(world.size * rng.standard_normal(len(cells))), world.high)
    totals = (np.bincount(cells, values**i, len(counts)).reshape(won.shape) for i in (1, 2))
    one, two = totals
    return one, two


def _evidence(
    sent: FloatArray, won: FloatArray, earned: tuple[FloatArray, FloatArray], shares: FloatArray
) -> AipwSums:
    weights = shares[:, None, :] ** -np.arange(3.0)[:, None]
    moments = np.stack([sent, *earned], axis=1)[:, :, None, :] * weights[:, None]
    eligible = np.ones((1, shares.shape[1]), dtype=np.bool_)
    return AipwSums(eligible, moments[:, None], won[:, None])


def _worth(evidence: AipwSums, world: World) -> FloatArray:
    """Return what a conversion is worth, of all campaigns together, which hardly differ."""
    if not world.size:
        return np.ones(len(world.rates))
    totals, squares = (evidence.moments[:, 0, i, 0].sum(axis=-1) for i in (1, 2))
    worth = ratio(totals**2, squares * evidence.earning[:, 0].sum(axis=-1))
    return np.full(len(world.rates), float(np.median(worth)))


def _shown(scores: Scores) -> BoolArray:
    enough = scores.conversions >= BURN_IN_CONVERSIONS
    return enough & (scores.fewest_sends >= BURN_IN_DECISIONS)


def _most(campaigns: int, probability: float) -> int:
    """Return what a binomial count exceeds with probability at most the false-alarm rate."""
    return int(binom.isf(FALSE_ALARM, campaigns, probability))


@dataclass(frozen=True)
class Measured:
    """What came of a world's campaigns, as shares of them.

    Attributes:
        erred: the comparison of the first two arms ever missed.
        better: some version was shown to be better than the control by the end.
        better_before: the same by inverse propensities.
        little: by the end at most `LITTLE` of the best was lost by sending it alone.
        little_before: the same by inverse propensities.
        width: the median half-width of the comparison of the best with the control, at the end.
        regret: mean.
    """

    erred: float
    better: float
    better_before: float
    little: float
    little_before: float
    width: float
    regret: float


@cache
def measured(world: World, seed: int = 2, campaigns: int = CAMPAIGNS) -> Measured:
    n_arms, best = len(world.rates), int(np.argmax(world.rates))
    alpha = ALPHA / (n_arms - 1)
    erred, better, before = (np.zeros(campaigns, dtype=np.bool_) for _ in range(3))
    units = np.eye(n_arms)
    for look in _campaigns(world, seed, campaigns):
        pair = look.scores(1, 0)
        erred |= _shown(pair) & (np.abs(pair.total - look.average(1, 0)) > pair.margin(ALPHA))
    others = [k for k in range(n_arms) if k != best]
    lost, lost_before = np.full(campaigns, -np.inf), np.full(campaigns, -np.inf)
    for k in others:
        pair, weighted = look.scores(k, best), aipw.contrast(look.evidence, units[k] - units[best])
        lost = np.maximum(lost, _upper(pair, alpha))
        lost_before = np.maximum(lost_before, _upper(weighted, alpha))
    for k in range(1, n_arms):
        better |= _upper(look.scores(CONTROL, k), alpha) < 0
        weighted = aipw.contrast(look.evidence, units[CONTROL] - units[k])
        before |= _upper(weighted, alpha) < 0
    little = LITTLE * max(world.rates)
    of_best = look.scores(best or 1, CONTROL)
    width = float(np.median(of_best.margin(alpha) / np.maximum(of_best.n, 1e-9)))
    shares = (erred, better, before, lost <= little, lost_before <= little)
    return Measured(*(float(a.mean()) for a in shares), width, look.regret)


def _upper(scores: Scores, alpha: float) -> FloatArray:
    high = (scores.total + scores.margin(alpha)) / np.maximum(scores.n, 1e-9)
    return np.where(_shown(scores), high, np.inf)


ALIKE = {
    "two alike, .20": World((0.2, 0.2), 200),
    "two alike, .50, waves of 20": World((0.5, 0.5), 20),
    "two alike, .02": World((0.02, 0.02), 500),
    "two alike, .0005": World((0.0005, 0.0005), 20_000),
    "two alike, .9": World((0.9, 0.9), 200),
    "two alike, .02, floor .2 %": World((0.02, 0.02), 2_000, floor=0.002),
    "two alike, .02, no floor": World((0.02, 0.02), 2_000, floor=0.0),
    "two alike, .20, no floor": World((0.2, 0.2), 200, floor=0.0),
    "five alike, .02": World((0.02,) * 5, 500),
    ".02 and .03": World((0.02, 0.03), 500),
    ".002 and .02": World((0.02, 0.002), 500),
    ".20 and .22, weekends at .6": World((0.2, 0.22), 1_000, factors=(1, 1, 1, 1, 1, 0.6, 0.6)),
    "two alike, .20, days at .5": World(
        (0.2, 0.2), 1_000, 0.05, factors=(1.0, 0.5), learn_every=LOOKS_A_DAY
    ),
    "two alike, 5 % held out, .20": World((0.2, 0.2), 500, held_out=0.05),
    "two alike, 5 % held out, .005": World((0.005, 0.005), 2_000, 0.002, held_out=0.05),
    "ten alike, 5 % held out, .02": World((0.02,) * 10, 2_000, 0.002, held_out=0.05),
    "two alike, 5 % held out, weekends": World(
        (0.2, 0.2), 500, factors=(1, 1, 1, 1, 1, 0.6, 0.6), held_out=0.05
    ),
    "orders, sigma 1": World((0.02, 0.02), 500, size=1.0),
    "orders, sigma 2, cap 1,000": World((0.02, 0.02), 500, size=2.0, high=1_000.0),
}
APART = {
    ".20 and .22, 100,000": World((0.2, 0.22), 1_000),
    ".20 and .22, 100,000, 5 % held out": World((0.2, 0.22), 1_000, held_out=0.05),
    ".020 and .025, 200,000": World((0.02, 0.025), 2_000),
    ".020 and .025, 200,000, 5 % held out": World((0.02, 0.025), 2_000, held_out=0.05),
    "five, 100,000": World((0.2, 0.18, 0.21, 0.22, 0.24), 1_000),
    "five, 100,000, 5 % held out": World((0.2, 0.18, 0.21, 0.22, 0.24), 1_000, held_out=0.05),
}


QUICK = {
    "two alike, .20, days at .5",
    "two alike, .0005",
    "two alike, 5 % held out, .005",
    "orders, sigma 2, cap 1,000",
}


@pytest.mark.parametrize("name", ALIKE if SOAK else sorted(QUICK))
def test_comparison_errs_in_at_most_5_percent_of_campaigns_over_100_looks(name):
    erred = measured(ALIKE[name]).erred
    assert erred * CAMPAIGNS <= _most(CAMPAIGNS, ALPHA)


def test_difference_of_plain_means_errs_where_rates_and_shares_move():
    world, erred = ALIKE["two alike, .20, days at .5"], np.zeros(CAMPAIGNS, dtype=np.bool_)
    for look in _campaigns(world, 2, CAMPAIGNS):
        n, won = look.evidence.sends, look.evidence.earned
        mean = won / np.maximum(n, 1)
        plain = look.scores(1, 0)
        off = np.abs(mean[:, 1] - mean[:, 0]) * plain.n
        erred |= _shown(plain) & (off > plain.margin(ALPHA))
    assert erred.sum() > 2 * _most(CAMPAIGNS, ALPHA)


def test_comparison_errs_where_the_control_group_is_weighted_as_if_it_were_drawn():
    world = replace(ALIKE["two alike, .20, days at .5"], held_out=0.3, floor=0.01, rates=(0.2, 0.2))
    erred = np.zeros(CAMPAIGNS, dtype=np.bool_)
    for look in _campaigns(world, 2, CAMPAIGNS, group_as_drawn=True):
        pair = look.scores(1, 0)
        erred |= _shown(pair) & (np.abs(pair.total) > pair.margin(ALPHA))
    assert erred.sum() > _most(CAMPAIGNS, ALPHA)
    assert measured(world).erred * CAMPAIGNS <= _most(CAMPAIGNS, ALPHA)


# Shares of campaigns, before (inverse propensities) and goals: of those that show something by the
# end. `more` is that some version is better than the control, `little` that little is lost.
GOALS = {
    ".20 and .22, 100,000": {"little": 0.50},
    ".20 and .22, 100,000, 5 % held out": {"better": 0.75, "little": 0.90},
    ".020 and .025, 200,000": {"little": 0.45},
    ".020 and .025, 200,000, 5 % held out": {"better": 0.80, "little": 0.85},
    "five, 100,000": {"better": 0.55},
    "five, 100,000, 5 % held out": {"better": 0.97},
}


@pytest.mark.parametrize("name", GOALS if SOAK else [".20 and .22, 100,000, 5 % held out"])
def test_comparison_tells_what_inverse_propensities_do_not(name):
    m = measured(APART[name])
    for figure, least in GOALS[name].items():
        before = getattr(m, f"{figure}_before")
        assert getattr(m, figure) > least, (name, figure)
        assert before < least - 0.3, (name, figure)


def rows(part: str) -> Iterator[str]:
    """Write a row for each world whose name has `part`."""
    for name, world in (ALIKE | APART).items():
        if part in name:
            m = measured(world)
            yield (
                f"| {name} | {m.erred:.3f} | {m.better_before:.2f} → {m.better:.2f} "
                f"| {m.little_before:.2f} → {m.little:.2f} | {m.width:.4f} | {m.regret:,.0f} |"
            )


if __name__ == "__main__":
    for row in rows(" ".join(sys.argv[1:])):
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()

"""Answers that come late: `thompson_delayed` beside learning at a maturity, by regret.

Sends in waves, each at once, floor 1 %; an answer counts within 72 hours of its email (orders: 7
days), and rates are of those that do. `thompson` has the best of the maturities 2, 6 and 24 hours
and the window.
`python -m tests.statistical.test_late_answers` prints the table, in full with SOAK=1.

Reduced, a world is simulated a few times, and the *lower* 95 % bound of the regret must be at most
the goal; in full the mean must be. Negative controls: in each world but the one where the best
version is the fastest, `thompson` misses the goal even at the maturity that is best for it.
"""

import sys
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import ndtr

from simulations import Feedback, simulate
from simulations.environments import Bernoulli
from tests.conftest import SOAK

FLOOR = 0.01
SHAPE_06 = np.pi / np.sqrt(6) / 0.6  # the spread of log delays of Weibull's law of shape .6


class LateWorld(NamedTuple):
    """Rates within the window, medians of delays in hours, and when emails are sent."""

    rates: tuple[float, ...]
    medians: tuple[float, ...]
    goal: float
    sends: int = 100_000
    waves: int = 48
    hours: float = 48
    window: float = 72
    sigma: float = 1.2
    law: str = "log_normal"
    slow: tuple[float, float] | None = None  # a part, and its median in hours

    @property
    def an_hour(self):
        return self.sends / self.hours

    def environment(self):
        """Rates of the simulator are of all answers, also of those after the window."""
        inside = np.ones(len(self.rates))
        if self.law == "log_normal" and not self.slow:
            inside = ndtr(np.log(self.window / np.array(self.medians)) / self.sigma)
        return Bernoulli(tuple(np.array(self.rates) / inside))

    def feedback(self, maturity):
        hour = self.an_hour
        slow, slow_median = self.slow or (0.0, None)
        return Feedback(
            median=tuple(m * hour for m in self.medians),
            sigma=self.sigma,
            law=self.law,
            at_once=True,
            slow=slow,
            slow_median=slow_median and slow_median * hour,
            maturity=maturity * hour,
            window=self.window * hour,
        )


EMAIL5 = (0.20, 0.18, 0.21, 0.22, 0.24)
BLAST = {"waves": 10, "hours": 20}
ORDERS = {"sends": 200_000, "waves": 14, "hours": 336, "window": 168, "sigma": 1.0}
WORLDS = {
    "opens .20 and .22, both 4 h": LateWorld((0.20, 0.22), (4, 4), 160),
    "best slow: 2 and 9 h": LateWorld((0.20, 0.22), (2, 9), 280),
    "best fast: 9 and 2 h": LateWorld((0.20, 0.22), (9, 2), 380),
    "orders, 24 and 60 h": LateWorld((0.020, 0.024), (24, 60), 160, **ORDERS),
    "orders, both 24 h": LateWorld((0.020, 0.024), (24, 24), 100, **ORDERS),
    "orders in 4 days, 24 h": LateWorld((0.020, 0.024), (24, 24), 160, **ORDERS | {"hours": 96}),
    "blast: five versions, 4 h": LateWorld(EMAIL5, (4,) * 5, 850, **BLAST),
    "blast, Weibull": LateWorld(EMAIL5, (4,) * 5, 950, sigma=SHAPE_06, law="weibull", **BLAST),
    "blast, best fast": LateWorld(EMAIL5, (9, 4, 9, 2, 2), 1600, **BLAST),
    "blast, best slow": LateWorld(EMAIL5, (2, 2, 4, 4, 9), 1400, **BLAST),
    "blast, two peaks": LateWorld(EMAIL5, (2,) * 5, 1200, sigma=0.6, slow=(0.4, 24), **BLAST),
}
BEST_FAST = ("best fast: 9 and 2 h", "blast, best fast")
REDUCED = ("blast: five versions, 4 h", "blast, best slow")


@cache
def regret(world, name, maturity, campaigns):
    """Regret of each campaign, (R,), in answers within the window."""
    late = WORLDS[world]
    result = simulate(
        late.environment(),
        [{"name": name, "floor": FLOOR, "label": "it"}],
        horizon=late.sends,
        batches=late.waves,
        feedback=late.feedback(maturity),
        replications=campaigns,
        seed=7,
        workers=1,
    )
    return result["it"].sends @ (max(late.rates) - np.array(late.rates))


def live(world, campaigns):
    """Regret of `thompson` at the maturity that is best for it in this world."""
    window = WORLDS[world].window
    return min(
        (regret(world, "thompson", hours, campaigns) for hours in (2, 6, 24, window)),
        key=np.mean,
    )


def bounds(regrets):
    """Return the 95 % bounds of the mean."""
    error = regrets.std(ddof=1) / np.sqrt(len(regrets))
    return regrets.mean() - 1.96 * error, regrets.mean() + 1.96 * error


@pytest.mark.parametrize("world", WORLDS if SOAK else REDUCED)
def test_late_answers_cost_at_most_the_goal(world):
    if SOAK:
        assert regret(world, "thompson_delayed", 0, 60).mean() <= WORLDS[world].goal
    else:
        assert bounds(regret(world, "thompson_delayed", 0, 6))[0] <= WORLDS[world].goal


@pytest.mark.parametrize("world", [w for w in WORLDS if w not in BEST_FAST] if SOAK else REDUCED)
def test_late_answers_cost_more_at_the_best_maturity(world):
    """The negative control: the bounds above can fail."""
    assert bounds(live(world, 60 if SOAK else 20))[0] > WORLDS[world].goal


if __name__ == "__main__":
    for world in sys.argv[1:] or WORLDS:
        delayed, best = regret(world, "thompson_delayed", 0, 60 if SOAK else 8), live(world, 60)
        low, high = bounds(delayed)
        now = f"{delayed.mean():,.0f} ({low:,.0f} to {high:,.0f})"
        sys.stdout.write(f"| {world} | {best.mean():,.0f} | {now} | {WORLDS[world].goal:,} |\n")
        sys.stdout.flush()

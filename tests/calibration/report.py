"""Report on the calibration of every claim that a page can show: ``make calibration``.

For each claim and world: the share of campaigns in which the claim was ever wrong at a look, the
share in which it was ever made, and its median width at the last look. A claim is a function of a
world and a look; another is one more entry of `CLAIMS`, and a world one more of `WORLDS`.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path[:0] = [str(Path(__file__).parents[2])]

from bandits.array_types import BoolArray, FloatArray  # noqa: E402 - found once the path is set
from bandits.inference import aipw  # noqa: E402 - as above
from bandits.inference.confidence_sequences import rate_bounds  # noqa: E402 - as above
from bandits.inference.estimates import (  # noqa: E402 - as above
    BURN_IN_CONVERSIONS,
    BURN_IN_DECISIONS,
)
from bandits.inference.intervals import ALPHA  # noqa: E402 - as above
from tests.calibration.worlds import Look, World, judge, looks  # noqa: E402 - as above

CAMPAIGNS = 200
LOOKS_OF_VERDICTS = 10  # verdicts are reached one by one, so at fewer looks
LITTLE = 0.02


def _weekends(day: int) -> float:
    return 0.6 if day % 7 > 4 else 1.0


def _novelty(day: int) -> float:
    return 0.05 * float(np.exp(-day / 10))


WORLDS: dict[str, World] = {
    "equal, .20, floor 5 %": World(lambda _: [[0.2] * 2], 100, 500, 0.05),
    "equal, .0005, floor 5 %": World(lambda _: [[0.0005] * 2], 100, 20_000, 0.05),
    "equal, .90, floor 1 %": World(lambda _: [[0.9] * 2], 100, 200, 0.01),
    "equal, 10 arms, .02, floor 1 %": World(lambda _: [[0.02] * 10], 100, 2_000, 0.01),
    "equal, 60 arms, .10, floor .1 %": World(lambda _: [[0.1] * 60], 100, 5_000, 0.001),
    ".20 and .22, floor 1 %": World(lambda _: [[0.20, 0.22]], 100, 1_000, 0.01),
    ".20 and .22, floor 10 %": World(lambda _: [[0.20, 0.22]], 100, 1_000, 0.10),
    ".02 and .025, floor 5 %": World(lambda _: [[0.02, 0.025]], 100, 4_000, 0.05),
    "five, .18 to .24, floor 5 %": World(
        lambda _: [[0.20, 0.18, 0.21, 0.22, 0.24]], 100, 2_000, 0.05
    ),
    "equal, weekends at × .6": World(lambda d: [[0.2 * _weekends(d)] * 2], 100, 1_000, 0.05),
    "falling .25 to .17, .20": World(lambda d: [[0.20, 0.25 - 0.08 * d / 59]], 60, 2_000, 0.10),
    "novelty +.05 fades, −.01": World(lambda d: [[0.20, 0.19 + _novelty(d)]], 60, 2_000, 0.10),
    "crossing .22 to .18 and back": World(
        lambda d: [[0.22 - 0.04 * d / 27, 0.18 + 0.04 * d / 27]], 28, 2_000, 0.10
    ),
    "a third joins on day 30": World(
        lambda _: [[0.20, 0.22, 0.22]], 100, 1_000, 0.05, joins=(0, 0, 30)
    ),
    "personal, .30/.10 and .12/.33": World(
        lambda _: [[0.30, 0.12], [0.10, 0.33]], 28, 2_000, 0.05, personal=True
    ),
    "personal, all alike": World(
        lambda _: [[0.2, 0.2], [0.2, 0.2]], 28, 2_000, 0.05, personal=True
    ),
}


@dataclass(frozen=True)
class Figures:
    """A claim at one look of R campaigns: whether it is wrong, is made, and its width."""

    wrong: BoolArray
    made: BoolArray
    width: FloatArray


@dataclass
class Truth:
    """Averages over all decisions so far, of the arms' true rates (K,)."""

    total: FloatArray = field(default_factory=lambda: np.zeros(1))
    days: float = 0.0

    def after(self, rates: FloatArray) -> FloatArray:
        """Take one more day in, and return the average."""
        self.total, self.days = self.total + rates.mean(axis=0), self.days + 1
        return self.total / self.days


def rates(world: World, look: Look, truth: FloatArray) -> Figures | None:
    """The first arm's rate lies in its exact interval; for constant rates and plain policies."""
    if world.personal:
        return None
    low, high = rate_bounds(look.evidence.earned[:, 0], look.evidence.sends[:, 0], ALPHA)
    return Figures((truth[0] < low) | (truth[0] > high), high < 1, high - low)


def lift(world: World, look: Look, truth: FloatArray) -> Figures | None:
    """The second arm's lift over the first lies in its interval."""
    weights = np.zeros(len(truth))
    weights[:2] = -1.0, 1.0
    scores = aipw.contrast(look.evidence, weights)
    made = scores.conversions >= BURN_IN_CONVERSIONS
    made &= scores.fewest_sends >= BURN_IN_DECISIONS
    margin = scores.margin(ALPHA) / np.maximum(scores.n, 1)
    wrong = made & (np.abs(scores.mean - (truth[1] - truth[0])) > margin)
    return Figures(wrong, made, np.where(made, 2 * margin, np.nan))


def verdicts(world: World, look: Look, truth: FloatArray) -> dict[str, Figures]:
    """Each claim of a verdict: an arm leads, what is given up, the policy's gain, and the step."""
    judged = judge(world, look)
    today, figures = look.rates.mean(axis=0), {}
    nothing = np.full(len(judged), np.nan)
    arms = np.array([-1 if j.verdict.arm is None else j.verdict.arm for j in judged])
    eligible = world.eligible(look.day)
    best, best_today = truth[eligible].max(), today[eligible].max()
    leads = np.array([j.verdict.leads for j in judged])
    if not world.personal:
        figures["leads"] = Figures(leads & (truth[arms] < best - 1e-12), leads, nothing)
    at_most = np.array([np.nan if j.verdict.at_most is None else j.verdict.at_most for j in judged])
    compared = np.array([not j.verdict.uncompared for j in judged]) & np.isfinite(at_most)
    against = look.value if world.personal else best
    loss = against - truth[arms]
    figures["at most"] = Figures(compared & (loss > at_most + 1e-12), compared, at_most)
    ships = np.array([j.verdict.action == "ship" for j in judged])
    shares = look.rates.max(axis=1).mean() if world.personal else best_today
    figures["ship"] = Figures(ships & (today[arms] < (1 - LITTLE) * shares), ships, nothing)
    keeps = np.array([j.verdict.action == "keep_personalising" for j in judged])
    if world.personal:
        figures["keep personalising"] = Figures(keeps & (loss <= 0), keeps, nothing)
    return figures


Claim = Callable[[World, Look, FloatArray], Figures | None]
CLAIMS: dict[str, Claim] = {"rate": rates, "lift": lift}


def measure(world: World, campaigns: int) -> dict[str, tuple[float, float, float]]:
    """Run one world; return by claim the shares ever wrong and ever made, and the last width."""
    wrong: dict[str, BoolArray] = {}
    made: dict[str, BoolArray] = {}
    width: dict[str, FloatArray] = {}
    truth, every = Truth(), max(1, world.days // LOOKS_OF_VERDICTS)
    for look in looks(world, 1, campaigns):
        average = truth.after(look.rates)
        figures = {name: claim(world, look, average) for name, claim in CLAIMS.items()}
        if look.day % every == every - 1:
            figures |= verdicts(world, look, average)
        for name, f in figures.items():
            if f is None:
                continue
            none = np.zeros(campaigns, dtype=np.bool_)
            wrong[name] = wrong.get(name, none) | f.wrong
            made[name] = made.get(name, none) | f.made
            width[name] = f.width
    return {
        name: (
            float(wrong[name].mean()),
            float(made[name].mean()),
            float(np.nanmedian(width[name])) if np.isfinite(width[name]).any() else float("nan"),
        )
        for name in wrong
    }


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="of each world")
    parser.add_argument("--only", help="worlds whose name contains this")
    given = parser.parse_args()
    table = Table(title=f"Claims of a page, in {given.campaigns} campaigns of each world")
    for column in ("world", "claim", "ever wrong", "ever made", "width, or at most"):
        table.add_column(column, justify="left" if column in {"world", "claim"} else "right")
    for name, world in WORLDS.items():
        if given.only and given.only not in name:
            continue
        for claim, (wrong, made, width) in measure(world, given.campaigns).items():
            cell = "" if np.isnan(width) else f"{width:.4f}"
            table.add_row(name, claim, f"{wrong:.3f}", f"{made:.2f}", cell)
    Console(width=max(Console().width, 110)).print(table)


if __name__ == "__main__":
    main()

"""Report on the calibration of every claim that a page can show: ``make calibration``.

For each world and claim: the share of campaigns in which the claim was ever wrong at a look, with
its Monte-Carlo error and the limit that the claim promises; the share in which it was ever made;
and its median width at the last look. A share that exceeds its limit by more than chance (one in
10,000, for each row) is marked, and the exit status is 1. A claim is a function of a world and a
look; another is one more entry of `CLAIMS` in `claims.py`, and a world one more of `WORLDS`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

sys.path[:0] = [str(Path(__file__).parents[2])]

from tests.calibration.claims import (  # noqa: E402 - found once the path is set
    CLAIMS,
    Claim,
    Figures,
    all_claims,
)
from tests.calibration.worlds import World, looks  # noqa: E402 - as above

CAMPAIGNS = 200
LOOKS_OF_VERDICTS = 10  # verdicts are reached one by one, so at fewer looks
FALSE_ALARM = 1e-4  # the chance that a claim which keeps its limit is marked


def _weekends(day: int) -> float:
    return 0.6 if day % 7 > 4 else 1.0


def _novelty(day: int) -> float:
    return 0.05 * float(np.exp(-day / 10))


_PERSONAL = [[0.30, 0.12], [0.10, 0.33]]
_EVENTS = (("open", (0.30, 0.30, 0.33)), ("unsubscribe", (0.004, 0.004, 0.006)))

WORLDS: dict[str, World] = {
    "equal, .20, floor 5 %": World(lambda _: [[0.2] * 2], 100, 500, 0.05),
    "equal, .0005, floor 5 %": World(lambda _: [[0.0005] * 2], 100, 20_000, 0.05),
    "equal, .90, floor 1 %": World(lambda _: [[0.9] * 2], 100, 200, 0.01),
    "equal, 10 arms, .02, floor 1 %": World(lambda _: [[0.02] * 10], 100, 2_000, 0.01),
    "equal, 60 arms, .10, floor .1 %": World(lambda _: [[0.1] * 60], 60, 5_000, 0.001),
    ".20 and .22, floor 1 %": World(lambda _: [[0.20, 0.22]], 100, 1_000, 0.01),
    ".20 and .22, floor 10 %": World(lambda _: [[0.20, 0.22]], 100, 1_000, 0.10),
    ".02 and .025, floor 5 %": World(lambda _: [[0.02, 0.025]], 100, 4_000, 0.05),
    "five, .18 to .24, floor 5 %": World(
        lambda _: [[0.20, 0.18, 0.21, 0.22, 0.24]], 100, 2_000, 0.05
    ),
    "equal shares, .20 and .22": World(lambda _: [[0.20, 0.22]], 60, 1_000, 0.05, uniform=True),
    "equal, weekends at × .6": World(lambda d: [[0.2 * _weekends(d)] * 2], 100, 1_000, 0.05),
    "falling .25 to .17, .20": World(lambda d: [[0.20, 0.25 - 0.08 * d / 59]], 60, 2_000, 0.10),
    "falling .25 to .17, .20, 1,000 a day": World(
        lambda d: [[0.20, 0.25 - 0.08 * d / 59]], 60, 1_000, 0.10
    ),
    "falling .23 to .19, .20": World(lambda d: [[0.20, 0.23 - 0.04 * d / 59]], 60, 2_000, 0.10),
    "novelty +.05 fades, −.01": World(lambda d: [[0.20, 0.19 + _novelty(d)]], 60, 2_000, 0.10),
    "crossing .22 to .18 and back": World(
        lambda d: [[0.22 - 0.04 * d / 27, 0.18 + 0.04 * d / 27]], 28, 2_000, 0.10
    ),
    "equal, .05, floor .1 %": World(lambda _: [[0.05] * 2], 100, 2_000, 0.001),
    "crossing, floor 1 %": World(
        lambda d: [[0.22 - 0.04 * d / 27, 0.18 + 0.04 * d / 27]], 28, 2_000, 0.01
    ),
    "a third joins on day 30": World(
        lambda _: [[0.20, 0.22, 0.22]], 100, 1_000, 0.05, joins=(0, 0, 30)
    ),
    "second paused, days 20 to 39": World(
        lambda _: [[0.20, 0.22, 0.22]], 60, 1_000, 0.05, pauses=((1, 20, 40),)
    ),
    "forgetting, half in 7 days": World(
        lambda _: [[0.20, 0.20, 0.22]], 100, 1_000, 0.01, half_life=7
    ),
    "greedy from day 20 on": World(lambda _: [[0.20, 0.20, 0.20]], 100, 500, 0.01, switched=20),
    "personal, .30/.10 and .12/.33": World(lambda _: _PERSONAL, 28, 2_000, 0.05, personal=True),
    "personal, all alike": World(lambda _: [[0.2] * 2] * 2, 28, 2_000, 0.05, personal=True),
    "personal, weekends at × .6": World(
        lambda d: np.array(_PERSONAL) * _weekends(d), 28, 2_000, 0.05, personal=True
    ),
    "two kinds, one policy": World(
        lambda _: [[0.10, 0.12, 0.10], [0.30, 0.27, 0.30]], 60, 2_000, 0.05
    ),
    "slots 2 × 3, floor 2 %": World(
        lambda _: [[0.10, 0.10, 0.11, 0.12, 0.12, 0.14]], 60, 3_000, 0.02, slots=(2, 3)
    ),
    "slots 2 × 2, all equal": World(lambda _: [[0.10] * 4], 100, 1_000, 0.01, slots=(2, 2)),
    "opens and unsubscribes": World(
        lambda _: [[0.05, 0.05, 0.06]], 60, 3_000, 0.05, events=_EVENTS
    ),
    "orders with refunds, equal": World(lambda _: [[0.04] * 2], 100, 2_000, 0.05, order=(3.5, 0.8)),
    "orders with refunds, .04 and .05": World(
        lambda _: [[0.04, 0.05]], 60, 4_000, 0.05, order=(3.5, 0.8)
    ),
    "returning, equal": World(lambda _: [[0.2] * 2], 52, 500, 0.01, returning=True),
    "control group, new recipients, equal": World(
        lambda _: [[0.2] * 2], 100, 200, 0.01, holdout=0.05
    ),
    "control group, new, .20 and .26": World(
        lambda _: [[0.20, 0.26]], 60, 1_000, 0.01, holdout=0.10
    ),
    "control group, returning, equal": World(
        lambda _: [[0.2] * 2], 52, 600, 0.01, holdout=0.05, returning=True
    ),
    "control group, 50 of 1,000, .20 and .38": World(
        lambda _: [[0.20, 0.38]], 12, 1_000, 0.01, holdout=0.05, returning=True
    ),
    "last arm loses 5 % unsent": World(lambda _: [[0.2] * 2], 100, 1_000, 0.05, loss=0.05),
    "five near .20 ± .005": World(lambda _: [[0.2] * 5], 10, 2_000, 0.01, spread=0.025),
    "five near .20 ± .005, 500 each": World(lambda _: [[0.2] * 5], 5, 500, 0.01, spread=0.025),
    "eight near .10, one .02 ahead": World(
        lambda _: [[0.10] * 7 + [0.12]], 4, 2_500, 0.01, spread=0.02
    ),
    "five near .20, one .06 behind": World(
        lambda _: [[0.20] * 4 + [0.14]], 4, 2_500, 0.01, spread=0.025
    ),
    "two near .20 ± .005": World(lambda _: [[0.2] * 2], 16, 5_000, 0.10, spread=0.025),
    "twelve near .02 ± .002": World(lambda _: [[0.02] * 12], 12, 12_500, 0.004, spread=0.10),
}


@dataclass(frozen=True)
class Row:
    """A claim in one world.

    Attributes:
        world: its name.
        claim: its name.
        campaigns: the number that `wrong` is a count of.
        wrong: campaigns in which it ever was.
        limit: the share of them that may be.
        made: the share of all campaigns in which it was ever made.
        width: median at the last look, NaN where it has none.
    """

    world: str
    claim: str
    campaigns: int
    wrong: int
    limit: float
    made: float
    width: float

    @property
    def error(self) -> float:
        """Share of campaigns in which the claim was ever wrong."""
        return self.wrong / self.campaigns

    @property
    def deviation(self) -> float:
        """Monte-Carlo error of that share; of half a campaign more, so that it is never 0."""
        share = (self.wrong + 0.5) / (self.campaigns + 1)
        return float(np.sqrt(share * (1 - share) / self.campaigns))

    @property
    def exceeds(self) -> bool:
        """The share is over its limit by more than chance."""
        return bool(binom.sf(self.wrong - 1, self.campaigns, self.limit) < FALSE_ALARM)


@dataclass
class _Ever:
    """What a claim ever was in R campaigns."""

    wrong: np.ndarray
    made: np.ndarray
    last: Figures

    def row(self, world: str, claim: str) -> Row:
        """Summarise."""
        last = self.last
        among = np.ones_like(self.wrong) if last.among is None else last.among
        width = float(np.nanmedian(last.width)) if np.isfinite(last.width).any() else np.nan
        wrong = int(np.count_nonzero(self.wrong & among))
        made = float(self.made.mean())
        return Row(world, claim, int(np.count_nonzero(among)), wrong, last.limit, made, width)


def measure(
    name: str,
    world: World,
    campaigns: int,
    claims: Sequence[Claim] = CLAIMS,
    *,
    verdicts: int = LOOKS_OF_VERDICTS,
) -> list[Row]:
    """Run one world, and return a row for each claim; verdicts are reached at so many looks."""
    ever: dict[str, _Ever] = {}
    every = max(1, world.days // verdicts) if verdicts else world.days + 1
    for look in looks(world, 1, campaigns):
        judged = look.day % every == every - 1
        for claim, f in all_claims(world, look, claims, judged=judged):
            before = ever.get(claim)
            wrong = f.wrong if before is None else before.wrong | f.wrong
            made = f.made if before is None else before.made | f.made
            ever[claim] = _Ever(wrong, made, f)
    return [of_claim.row(name, claim) for claim, of_claim in ever.items()]


def table_of(rows: Sequence[Row], campaigns: int) -> Table:
    """Lay rows out."""
    table = Table(title=f"Claims of a page, in {campaigns} campaigns of each world")
    for column in ("world", "claim"):
        table.add_column(column, no_wrap=True)
    for column in ("ever wrong", "limit", "ever made", "width", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.world,
            row.claim,
            f"{row.error:.3f} ± {row.deviation:.3f}",
            f"{row.limit:.4g}" if row.limit < 0.01 else f"{row.limit:.2f}",
            f"{row.made:.2f}",
            "" if np.isnan(row.width) else f"{row.width:.4g}",
            "OVER" if row.exceeds else "",
        )
    return table


def _rows(campaigns: int, only: str, verdicts: int) -> Iterator[Row]:
    for name, world in WORLDS.items():
        if only in name:
            yield from measure(name, world, campaigns, verdicts=verdicts)


def main() -> int:
    """Print the report; return 1 where a claim errs more often than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=CAMPAIGNS, help="of each world")
    parser.add_argument("--only", default="", help="worlds whose name contains this")
    parser.add_argument(
        "--verdicts", type=int, default=LOOKS_OF_VERDICTS, help="looks at which they are reached"
    )
    options = parser.parse_args()
    rows = list(_rows(options.campaigns, options.only, options.verdicts))
    console = Console(width=max(Console().width, 130))
    console.print(table_of(rows, options.campaigns))
    over = [row for row in rows if row.exceeds]
    console.print(f"{len(rows)} claims, {len(over)} over their limit by more than chance.")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether the calibration report measures what it prints, and marks a claim that errs too often.

Two small worlds run with all claims. A row whose claim keeps its limit is marked with probability
at most 1e-4, so that is the false-alarm rate of each row. The negative control is a lift that is
claimed at every look by an interval for one look, 1.96 standard errors: of 100 looks at equal arms
it is wrong in some of them in more than a third of campaigns, and the report has to mark it.
"""

from io import StringIO

import numpy as np
from rich.console import Console
from scipy.stats import binom

from bandits.inference import aipw, periods
from tests.calibration.claims import Figures, drifting
from tests.calibration.report import FALSE_ALARM, Row, measure, table_of
from tests.calibration.worlds import Look, World, looks
from tests.conftest import SOAK

CAMPAIGNS = 200 if SOAK else 40
ONE_LOOK = 1.96

EQUAL = World(lambda _: [[0.2] * 2], 100, 500, 0.05)
PERSONAL = World(lambda _: [[0.30, 0.12], [0.10, 0.33]], 14, 4_000, 0.05, personal=True)
PERSONAL_WEEKENDS = World(
    lambda day: np.array(PERSONAL.rates(day)) * (0.6 if day % 7 > 4 else 1.0),
    14,
    4_000,
    0.05,
    personal=True,
)
CLEAR = World(lambda _: [[0.20, 0.30]], 14, 1_000, 0.10, holdout=0.2)


def _naive_lift(_: World, look: Look) -> dict[str, Figures]:
    """Claim the second arm's lift over the first at every look as if it were the only one."""
    scores = aipw.contrast(look.evidence, np.array([-1.0, 1.0]))
    margin = ONE_LOOK * scores.error
    wrong = np.abs(scores.mean - look.truth.contrast(np.array([-1.0, 1.0]))) > margin
    return {"naive lift": Figures(wrong, np.abs(scores.mean) > margin, 2 * margin)}


def _by_claim(rows: list[Row]) -> dict[str, Row]:
    return {row.claim: row for row in rows}


def test_report_measures_every_claim_of_two_worlds_and_marks_none():
    personal = _by_claim(measure("personal", PERSONAL, CAMPAIGNS, verdicts=2))
    clear = _by_claim(measure("clear", CLEAR, CAMPAIGNS, verdicts=2))
    rows = [*personal.values(), *clear.values()]
    assert [row for row in rows if row.exceeds] == []
    assert personal["keep personalising"].made > 0.9
    assert personal["segment lift"].made > 0.9
    assert clear["gain over control group"].made > 0.5
    assert clear["leads"].made > 0.9
    assert clear["split alarm"].made < 0.1
    console = Console(width=150, record=True, file=StringIO())
    console.print(table_of(rows, CAMPAIGNS))
    assert "OVER" not in console.export_text()


def test_report_marks_a_lift_that_is_claimed_at_each_look_as_if_it_were_the_only_one():
    [naive] = measure("equal", EQUAL, CAMPAIGNS, [_naive_lift], verdicts=0)
    assert naive.error > 0.2
    assert naive.exceeds
    console = Console(width=150, record=True, file=StringIO())
    console.print(table_of([naive], CAMPAIGNS))
    assert "OVER" in console.export_text()


def _levels_move(world: World) -> tuple[int, int]:
    """Count campaigns whose levels are ever found to move, and those by plain means, as once."""
    now, before = np.zeros((2, CAMPAIGNS), dtype=np.bool_)
    for look in looks(world, 1, CAMPAIGNS):
        now |= drifting(world, look)
        plain = periods.levels_evidence(look.periods.numbers, *look.periods.so_far)
        before |= np.exp(-plain) < periods.LEVEL
    return np.count_nonzero(now), np.count_nonzero(before)


def test_levels_do_not_move_because_a_personal_policy_learns_whom_to_send_what():
    steady, by_plain_means = _levels_move(PERSONAL)
    most = binom.isf(FALSE_ALARM, CAMPAIGNS, periods.LEVEL)
    assert steady <= most
    assert by_plain_means > most
    assert _levels_move(PERSONAL_WEEKENDS)[0] >= binom.ppf(FALSE_ALARM, CAMPAIGNS, 0.9)

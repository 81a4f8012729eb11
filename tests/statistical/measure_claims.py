"""Measure what pages claim, in worlds whose truth is known: as before, as today, as is wanted.

Prints the rows of the table in README.md of this folder. *Before* is the rule that each replaced,
which the tests keep as their negative control, in the same campaigns. ``SOAK=1`` runs as many
campaigns, looks and recipients as `make soak` does. Given texts, it measures the rows whose part or
world contains one of them.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from bandits.allocation import AllocationRule
from tests.conftest import SOAK
from tests.contract import test_newcomers as newcomers
from tests.statistical import test_alarms as alarms
from tests.statistical import test_chances as chances
from tests.statistical import test_control_group as groups
from tests.statistical import test_verdict as verdicts

VERDICTS = 300  # campaigns of each world of verdicts
EMAILS = (1, 4, 12, 26, 52)
ARMS = (2, 5, 10, 20, 60)


@dataclass(frozen=True)
class Measured:
    """Figures of one row, before and today, in words."""

    before: str
    today: str


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        part: what it is about; rows of a part stand together.
        world: whose truth is known.
        figure: what is counted.
        goal: what is wanted.
        measure: counts it.
    """

    part: str
    world: str
    figure: str
    goal: str
    measure: Callable[[], Measured]

    def line(self) -> str:
        """Measure, and write a line of the table."""
        found = self.measure()
        cells = (self.part, self.world, self.figure, found.before, found.today, self.goal)
        return f"| {' | '.join(cells)} | `{self.command}` |"

    @property
    def command(self) -> str:
        """The command that measures this row."""
        soak = "SOAK=1 " if SOAK else ""
        return f'{soak}python -m tests.statistical.measure_claims "{self.world}"'


def _share(count: int, of: int) -> str:
    """Write a share with as many digits as so many campaigns tell."""
    return f"{count / of:.3f}"


def _stops(world: verdicts.World) -> dict[str, int]:
    return verdicts._shipped(world, tuple(range(world.days)), VERDICTS)


def _wrong_stops(world: verdicts.World) -> Measured:
    counts = _stops(world)
    before, today = counts["stopped for the worse before"], counts["ships the worse"]
    in_time = _share(counts["ships"], VERDICTS)
    return Measured(_share(before, VERDICTS), f"{_share(today, VERDICTS)} (in time {in_time})")


def _right_stops(world: verdicts.World) -> Measured:
    counts = _stops(world)
    return Measured(_share(counts["stopped before"], VERDICTS), _share(counts["ships"], VERDICTS))


def _personal() -> Measured:
    counts = verdicts._ever(verdicts.PERSONAL, verdicts.LATE, verdicts._personal, VERDICTS)
    stopped, kept = counts["stopped before"], counts["keeps"]
    today = f"stops {_share(counts['ships'], VERDICTS)}, keeps {_share(kept, VERDICTS)}"
    return Measured(f"stops {_share(stopped, VERDICTS)}", today)


def _joining() -> Measured:
    joined = verdicts._joined(9)
    return Measured(*(_share(n, verdicts.CAMPAIGNS) for n in (joined.wider_before, joined.wider)))


def _said(world: chances.World) -> Measured:
    looks = chances._looks(world)
    before = [chances._row(look.said_flat, look.right_flat) for look in looks]
    today = [chances._row(look.said, look.right) for look in looks]
    return Measured("; ".join(before), "; ".join(today))


def _group_errors(emails: int) -> Measured:
    outcome = groups._outcome(groups.World(emails), emails)
    errors = (_share(n, groups.CAMPAIGNS) for n in (outcome.naive_erred, outcome.erred))
    return Measured(*errors)


def _group_width(emails: int) -> Measured:
    return Measured("–", f"{groups._outcome(groups.World(emails), emails).width:.2f}")


def _group_power(emails: int) -> Measured:
    return Measured("–", _share(groups._shown_in_the_end(emails, 5.0), groups.AT_ONCE))


def _split(n_arms: int, loss: float) -> Measured:
    ratio = alarms._sent(n_arms, loss)
    counts = (alarms._alarms_at_one_in_a_thousand(ratio), alarms._alarms(ratio))
    return Measured(*(_share(n, alarms.CAMPAIGNS) for n in counts))


def _levels(world: alarms.World) -> Measured:
    days = alarms._days(world)
    counts = (alarms._summed_arms_move(days), alarms._levels_move(days))
    return Measured(*(_share(n, alarms.CAMPAIGNS) for n in counts))


def _lifts(world: alarms.World) -> Measured:
    return Measured("–", _share(alarms._lifts_move(alarms._days(world)), alarms.CAMPAIGNS))


def _late() -> Measured:
    late = alarms._answered(4.0, 12, 20)
    seen = sum(sums.surely_late for sums in late)
    return Measured(_share(0, len(late)), _share(seen, len(late)))


def _best_keeps(name: str) -> Measured:
    rules = (AllocationRule.RENORMALIZED, AllocationRule.OTHERS_ALONE)
    shares = (newcomers.two_waves_later(name, rule)[newcomers.BEST] for rule in rules)
    return Measured(*(f"{share:.2f}" for share in shares))


def _of_pages() -> Iterator[Row]:
    part = "pages"
    yield Row(part, "personal, .30/.10 and .12/.33", "stops", "0, keeps ≥ .95", _personal)
    for name, (world, _) in verdicts.FALLING_IN_FULL.items():
        yield Row(part, f"falling, {name}", "wrong stops", "≤ .05", lambda w=world: _wrong_stops(w))
    for name, (world, _) in verdicts.STEADY_IN_FULL.items():
        yield Row(part, f"steady, {name}", "right stops", "many", lambda w=world: _right_stops(w))
    yield Row(part, "a version joins", "the control's interval widens", "0", _joining)
    for name, of_chances in chances.WORLDS.items():
        goal = "right from said − .03 to said + .20"
        yield Row(part, f"best of {name}", "said/right", goal, lambda w=of_chances: _said(w))


def _of_control_groups() -> Iterator[Row]:
    part = "control group"
    for emails in EMAILS:
        name, width = f"returning, {emails} each", "half-width to one look's"
        yield Row(part, name, "ever errs", "≤ .05", lambda m=emails: _group_errors(m))
        yield Row(part, name, width, "≤ 1.7", lambda m=emails: _group_width(m))
    for emails in (4, 12, 52):
        name, figure = f"50 of 1,000 held out, {emails} each", "five standard errors are shown"
        yield Row(part, name, figure, "≥ .9", lambda m=emails: _group_power(m))


def _of_alarms() -> Iterator[Row]:
    part = "alarms"
    for n in ARMS:
        yield Row(part, f"sound split, {n} arms", "alarm", "≤ .003", lambda k=n: _split(k, 0.0))
    for loss, goal in ((0.02, "≥ .27"), (0.05, "1")):
        name = f"split, {loss:.0%} of one arm lost"
        yield Row(part, name, "alarm", goal, lambda x=loss: _split(2, x))
    for floor, goal in ((0.01, "≥ .5"), (0.10, "≥ .7")):
        world, name = alarms.crossing(floor), f"tastes cross, floor {floor:.0%}"
        yield Row(part, name, "levels move", "≥ .85", lambda w=world: _levels(w))
        yield Row(part, name, "lifts move", goal, lambda w=world: _lifts(w))
    for world in alarms.WEEKENDS:
        name = f"weekends at × .3, {len(world.first)} arms, {world.first[0]:.2f}"
        yield Row(part, name, "lifts move", "≤ .01", lambda w=world: _lifts(w))
    yield Row(part, "answers after 4 hours", "warns on the first day", "1", _late)


def _of_newcomers() -> Iterator[Row]:
    for policy in newcomers.ERASED:
        name, figure = f"newcomer, {policy}", "share of the proven best"
        yield Row("newcomers", name, figure, "≥ .75", lambda p=policy: _best_keeps(p))


def rows() -> Iterator[Row]:
    """List all rows."""
    yield from chain(_of_pages(), _of_control_groups(), _of_alarms(), _of_newcomers())


def main(wanted: list[str]) -> None:
    """Print the rows that are wanted, all unless any is named."""
    for row in rows():
        if not wanted or any(text in f"{row.part}: {row.world}" for text in wanted):
            sys.stdout.write(f"{row.line()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

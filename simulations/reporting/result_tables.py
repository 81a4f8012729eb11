"""Tables of a simulation's result, as text, for a terminal and as HTML."""

from collections.abc import Sequence
from html import escape
from io import StringIO
from math import isnan

import numpy as np
from rich.console import Console
from rich.table import Table

from simulations.replay import ReplayResult
from simulations.reporting.summary import Difference, Estimate, LearnerOutcome, Summary, summarise
from simulations.running.schedule import Run

WIDTH = 132  # characters that the whole table may take
_ROUNDING = 1e-9  # difference between sums of equal numbers
_WHOLE = 1000  # from here on, without decimals


HEADINGS = (
    "policy",
    "regret",
    "± se",
    "p95",
    "reward",
    "and after",
    "wrong winner",
    "simple regret",
    "decided at",
    "worst dip",
)
_MEDIUM = (0, 1, 2, 3, 4, 5, 6, 8, 9)  # the columns of a terminal that is not quite so wide
_NARROW = (0, 1, 2, 3, 4, 6)  # and of one of less
_MEDIUM_WIDTH = 115


def result_rows(outcomes: Sequence[LearnerOutcome], run: Run) -> list[tuple[str, ...]]:
    """Write one row of HEADINGS for each learner."""
    return [
        (
            summary.label,
            number(summary.regret.mean),
            number(summary.regret.se),
            number(summary.regret.p95),
            number(summary.reward.mean),
            number(summary.reward_and_after.mean),
            share(summary.wrong_winner),
            "–" if summary.simple_regret is None else number(summary.simple_regret.mean),
            _sends(summary),
            number(summary.worst_dip.mean),
        )
        for summary in summarise(outcomes, run)
    ]


def result_notes(outcomes: Sequence[LearnerOutcome], run: Run) -> list[str]:
    """Write a note for each test that was planned for more than the campaign."""
    needs = [
        f"{summary.label} needs {summary.needs:,} decisions, the campaign has "
        f"{run.horizon:,}: "
        + (
            "it never ends, and ships nothing."
            if summary.decided == 0
            else "where it has not ended before, it ships nothing."
        )
        for summary in summarise(outcomes, run)
        if summary.needs is not None
    ]
    return needs + [
        f"{summary.label}: {number(summary.unwanted.mean)} unwanted events."
        for summary in summarise(outcomes, run)
        if summary.unwanted is not None
    ]


DIFFERENCE_HEADINGS = ("compared with the best", "more regret", "95 % interval")


def difference_rows(outcomes: Sequence[LearnerOutcome]) -> list[tuple[str, ...]]:
    """Write the regret that each learner had more than the best, with its interval."""
    best = best_row(outcomes)
    if best is None:
        return []
    top = outcomes[best]
    pairs = [(o, Difference.between(top, o)) for o in outcomes if o is not top]
    return [(other.label, number(d.mean), _interval(d.low, d.high)) for other, d in pairs]


def best_row(outcomes: Sequence[LearnerOutcome]) -> int | None:
    """Return the position of the learner with the least regret, if there are others."""
    regrets = [outcome.record.regret[:, -1].mean() for outcome in outcomes]
    return int(np.argmin(regrets)) if len(regrets) > 1 else None


def result_table(outcomes: Sequence[LearnerOutcome], run: Run, width: int = WIDTH) -> Table:
    """Lay out one row for each learner, the least regret in bold; few columns if narrow."""
    replications = count_of(outcomes[0].replications, "replication")
    table = _plain(f"{replications} of {count_of(run.horizon, 'decision')}")
    columns = tuple(range(len(HEADINGS)))
    shown = columns if width >= WIDTH else _MEDIUM if width >= _MEDIUM_WIDTH else _NARROW
    for column in shown:
        first = column == 0
        table.add_column(
            HEADINGS[column],
            justify="left" if first else "right",
            no_wrap=not first,
            overflow="fold",
        )
    best = best_row(outcomes)
    for position, row in enumerate(result_rows(outcomes, run)):
        style = "bold" if position == best else None
        table.add_row(*(row[column] for column in shown), style=style)
    table.caption = "\n".join(result_notes(outcomes, run)) or None
    return table


def difference_table(outcomes: Sequence[LearnerOutcome]) -> Table:
    """Lay out the paired differences from the best."""
    table = _plain()
    table.add_column(DIFFERENCE_HEADINGS[0], overflow="fold")
    for heading in DIFFERENCE_HEADINGS[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in difference_rows(outcomes):
        table.add_row(*row)
    return table


def _plain(title: str | None = None) -> Table:
    """Begin a table without lines, its title at the left."""
    return Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=title,
        title_justify="left",
        caption_justify="left",
    )


def as_html(outcomes: Sequence[LearnerOutcome], run: Run) -> str:
    """Write the table as HTML, the least regret in bold, and its notes."""
    notes = "".join(f"\n<p>{escape(note)}</p>" for note in result_notes(outcomes, run))
    return html_table(HEADINGS, result_rows(outcomes, run), best_row(outcomes)) + notes


def html_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], strong: int | None = None
) -> str:
    """Write a table as HTML, one row of it in bold."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = ""
    for position, row in enumerate(rows):
        tag = "th" if position == strong else "td"
        body += "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>\n"
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def replay_table(results: Sequence[ReplayResult], rows: int) -> Table:
    """Lay out one row for each replayed policy, the largest reward in bold."""
    table = _plain(count_of(rows, "row") + " replayed")
    table.add_column("policy", overflow="fold")
    for heading in ("reward per step", "± se", "matched rows"):
        table.add_column(heading, justify="right", no_wrap=True)
    most = max(result.reward_per_step for result in results)
    for result in results:
        table.add_row(
            result.label,
            f"{result.reward_per_step:.5f}",
            f"{result.se:.5f}",
            f"{result.matched:,}",
            style="bold" if result.reward_per_step == most and len(results) > 1 else None,
        )
    return table


def as_text(outcomes: Sequence[LearnerOutcome], run: Run) -> str:
    """Write the table as plain text."""
    console = Console(file=StringIO(), width=WIDTH, color_system=None, markup=False, emoji=False)
    console.print(result_table(outcomes, run))
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # it is the StringIO above


def number(value: float) -> str:
    """Write a sum of rewards with three digits or more; a dash for NaN."""
    if isnan(value):
        return "–"
    size = abs(value)
    if size < _ROUNDING:
        return "0"
    return f"{value:,.0f}" if size >= _WHOLE else f"{value:.1f}" if size >= 1 else f"{value:.3g}"


def _interval(low: float, high: float) -> str:
    return "–" if isnan(low) else f"{number(low)} to {number(high)}"


def count_of(number: int, thing: str) -> str:
    """Write a number of things, such as 2 rows."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def share(estimate: Estimate | None) -> str:
    """Write the mean of a share in percent; a dash where there is none."""
    return "–" if estimate is None else f"{100 * estimate.mean:.1f} %"


def _sends(summary: Summary) -> str:
    """Write the sends after which a learner settled, and the share of replications if below all."""
    if summary.sends_to_decision is None:
        return "–"
    sends = f"{summary.sends_to_decision.mean:,.0f}"
    return sends if summary.decided == 1 else f"{sends} ({100 * summary.decided:.0f} %)"

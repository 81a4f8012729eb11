"""A simulation's result as a readable table."""

from collections.abc import Sequence
from html import escape
from io import StringIO

import numpy as np
from rich.console import Console
from rich.table import Table

from simulations.replay import Replayed
from simulations.result import Estimate, Result

_WIDTH = 100
_WHOLE = 1000  # from here on, decimals say nothing


HEADINGS = ("policy", "regret", "± se", "p95", "reward", "± se", "wrong winner")


def result_rows(result: Result) -> list[tuple[str, ...]]:
    """Write one row of HEADINGS for each contestant."""
    return [
        (
            summary.label,
            *(number(value) for value in (summary.regret.mean, summary.regret.se)),
            number(summary.regret.p95),
            *(number(value) for value in (summary.reward.mean, summary.reward.se)),
            share(summary.wrong_winner),
        )
        for summary in (outcome.summary() for outcome in result.outcomes)
    ]


def best_row(result: Result) -> int | None:
    """Find the contestant with the least regret, if there are others."""
    regrets = [outcome.record.regret[:, -1].mean() for outcome in result.outcomes]
    return int(np.argmin(regrets)) if len(regrets) > 1 else None


def result_table(result: Result) -> Table:
    """Lay out one row for each contestant, the least regret in bold."""
    run = result.run
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.title = f"{result.replications:,} replications of {run.horizon:,} decisions"
    table.title_justify = "left"
    table.add_column(HEADINGS[0], overflow="fold")
    for heading in HEADINGS[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    for position, row in enumerate(result_rows(result)):
        table.add_row(*row, style="bold" if position == best_row(result) else None)
    return table


def as_html(result: Result) -> str:
    """Write the table as HTML, the least regret in bold."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    body = ""
    for position, row in enumerate(result_rows(result)):
        tag = "th" if position == best_row(result) else "td"
        body += "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>\n"
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def replay_table(results: Sequence[Replayed], rows: int) -> Table:
    """Lay out one row for each replayed policy, the largest reward in bold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.title, table.title_justify = f"{rows:,} rows replayed", "left"
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


def as_text(result: Result) -> str:
    """Write the table as plain text."""
    console = Console(file=StringIO(), width=_WIDTH, color_system=None)
    console.print(result_table(result))
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # it is the StringIO above


def number(value: float) -> str:
    """Write a sum of rewards with as many decimals as say something."""
    size = abs(value)
    return f"{value:,.0f}" if size >= _WHOLE else f"{value:.1f}" if size >= 1 else f"{value:.3g}"


def share(estimate: Estimate | None) -> str:
    """Write the mean of a share in percent; a dash where there is none."""
    return "–" if estimate is None else f"{100 * estimate.mean:.1f} %"

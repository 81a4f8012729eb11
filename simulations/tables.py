"""A simulation's result as a readable table."""

from io import StringIO

from rich.console import Console
from rich.table import Table

from simulations.result import Estimate, Result

_WIDTH = 100
_WHOLE = 1000  # from here on, decimals say nothing


def result_table(result: Result) -> Table:
    """Lay out one row for each contestant, the least regret in bold."""
    run = result.run
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.title = f"{result.replications:,} replications of {run.horizon:,} decisions"
    table.title_justify = "left"
    table.add_column("policy", overflow="fold")
    for heading in ("regret", "± se", "p95", "reward", "± se", "wrong winner"):
        table.add_column(heading, justify="right", no_wrap=True)
    summaries = [outcome.summary() for outcome in result.outcomes]
    least = min(summary.regret.mean for summary in summaries)
    for summary in summaries:
        wrong = summary.wrong_winner
        table.add_row(
            summary.label,
            *(_number(v) for v in _parts(summary.regret)),
            _number(summary.reward.mean),
            _number(summary.reward.se),
            "–" if wrong is None else f"{100 * wrong.mean:.1f} %",
            style="bold" if summary.regret.mean == least and len(summaries) > 1 else None,
        )
    return table


def as_text(result: Result) -> str:
    """Write the table as plain text."""
    console = Console(file=StringIO(), width=_WIDTH, color_system=None)
    console.print(result_table(result))
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # it is the StringIO above


def _parts(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.mean, estimate.se, estimate.p95


def _number(value: float) -> str:
    """Write a sum of rewards with as many decimals as say something."""
    size = abs(value)
    return f"{value:,.0f}" if size >= _WHOLE else f"{value:.1f}" if size >= 1 else f"{value:.3g}"

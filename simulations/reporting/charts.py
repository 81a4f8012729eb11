"""Charts for notebooks, reports and pages.

Lines carry their names at their ends rather than in a legend, colours are Okabe and Ito's (2008),
which colour-blind readers can tell apart, and dashes follow where colours run out.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from plotly import graph_objects as go

from bandits.array_types import AnyArray, FloatArray
from simulations.reporting.summary import LearnerOutcome

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CONTROL = "#888888"
DASHES = ("solid", "dash", "dot", "dashdot")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_LABEL_GAP = 0.06  # of the axis: labels closer than this would overlap
_CHARACTER_PIXELS = 7
_GRID = "rgba(128, 128, 128, 0.2)"


class ChartLine(Struct, frozen=True, eq=False):
    """A line with a band around it, all (n,)."""

    label: str
    x: AnyArray
    y: FloatArray
    low: FloatArray
    high: FloatArray


class ChartSpan(Struct, frozen=True):
    """An estimate, the interval that matters most, and a wider one."""

    label: str
    mean: float
    inner: tuple[float, float]
    outer: tuple[float, float]


def style(position: int) -> tuple[str, str]:
    """Return the colour and dash of the line or arm at this position."""
    return COLOURS[position % len(COLOURS)], DASHES[position // len(COLOURS) % len(DASHES)]


def shaded_band(colour: str, alpha: float) -> str:
    """Make a colour such as #0072B2 transparent."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def line_figure(lines: Sequence[ChartLine], *, title: str, x_title: str, y_title: str) -> go.Figure:
    """Draw lines with their bands, named at their right ends."""
    figure = go.Figure()
    for position, line in enumerate(lines):
        colour, dash = style(position)
        figure.add_scatter(
            x=np.concatenate([line.x, line.x[::-1]]),
            y=np.concatenate([line.high, line.low[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=shaded_band(colour, 0.12),
            line={"width": 0},
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=line.x,
            y=line.y,
            name=line.label,
            mode="lines",
            line={"color": colour, "dash": dash, "width": 2},
            customdata=np.stack([line.low, line.high], axis=1),
            hovertemplate="%{y:,.4~g} (%{customdata[0]:,.4~g} to %{customdata[1]:,.4~g})",
        )
    _name_ends(figure, lines)
    longest = max(len(line.label) for line in lines)
    _finish(figure, title=title, right=min(20 + _CHARACTER_PIXELS * longest, 320))
    figure.update_xaxes(title=x_title, tickformat=",", range=[0, max(line.x[-1] for line in lines)])
    figure.update_yaxes(title=y_title, tickformat=",", rangemode="tozero")
    figure.update_layout(hovermode="x unified")
    return figure


def _name_ends(figure: go.Figure, lines: Sequence[ChartLine]) -> None:
    """Write each label beside the end of its line, moved up where it would cover another."""
    lowest = min(0.0, *(float(line.low.min()) for line in lines))
    gap = _LABEL_GAP * (max(float(line.high.max()) for line in lines) - lowest)
    free = -np.inf
    for position in np.argsort([line.y[-1] for line in lines], kind="stable"):
        line = lines[position]
        free = max(float(line.y[-1]), free + gap)
        figure.add_annotation(
            x=line.x[-1],
            y=free,
            text=line.label,
            font={"color": style(int(position))[0]},
            showarrow=False,
            xanchor="left",
            xshift=6,
        )


def span_figure(spans: Sequence[ChartSpan], *, title: str, x_title: str) -> go.Figure:
    """Draw one row for each estimate: a dot, a thick bar inside, a thin bar outside."""
    figure = go.Figure()
    for position, span in enumerate(spans):
        colour, _ = style(position)
        for ends, width in ((span.outer, 2), (span.inner, 8)):
            figure.add_scatter(
                x=ends,
                y=[span.label] * 2,
                mode="lines",
                line={"color": shaded_band(colour, 0.5), "width": width},
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=[span.mean],
            y=[span.label],
            mode="markers",
            marker={"color": colour, "size": 11, "line": {"color": "white", "width": 1}},
            name=span.label,
            hovertemplate="%{x:,.5~g}<extra></extra>",
        )
    _finish(figure, title=title, right=24)
    figure.update_layout(height=140 + 34 * len(spans))
    figure.update_xaxes(title=x_title, tickformat=",", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def _finish(figure: go.Figure, *, title: str, right: int) -> None:
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 16}},
        template="none",
        font={"family": FONT, "size": 13},
        showlegend=False,
        margin={"l": 70, "r": right, "t": 48, "b": 52},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": CONTROL},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(gridcolor=_GRID, zeroline=False)
    figure.update_yaxes(gridcolor=_GRID, zeroline=True, zerolinecolor=_GRID)


def regret_curves(outcomes: Sequence[LearnerOutcome]) -> go.Figure:
    """Draw the regret of each learner after so many decisions."""
    lines = []
    for outcome in outcomes:
        curve = outcome.curve()
        x = np.array([0, *(point.decisions for point in curve)])
        mean, low, high = (
            np.array([0.0, *(getattr(point, name) for point in curve)])
            for name in ("mean", "p05", "p95")
        )
        lines.append(ChartLine(outcome.label, x, mean, low, high))
    return line_figure(
        lines,
        title="Regret: mean, and the middle 90 % of replications",
        x_title="decisions",
        y_title="reward missed",
    )


def regret_spread(outcomes: Sequence[LearnerOutcome]) -> go.Figure:
    """Draw the spread of regret over replications: chance as a campaign manager would meet it."""
    spans = []
    for outcome in outcomes:
        regret = outcome.record.regret[:, -1]
        low, lower, upper, high = np.quantile(regret, [0.05, 0.25, 0.75, 0.95]).tolist()
        spans.append(ChartSpan(outcome.label, float(regret.mean()), (lower, upper), (low, high)))
    return span_figure(
        spans,
        title="Regret at the end: mean, middle half and middle 90 % of replications",
        x_title="reward missed",
    )

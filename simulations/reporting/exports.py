"""Exports of a result: HTML, PNG, parquet or CSV, by the file's name."""

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Any

import pyarrow.csv as pa_csv
from plotly.offline import get_plotlyjs

from bandits.errors import InvalidInput
from simulations.reporting.charts import FONT, regret_curves, regret_spread
from simulations.reporting.result import Result
from simulations.reporting.result_tables import (
    DIFFERENCE_HEADINGS,
    as_html,
    count_of,
    difference_rows,
    html_table,
)
from simulations.scenario import Scenario

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 $font; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto }
.scroll { overflow-x: auto }
</style>
<script>$script</script>
</head>
<body>
<h1>$title</h1>
<p>$about</p>
<p>$run</p>
<div class="scroll">$table</div>
<div class="scroll">$differences</div>
$figures
<h2>How to read this</h2>
<p>Regret is the expected reward missed against always sending the best email, summed over the
campaign; lower is better. It is computed from the true means, so that luck in the rewards does not
blur it. Every policy met the same recipients and the same potential rewards. p95 is exceeded in one
replication of twenty. A wrong winner is an email shipped at the end that is not the best; there is
none for policies that choose by recipient, and where a test was too large to be read. Simple regret
is what each later email then loses, on average. "And after" adds $after further recipients who get
what is shipped. "Decided at" counts the sends until an arm was settled on. The worst dip is how far
a policy fell behind sending only the first email, the control. Differences are taken replication by
replication, which makes them surer than the regrets themselves.</p>
$source
</body>
</html>
""")


def html_report(
    result: Result, *, title: str = "Simulation", about: str = "", source: str = ""
) -> str:
    """Write a report that needs no network.

    Args:
        result: the simulation's result.
        title: the question, say.
        about: a sentence or two on it.
        source: the scenario file's text, to run it again.
    """
    run = result.run
    figures = [regret_curves(result.outcomes), regret_spread(result.outcomes)]
    return _PAGE.substitute(
        title=escape(title),
        about=escape(about),
        font=FONT,
        script=get_plotlyjs(),
        run=f"{count_of(result.replications, 'replication')} of "
        f"{count_of(run.horizon, 'decision')}, seed {run.seed}.",
        table=as_html(result.outcomes, result.run),
        differences=_differences(result),
        figures="\n".join(_embedded(figure) for figure in figures),
        after=f"{run.decisions_after:,}",
        source=f"<h2>Scenario</h2>\n<pre>{escape(source)}</pre>" if source else "",
    )


def _differences(result: Result) -> str:
    rows = difference_rows(result.outcomes)
    return html_table(DIFFERENCE_HEADINGS, rows) if rows else ""


def _embedded(figure: Any) -> str:
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"displaylogo": False, "responsive": True, "displayModeBar": "hover"},
    )
    return html


_PNG_WIDTH, _PNG_HEIGHT, _PNG_SCALE = 1000, 560, 2


def check_path(path: Path) -> None:
    """Refuse, before the simulation, a file that could not be written after it.

    Raises:
        InvalidInput: its form is unknown, or its folder is missing.
    """
    if path.suffix.lower() not in FORMS:
        raise InvalidInput.at("", f"cannot write {path}: give it one of {', '.join(FORMS)}")
    if not path.parent.is_dir():
        raise InvalidInput.at("", f"cannot write {path}: no folder {str(path.parent)!r}")


def export(path: Path, result: Result, scenario: Scenario) -> None:
    """Write a result in the form of the file's suffix.

    Raises:
        InvalidInput: the file cannot be written.
    """
    check_path(path)
    try:
        FORMS[path.suffix.lower()](path, result, scenario)
    except OSError as error:
        raise InvalidInput.at("", f"cannot write {path}: {error.strerror or error}") from None


def _html(path: Path, result: Result, scenario: Scenario) -> None:

    title = scenario.question or "Simulation"
    text = html_report(result, title=title, about=scenario.about, source=scenario.source)
    path.write_text(text, "utf-8")


def _png(path: Path, result: Result, scenario: Scenario) -> None:  # noqa: ARG001 - a picture has no room for it
    try:
        import kaleido  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise InvalidInput.at(
            "", "pictures need an extra, and Chromium: pip install 'email-bandits[png]'"
        ) from None
    figure = result.figure()
    figure.update_layout(paper_bgcolor="white")
    image = figure.to_image("png", width=_PNG_WIDTH, height=_PNG_HEIGHT, scale=_PNG_SCALE)
    path.write_bytes(image)


def _parquet(path: Path, result: Result, scenario: Scenario) -> None:  # noqa: ARG001 - numbers only
    result.to_parquet(path)


def _csv(path: Path, result: Result, scenario: Scenario) -> None:  # noqa: ARG001 - numbers only
    pa_csv.write_csv(result.replication_rows(), path)


FORMS: Mapping[str, Callable[[Path, Result, Scenario], None]] = MappingProxyType(
    {".html": _html, ".png": _png, ".parquet": _parquet, ".csv": _csv}
)

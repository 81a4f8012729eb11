"""Report of evaluations: a page of tables, or everything as JSON."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

import msgspec

from bandits.errors import InvalidInput
from simulations.evaluation.policy_evaluation import PolicyEvaluation
from simulations.reporting.charts import FONT
from simulations.reporting.result_tables import html_table

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 $font; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
</style>
</head>
<body>
<h1>$title</h1>
$sections
<h2>How to read this</h2>
<p>A value is the mean reward per email that the policy would have earned on the log's emails.
"dr" is the one to quote: it is right where the logged probabilities are, and its interval by
betting holds for any number of rows, also where the policy that sent the emails was learning.
"dm" is only as good as its model of rewards, and has no interval. Where the log has too few rows
that speak about a policy, no value is shown, and the reason is.</p>
</body>
</html>
""")


def check_report_path(path: Path) -> None:
    """Refuse a path that no report can be written to.

    Raises:
        InvalidInput: it has another ending than .html or .json, or its folder does not exist.
    """
    if path.suffix not in {".html", ".json"}:
        raise InvalidInput.at("", f"{path}: the name must end in .html or .json")
    if not path.absolute().parent.is_dir():
        raise InvalidInput.at("", f"{path}: there is no such folder")


def write_evaluations(path: Path, evaluations: Sequence[PolicyEvaluation], title: str) -> None:
    """Write evaluations to a file, by the ending of its name.

    Raises:
        InvalidInput: as `check_report_path`; the file cannot be written.
    """
    check_report_path(path)
    if path.suffix == ".json":
        content = msgspec.json.format(msgspec.json.encode(list(evaluations)), indent=2)
    else:
        sections = "\n".join(map(_section, evaluations))
        page = _PAGE.substitute(title=escape(title), font=FONT, sections=sections)
        content = page.encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInput.at("", f"cannot write {path}: {error.strerror}") from None


def _section(evaluation: PolicyEvaluation) -> str:
    headings, *rows = evaluation.rows()
    table = html_table(headings, rows) if rows else ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in evaluation.notes())
    return f"<h2>{escape(evaluation.label)}</h2>\n{table}{notes}"

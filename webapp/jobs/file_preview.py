"""File preview: the first rows of an uploaded file as they are understood, before anything is done.

A preview is a table of texts, its header first; the last column says why a row would be left out.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from bandits.experiment import Experiment
from bandits.features import Feature, NumberFeature, Scalar
from bandits.schemas import Reward
from webapp.files.cell_values import CellForms, local_time, read_id
from webapp.files.recipients import RecipientColumns, RecipientFile
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.table_files import RejectedRow, Table
from webapp.jobs.runner import FOUND, SubjectMatcher

PREVIEWED = 5  # rows
_NOTHING = "–"
_LONGEST = 60


def preview_recipients(
    table: Table, experiment: Experiment, columns: RecipientColumns, forms: CellForms
) -> list[list[str]]:
    """Return the first rows of a list.

    Raises:
        InvalidInput: the columns are not complete, or the file cannot be read.
    """
    recipients = RecipientFile(table, experiment, columns, forms)
    rejected: list[RejectedRow] = []
    portion = next(recipients.portions("preview", PREVIEWED, reject=rejected.append), None)
    features = [feature.name for feature in experiment.context]
    rows: dict[int, list[str]] = {}
    if portion is not None:
        for line, request in zip(portion.lines, portion.requests, strict=True):
            context = request.context or {}
            values = [_understood(f, context.get(f.name)) for f in experiment.context]
            rows[line] = [_shown(request.subject_id), *values, ""]
    width = len(features) + 1
    return [
        ["Row", "Recipient", *features, "Left out because"],
        *_with_rejected(rows, rejected, width),
    ]


def preview_results(  # noqa: PLR0913, PLR0917 - what the file is, and how it is written
    table: Table,
    experiment: Experiment,
    columns: EventColumns,
    id_column: str,
    forms: CellForms,
    now: datetime,
) -> list[list[str]]:
    """Return the first rows of an export.

    Raises:
        InvalidInput: the columns are not complete, or the file cannot be read.
    """
    source = table
    if columns.decision == FOUND:
        source = SubjectMatcher(table, id_column, _known, columns.occurred_at, forms)
    export = RewardExport(source, experiment, columns, forms, now=now)
    rejected: list[RejectedRow] = []
    ids = next(table.portions([id_column], PREVIEWED, reject=rejected.append), None)
    rejected.clear()
    size = PREVIEWED * max(1, len(columns.metrics))
    portion = next(export.portions(size, reject=rejected.append), None)
    events: dict[int, list[Reward]] = {}
    if portion is not None:
        for line, reward in zip(portion.lines, portion.rewards, strict=True):
            events.setdefault(line, []).append(reward)
    wrong = {row.line for row in rejected}
    rows: dict[int, list[str]] = {}
    if ids is not None:
        for line, cell in zip(ids.lines, ids.cells[id_column], strict=True):
            if line not in wrong:
                rows[line] = [_shown(read_id(cell)[0]), *_told(events.get(line, []), forms), ""]
    return [
        ["Row", "Recipient", "What happened", "When", "Left out because"],
        *_with_rejected(rows, rejected, 3),
    ]


def _understood(feature: Feature, value: Scalar) -> str:
    """Write a value as it counts, and what the file has where that is something else."""
    text = _shown(value)
    if value is None:
        return text
    if isinstance(feature, NumberFeature):
        counts = min(max(float(value), feature.low), feature.high)
        return text if counts == value else f"{counts:g} (for {text})"
    return text if value in feature.values else f"not known ({text})"


def _known(names: Sequence[str], _: Sequence[float | None]) -> list[str]:
    return ["known"] * len(names)


def _told(rewards: Sequence[Reward], forms: CellForms) -> list[str]:
    names = [r.metric if r.value == 1.0 else f"{r.metric} {r.value:g}" for r in rewards]
    times = {
        "time of upload" if r.occurred_at is None else local_time(r.occurred_at, forms.zone)
        for r in rewards
    }
    return [", ".join(names) or "nothing", ", ".join(sorted(times)) or _NOTHING]


def _with_rejected(
    rows: Mapping[int, list[str]], rejected: Sequence[RejectedRow], width: int
) -> list[list[str]]:
    """Return the rows in their order, with those that are left out."""
    reasons: dict[int, list[str]] = {}
    for row in rejected:
        place = f"{row.column}: " if row.column else ""
        reasons.setdefault(row.line, []).append(f"{place}{row.reason}")
    left_out = {line: [*[_NOTHING] * width, "; ".join(why)] for line, why in reasons.items()}
    all_rows = sorted({**rows, **left_out}.items())[:PREVIEWED]
    return [[str(line), *cells] for line, cells in all_rows]


def _shown(value: object) -> str:
    if value is None:
        return _NOTHING
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

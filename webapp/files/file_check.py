"""File check: what of a whole file will be used, and what will not, before anything is decided."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np
from msgspec import Struct

from bandits.array_types import IntArray
from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment
from bandits.features import NumberFeature
from bandits.schemas import Request
from webapp.files.recipients import RecipientFile
from webapp.files.repeated_recipients import first_rows, subject_digests
from webapp.files.reward_export import RewardExport
from webapp.files.table_files import Reject, RejectedRow

_MOST_LINES = 10  # of recipients who come again
_MOST_VALUES = 5  # examples of a finding
_MOST_COUNTED = 1000  # different values that are counted by themselves
_LONGEST_VALUE = 60


class ColumnFinding(Struct, frozen=True):
    """Cells of a column that are not used as they are.

    Attributes:
        column: its name, empty for whole rows.
        problem: a sentence without a subject.
        count: number of cells.
        examples: some of the values, each with its number of cells.
    """

    column: str
    problem: str
    count: int
    examples: tuple[tuple[str, int], ...] = ()


class FileCheck(Struct, frozen=True):
    """Outcome of reading a whole file.

    Attributes:
        rows: of the file.
        read: rows that are whole.
        usable: rows that fit.
        recipients: different ones among these.
        repeated: rows of recipients who came in an earlier row.
        repeated_lines: lines of some of these.
        left_out: findings of rows that do not fit.
        mended: findings of cells that count as not known, or as the nearest allowed number; or of
            events without a match.
        events: of an export of results.
        several: of these, those without a time whose recipient got several emails.
    """

    rows: int
    read: int
    usable: int
    recipients: int = 0
    repeated: int = 0
    repeated_lines: tuple[int, ...] = ()
    left_out: tuple[ColumnFinding, ...] = ()
    mended: tuple[ColumnFinding, ...] = ()
    events: int = 0
    several: int = 0

    @property
    def is_clean(self) -> bool:
        """True where there is nothing to say."""
        return not (self.repeated or self.left_out or self.mended)

    def refuse_useless(self) -> None:
        """Refuse a file of which no row fits.

        Raises:
            InvalidInput: it is one.
        """
        if self.usable:
            return
        if not self.rows:
            raise InvalidInput.at("", "the file has a header and no rows")
        raise InvalidInput(
            Fault("", f"column {f.column!r}: {f.problem}" if f.column else f.problem)
            for f in self.left_out
        )

    @property
    def is_unmatched(self) -> bool:
        """True for an export none of whose events has a recipient of the campaign."""
        return 0 < self.events == sum(finding.count for finding in self.mended)


class FindingCounter:
    """Counter of findings, by column and problem."""

    def __init__(self) -> None:
        """Begin without any."""
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def add(self, column: str, problem: str, value: str) -> None:
        """Count a cell."""
        values = self._counts.setdefault((column, problem), Counter())
        shown = value[:_LONGEST_VALUE]
        values[shown if shown in values or len(values) < _MOST_COUNTED else "…"] += 1

    def findings(self) -> tuple[ColumnFinding, ...]:
        """Return the findings, the most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda item: -item[1].total())
        return tuple(
            ColumnFinding(column, problem, values.total(), tuple(values.most_common(_MOST_VALUES)))
            for (column, problem), values in ordered
        )


class RejectionCounter:
    """Counter of rejected rows, which also go to somebody else."""

    def __init__(self, reject: Reject) -> None:
        """Pass rows on to `reject`."""
        self._reject = reject
        self._findings = FindingCounter()
        self._lines: set[int] = set()
        self.n_rows_without_column = 0  # rows that are none, of which no portion knows

    def __call__(self, row: RejectedRow) -> None:
        """Count a row and pass it on."""
        self._lines.add(row.line)
        self.n_rows_without_column += not row.column
        problem = row.reason.replace(repr(row.value[:40]), "").strip() if row.value else row.reason
        self._findings.add(row.column, problem, row.value)
        self._reject(row)

    @property
    def n_rows(self) -> int:
        """Number of rows that have a fault, or several."""
        return len(self._lines)

    def findings(self) -> tuple[ColumnFinding, ...]:
        """Return the findings, the most frequent first."""
        return self._findings.findings()


def check_recipients(
    recipients: RecipientFile,
    experiment: Experiment,
    reject: Reject | None,
    progress: Callable[[int], object] = int,
) -> tuple[FileCheck, IntArray]:
    """Read a whole file of recipients; return also the first row of each row's subject (n,).

    Args:
        recipients: the file.
        experiment: that they are chosen for.
        reject: takes the rows that do not fit; without it, there must be none.
        progress: is called with the number of rows that were read.

    Raises:
        InvalidInput: the file cannot be read; or, without `reject`, rows are invalid.
    """
    rejected = RejectionCounter(reject or _keep)
    mended = _MendedValues(experiment, recipients)
    usable = read = 0
    digests: list[IntArray] = []
    lines: list[int] = []
    for portion in recipients.portions("check", reject=reject and rejected):
        usable += len(portion.requests)
        read += portion.n_rows
        lines += portion.lines
        digests.append(subject_digests(r.subject_id for r in portion.requests))
        mended.add(portion.requests)
        progress(portion.n_rows)
    first = first_rows(digests)
    again = np.flatnonzero(first != np.arange(len(first)))
    check = FileCheck(
        usable + rejected.n_rows,
        read,
        usable,
        usable - len(again),
        len(again),
        tuple(lines[i] for i in again[:_MOST_LINES]),
        rejected.findings(),
        mended.findings(),
    )
    return check, first


def _keep(_: RejectedRow) -> None:
    """Take a row without keeping it."""


def check_results(
    export: RewardExport, reject: Reject, nobody: str, ambiguous: Collection[str] = ()
) -> FileCheck:
    """Read a whole export of results.

    Args:
        export: the file.
        reject: takes the rows that do not fit.
        nobody: begins the decision ids of rows whose recipient has none; empty for no such ids.
        ambiguous: decisions of recipients of several emails, of rows without a time; it grows
            while the file is read.

    Raises:
        InvalidInput: the file cannot be read.
    """
    rejected, unmatched = RejectionCounter(reject), FindingCounter()
    read = whole = several = 0
    for portion in export.portions(reject=rejected):
        read += portion.rows
        for reward in portion.rewards:
            if nobody and reward.decision_id.startswith(nobody):
                unmatched.add("", "this campaign sent no email to the recipient", "")
            several += reward.occurred_at is None and reward.decision_id in ambiguous
        whole += len(portion.rewards)
    broken = rejected.n_rows_without_column
    return FileCheck(
        read + broken,
        read,
        read + broken - rejected.n_rows,
        left_out=rejected.findings(),
        mended=unmatched.findings(),
        events=whole,
        several=several,
    )


class _MendedValues:
    """Counter of values that an experiment takes as not known, or as the nearest allowed."""

    def __init__(self, experiment: Experiment, recipients: RecipientFile) -> None:
        self._experiment = experiment
        self._columns = recipients.feature_columns
        self._findings = FindingCounter()

    def add(self, requests: Sequence[Request]) -> None:
        contexts = [request.context or {} for request in requests]
        for feature in self._experiment.context:
            if (column := self._columns.get(feature.name)) is None:
                continue
            if isinstance(feature, NumberFeature):
                self._add_numbers(feature, column, [c.get(feature.name) for c in contexts])
                continue
            listed = {*feature.values, None}
            for value in (c.get(feature.name) for c in contexts):
                if value not in listed:
                    names = ", ".join(feature.values[:10])
                    problem = f"none of {names}: counts as not known"
                    self._findings.add(column, problem, str(value))

    def _add_numbers(self, feature: NumberFeature, column: str, values: Sequence[object]) -> None:
        for value in values:
            if isinstance(value, int | float) and not feature.low <= value <= feature.high:
                nearest = feature.low if value < feature.low else feature.high
                side = "below" if value < feature.low else "above"
                problem = f"{side} {nearest:g}: counts as {nearest:g}"
                self._findings.add(column, problem, f"{value:g}")

    def findings(self) -> tuple[ColumnFinding, ...]:
        return self._findings.findings()

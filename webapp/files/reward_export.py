"""Reward export: a mailer's file of events as rewards, and the outcome of each row."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from bandits.errors import Fault, InvalidInput
from bandits.event_ids import RESERVED, RESERVED_TOLD
from bandits.experiment import Experiment
from bandits.rewards import refuse_value
from bandits.schemas import Id, Reward, RewardReceipt
from bandits.validation import seconds_of
from webapp.files.table_files import PORTION, Cell, Portion, Table

_MOST_FAULTS = 20
_MOST_NAMED = 1000  # unmatched rows
_SECONDS = re.compile(r"\d{9,14}(\.\d*)?")  # 1970 and before are no times of an email
_UNKNOWN = "no decision has this id, or none that is still kept"
_EARLY = "before its email was decided, or activated"
_NEEDS_AS_OF = "choose the column of the times since when values hold; the latest one counts"
_NO = {"", "0", "false", "no", "n"}
_YES = {"1", "true", "yes", "y"}


class EventColumns(Struct, frozen=True):
    """Columns of a mailer's export.

    An export has one row for each recipient, with a column for each declared metric or listed
    event (`metrics`: by name, its column; an empty cell, 0 and no mean that there was no event),
    or one row for each event (`metric` is the column of its name and `value`, if any, that of its
    value).

    Attributes:
        decision: the column of decision ids.
        event: the column of the mailer's ids of events; without it, ids are built from the row.
        occurred_at: the column of times, as RFC 3339, or in seconds or milliseconds since 1970;
            without it, the time of the report.
        as_of: the column of the times since when values hold, likewise; for metrics of which the
            latest value counts, where 0 is a value, too.
    """

    decision: str = "decision_id"
    metrics: Mapping[str, str] = {}
    metric: str | None = None
    value: str | None = None
    event: str | None = None
    occurred_at: str | None = None
    as_of: str | None = None


class ReportedPortion(Struct, frozen=True, gc=False):
    """Events of consecutive rows, and the line of each."""

    lines: Sequence[int]
    rewards: Sequence[Reward]
    rows: int


class UnmatchedRow(Struct, frozen=True):
    """Row whose event was not recorded, and the reason."""

    line: int
    decision_id: str
    reason: str


class ReportOutcome(Struct):
    """Outcome of an export; every event is counted in one field.

    Attributes:
        rows: of the file; a row without an event is counted only here.
        unmatched: rows of at most a thousand unknown and early events.
    """

    rows: int = 0
    accepted: int = 0
    repeated: int = 0
    late: int = 0
    unknown: int = 0
    early: int = 0
    unmatched: list[UnmatchedRow] = []

    def add(self, reported: ReportedPortion, receipt: RewardReceipt) -> None:
        """Count a portion that was reported."""
        self.rows += reported.rows
        self.accepted += receipt.accepted
        self.repeated += receipt.repeated
        self.late += receipt.late
        self.unknown += len(receipt.unknown)
        self.early += len(receipt.early)
        reasons = dict.fromkeys(receipt.unknown, _UNKNOWN) | dict.fromkeys(receipt.early, _EARLY)
        for line, reward in zip(reported.lines, reported.rewards, strict=True):
            if len(self.unmatched) >= _MOST_NAMED:
                break
            if reason := reasons.get(reward.decision_id):
                self.unmatched.append(UnmatchedRow(line, reward.decision_id, reason))


class RewardExport:
    """Mailer's export of events of one experiment."""

    def __init__(self, table: Table, experiment: Experiment, columns: EventColumns) -> None:
        """Find the columns.

        Raises:
            InvalidInput: a column is missing, or an event is neither declared nor listed.
        """
        self._table = table
        self._rule = experiment.reward
        self._columns = columns
        if (columns.metric is None) == (not columns.metrics):
            raise InvalidInput.at(
                "", "name either the column of each metric, or the one of metrics"
            )
        for metric in columns.metrics:
            if metric not in self._rule.event_names:
                raise InvalidInput.at("", refuse_value(self._rule, metric, 1.0) or "")
            if columns.as_of is None and self._rule.needs_as_of(metric):
                raise InvalidInput.at("", f"{metric}: {_NEEDS_AS_OF}")
        single = (
            columns.metric,
            columns.value,
            columns.event,
            columns.occurred_at,
            columns.as_of,
        )
        names = [columns.decision, *columns.metrics.values(), *filter(None, single)]
        self._used = list(dict.fromkeys(names))
        for name in self._used:
            if name not in table.columns:
                present = ", ".join(table.columns)
                raise InvalidInput.at("", f"no column {name!r}; columns are {present}")

    def portions(self, size: int = PORTION) -> Iterator[ReportedPortion]:
        """Convert every row to its events, at most `size` of them at a time.

        Raises:
            InvalidInput: rows are invalid; at most twenty faults are named.
        """
        rows_at_once = max(1, size // max(1, len(self._columns.metrics)))
        for portion in self._table.portions(self._used, rows_at_once):
            faults: list[str] = []
            events = list(self._events(portion, faults))
            if faults:
                raise InvalidInput(Fault("", detail) for detail in faults[:_MOST_FAULTS])
            yield ReportedPortion(
                [line for line, _ in events], [r for _, r in events], len(portion.lines)
            )

    def send(self, reward: Callable[[Sequence[Reward]], RewardReceipt]) -> ReportOutcome:
        """Check the whole file, then report it; a second time nothing counts twice.

        Raises:
            InvalidInput: rows are invalid; nothing was reported.
        """
        for _ in self.portions():
            pass
        outcome = ReportOutcome()
        for reported in self.portions():
            outcome.add(reported, reward(reported.rewards))
        return outcome

    def _events(self, portion: Portion, faults: list[str]) -> Iterator[tuple[int, Reward]]:
        columns = self._columns
        for row, line in enumerate(portion.lines):
            cells = {name: values[row] for name, values in portion.cells.items()}
            try:
                decision = self._decision_id(cells)
                times = _moment(columns.occurred_at, cells), _moment(columns.as_of, cells)
                for metric, column, number in self._values(cells):
                    value = self._check_value(metric, column, number)
                    self._check_as_of(metric, column, times[1])
                    event = self._event_id(metric, value, times, cells)
                    reward = Reward(decision, event, metric, value, times[0], as_of=times[1])
                    yield line, reward
            except _CellError as error:
                faults.append(f"{self._table.place(line, error.column)}: {error}")

    def _decision_id(self, cells: Mapping[str, Cell]) -> str:
        column = self._columns.decision
        try:
            return msgspec.convert(cells[column], Id)
        except msgspec.ValidationError:
            raise _CellError(column, "is no decision id") from None

    def _values(self, cells: Mapping[str, Cell]) -> Iterator[tuple[str, str, float]]:
        """Yield metric, column and value of each event of a row."""
        columns = self._columns
        if columns.metric is not None:
            metric = cells[columns.metric]
            if not isinstance(metric, str):
                raise _CellError(columns.metric, "names no metric")
            if columns.value is None:
                yield metric, columns.metric, 1.0
                return
            number = _number(columns.value, cells[columns.value])
            yield metric, columns.value, 1.0 if number is None else number
            return
        for metric, column in columns.metrics.items():
            number = _number(column, cells[column])
            # Neither empty nor 0: there was an event. 0 may be the latest value of what was more.
            if number or (number is not None and self._rule.needs_as_of(metric)):
                yield metric, column, number

    def _event_id(
        self,
        metric: str,
        value: float,
        times: tuple[datetime | None, datetime | None],
        cells: Mapping[str, Cell],
    ) -> str:
        """Return the event's id; without a column, it is the same whenever the row is reported."""
        column = self._columns.event
        cell = None if column is None else cells[column]
        if column is None or cell is None:
            return f"{metric}={value:g}" + "".join(
                f"{sign}{time.astimezone(UTC).isoformat()}"
                for sign, time in zip("@~", times, strict=True)
                if time is not None
            )
        try:
            event_id = msgspec.convert(str(cell), Id)
        except msgspec.ValidationError:
            raise _CellError(column, "is no event id") from None
        if event_id.startswith(RESERVED):
            raise _CellError(column, RESERVED_TOLD)
        return event_id

    def _check_value(self, metric: str, column: str, value: float) -> float:
        """Check a value against its metric; a count of a metric that counts once is cut to 1."""
        if metric in self._rule.event_names and self._rule.event(metric).is_binary:
            value = min(value, 1.0)
        if wrong := refuse_value(self._rule, metric, value):
            raise _CellError(column, wrong)
        return value

    def _check_as_of(self, metric: str, column: str, as_of: datetime | None) -> None:
        if as_of is None and self._rule.needs_as_of(metric):
            raise _CellError(self._columns.as_of or column, f"{metric}: {_NEEDS_AS_OF}")


class _CellError(Exception):
    """A cell is invalid."""

    def __init__(self, column: str, detail: str) -> None:
        self.column = column
        super().__init__(detail)


def _number(column: str, cell: Cell) -> float | None:
    if cell is None or isinstance(cell, bool | int | float):
        return None if cell is None else float(cell)
    text = cell.strip().lower()
    if text in _NO | _YES:
        return float(text in _YES)
    try:
        return float(text)
    except ValueError:
        raise _CellError(column, f"{cell[:40]!r} is not a number") from None


def _moment(column: str | None, cells: Mapping[str, Cell]) -> datetime | None:
    cell = None if column is None else cells[column]
    if column is None or cell is None:
        return None
    moment = read_moment(cell)
    if moment is None:
        raise _CellError(column, f"{cell!r} is no time as RFC 3339 writes it")
    return moment


def read_moment(cell: Cell) -> datetime | None:
    """Read a time, as RFC 3339, or in seconds or milliseconds since 1970; None where it is none."""
    content: Any = cell
    try:
        if not isinstance(content, str) or _SECONDS.fullmatch(content):
            return datetime.fromtimestamp(seconds_of(float(content)), UTC)
        moment = datetime.fromisoformat(content)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment

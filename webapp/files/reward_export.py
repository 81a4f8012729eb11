"""Reward export: a mailer's file of events as rewards, and the outcome of each row."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from bandits.errors import Fault, InvalidInput
from bandits.event_ids import RESERVED, RESERVED_TOLD
from bandits.experiment import Experiment
from bandits.rewards import refuse_value
from bandits.schemas import Id, Reward, RewardReceipt
from webapp.files.cell_values import (
    SKEW,
    CellError,
    CellForms,
    Moment,
    is_nothing,
    read_id,
    read_moment,
    read_number,
)
from webapp.files.known_columns import event_name
from webapp.files.table_files import PORTION, Cell, Portion, Reject, RejectedRow, Table

_MOST_FAULTS = 20
_MOST_NAMED = 1000  # unmatched rows
_DAY = timedelta(days=1)
_UNKNOWN = "no decision has this id, or none that is still kept"
_EARLY = "before its email was decided, or activated"
_NEEDS_AS_OF = "choose the column of the times since when values hold; the latest one counts"
_NO = {"", "0", "false", "no", "n", "never", "nein", "falsch", "non", "faux", "falso"}
_YES = {"1", "true", "yes", "y", "x", "✓", "ja", "wahr", "oui", "vrai", "si", "sí", "verdadero"}


class EventColumns(Struct, frozen=True):
    """Columns of a mailer's export.

    An export has one row for each recipient, with a column for each declared metric or listed
    event (`metrics`: by name, its column; an empty cell, 0 and no mean that there was no event),
    or one row for each event (`metric` is the column of its name and `value`, if any, that of its
    value). A cell of a binary metric may also be the time at which it happened.

    Attributes:
        decision: the column of decision ids.
        event: the column of the mailer's ids of events; without it, ids are built from the row.
        occurred_at: the column of times, as RFC 3339, or in seconds or milliseconds since 1970;
            without it, the time of the report.
        as_of: the column of the times since when values hold, likewise; for metrics of which the
            latest value counts, where 0 is a value, too.
        every_row: the event that each row is, instead of a column of its name.
    """

    decision: str = "decision_id"
    metrics: Mapping[str, str] = {}
    metric: str | None = None
    value: str | None = None
    event: str | None = None
    occurred_at: str | None = None
    as_of: str | None = None
    every_row: str | None = None


class ReportedPortion(Struct, frozen=True, gc=False):
    """Events of consecutive rows, the line of each, and the number of rows read."""

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

    def __init__(  # noqa: PLR0913 - what the file is, and how it is written
        self,
        table: Table,
        experiment: Experiment,
        columns: EventColumns,
        forms: CellForms | None = None,
        *,
        now: datetime | None = None,
        totals: bool = False,
    ) -> None:
        """Find the columns.

        Args:
            table: the file.
            experiment: whose events they are.
            columns: their meaning.
            forms: how cells are written; by default, times without a zone are of UTC.
            now: no event is later; None takes any.
            totals: values of metrics that add up are totals so far, not new events.

        Raises:
            InvalidInput: a column is missing, or an event is neither declared nor listed.
        """
        self._table = table
        self._rule = experiment.reward
        self._columns = columns
        self._forms = forms or CellForms(zone="UTC")
        self._now = now
        self._totals = totals
        self._seen: Counter[tuple[str, str]] = Counter()
        in_rows = columns.metric is not None or columns.every_row is not None
        if in_rows == bool(columns.metrics):
            raise InvalidInput.at(
                "", "name either the column of each metric, or the one of metrics"
            )
        for metric in (*columns.metrics, *filter(None, [columns.every_row])):
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

    def portions(
        self, size: int = PORTION, *, reject: Reject | None = None
    ) -> Iterator[ReportedPortion]:
        """Convert every row to its events, at most `size` of them at a time.

        Args:
            size: number of events.
            reject: takes each row that does not fit, which is then left out.

        Raises:
            InvalidInput: without `reject`, rows are invalid; at most twenty faults are named.
        """
        rows_at_once = max(1, size // max(1, len(self._columns.metrics)))
        self._seen.clear()
        for portion in self._table.portions(self._used, rows_at_once, reject=reject):
            faults: list[RejectedRow] = []
            events = [
                event
                for row in range(len(portion.lines))
                for event in self._row(portion, row, faults)
            ]
            if faults and reject is None:
                raise InvalidInput(Fault("", self._told(f)) for f in faults[:_MOST_FAULTS])
            if reject is not None:
                for fault in faults:
                    reject(fault)
            yield ReportedPortion(
                [line for line, _ in events], [r for _, r in events], len(portion.lines)
            )

    def _told(self, fault: RejectedRow) -> str:
        return f"{self._table.place(fault.line, fault.column)}: {fault.reason}"

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

    def _row(
        self, portion: Portion, row: int, faults: list[RejectedRow]
    ) -> list[tuple[int, Reward]]:
        """Return the events of a row, none of one that does not fit."""
        cells = {name: values[row] for name, values in portion.cells.items()}
        line = portion.lines[row]
        try:
            return [(line, reward) for reward in self._rewards(cells)]
        except CellError as error:
            cell = cells.get(error.column)
            shown = "" if cell is None else str(cell)
            faults.append(RejectedRow(line, error.column, shown, str(error)))
        return []

    def _rewards(self, cells: Mapping[str, Cell]) -> list[Reward]:
        columns = self._columns
        decision = self._decision_id(cells)
        occurred_at = self._moment(columns.occurred_at, cells)
        as_of = self._moment(columns.as_of, cells)
        out = []
        for metric, column, number, own_time in self._values(cells):
            value = self._check_value(metric, column, number)
            self._check_as_of(metric, column, as_of)
            times = own_time or occurred_at, as_of
            event = self._event_id(decision, metric, value, times, cells)
            happened, since = (self._time(time) for time in times)
            out.append(Reward(decision, event, metric, value, happened, as_of=since))
        return out

    def _decision_id(self, cells: Mapping[str, Cell]) -> str:
        column = self._columns.decision
        name, wrong = read_id(cells[column])
        try:
            return msgspec.convert(name, Id)
        except msgspec.ValidationError:
            raise CellError(column, wrong or "is no decision id") from None

    def _values(self, cells: Mapping[str, Cell]) -> Iterator[tuple[str, str, float, Moment | None]]:
        """Yield metric, column, value and, if the cell is one, time of each event of a row."""
        columns = self._columns
        if columns.every_row is not None or columns.metric is not None:
            yield self._named_event(cells)
            return
        for metric, column in columns.metrics.items():
            number, time = self._count(metric, column, cells[column])
            # Neither empty nor 0: there was an event. 0 may be the latest value of what was more.
            if number or (number is not None and self._takes_zero(metric)):
                yield metric, column, number, time

    def _takes_zero(self, metric: str) -> bool:
        is_total = self._totals and self._adds_up(metric) and self._rule.event(metric).low <= 0
        return is_total or self._rule.needs_as_of(metric)

    def _named_event(self, cells: Mapping[str, Cell]) -> tuple[str, str, float, None]:
        columns = self._columns
        if columns.metric is None:
            metric, named = columns.every_row or "", columns.decision
        else:
            cell, named = cells[columns.metric], columns.metric
            if not isinstance(cell, str):
                raise CellError(columns.metric, "names no metric")
            metric = event_name(cell, self._rule)
        if columns.value is None:
            return metric, named, 1.0, None
        number = self._number(columns.value, cells[columns.value])
        return metric, columns.value, 1.0 if number is None else number, None

    def _count(self, metric: str, column: str, cell: Cell) -> tuple[float | None, Moment | None]:
        """Read a cell of a metric: a number, yes or no, or the time at which it happened."""
        if isinstance(cell, str) and self._rule.event(metric).is_binary and not is_nothing(cell):
            text = cell.strip().casefold()
            if text not in _NO | _YES and isinstance(read_number(cell, self._forms.decimal), str):
                time = read_moment(cell, self._forms)
                if isinstance(time, str):
                    raise CellError(column, f"{cell[:40]!r} is no number, yes, no or time")
                self._refuse_future(column, cell, time)
                return 1.0, time
        return self._number(column, cell), None

    def _number(self, column: str, cell: Cell) -> float | None:
        if isinstance(cell, str):
            text = cell.strip().casefold()
            if text in _NO | _YES:
                return float(text in _YES)
        number = read_number(cell, self._forms.decimal)
        if isinstance(number, str):
            raise CellError(column, number)
        return None if number is None else float(number)

    def _moment(self, column: str | None, cells: Mapping[str, Cell]) -> Moment | None:
        cell = None if column is None else cells[column]
        if column is None or is_nothing(cell):
            return None
        moment = read_moment(cell, self._forms)
        if isinstance(moment, str):
            raise CellError(column, moment)
        self._refuse_future(column, cell, moment)
        return moment

    def _refuse_future(self, column: str, cell: Cell, moment: Moment) -> None:
        if self._now is None:
            return
        ahead = moment.at - self._now
        if ahead > (_DAY if moment.day_only else SKEW):
            raise CellError(column, f"{cell!r} is in the future: is the time zone right?")

    def _time(self, moment: Moment | None) -> datetime | None:
        """Return a time; the end of a day that is not over is now."""
        if moment is None:
            return None
        if moment.day_only and self._now is not None:
            return min(moment.at, self._now)
        return moment.at

    def _event_id(
        self,
        decision: str,
        metric: str,
        value: float,
        times: tuple[Moment | None, Moment | None],
        cells: Mapping[str, Cell],
    ) -> str:
        """Return the event's id; without a column, it is the same whenever the row is reported.

        Two rows that say the same of a metric that adds up are two events where they tell no time.
        """
        column = self._columns.event
        cell = None if column is None else cells[column]
        if column is None or cell is None:
            event_id = f"{metric}={value:g}" + "".join(
                f"{sign}{time.at.astimezone(UTC).isoformat()}"
                for sign, time in zip("@~", times, strict=True)
                if time is not None
            )
            if self._adds_up(metric) and times == (None, None):
                self._seen[decision, event_id] += 1
                count = self._seen[decision, event_id]
                return event_id if count == 1 else f"{event_id}#{count}"
            return event_id
        try:
            event_id = msgspec.convert(str(cell), Id)
        except msgspec.ValidationError:
            raise CellError(column, "is no event id") from None
        if event_id.startswith(RESERVED):
            raise CellError(column, RESERVED_TOLD)
        return event_id

    def _adds_up(self, metric: str) -> bool:
        return metric in self._rule.event_names and self._rule.event(metric).count == "sum"

    def _check_value(self, metric: str, column: str, value: float) -> float:
        """Check a value against its metric; a count of a metric that counts once is cut to 1."""
        if metric in self._rule.event_names and self._rule.event(metric).is_binary:
            value = min(value, 1.0)
        if wrong := refuse_value(self._rule, metric, value):
            raise CellError(column, wrong)
        return value

    def _check_as_of(self, metric: str, column: str, as_of: Moment | None) -> None:
        if as_of is None and self._rule.needs_as_of(metric):
            raise CellError(self._columns.as_of or column, f"{metric}: {_NEEDS_AS_OF}")

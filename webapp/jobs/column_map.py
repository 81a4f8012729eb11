"""Column mappings: what the columns of a kind of file mean, guessed, and remembered once chosen."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import Unavailable
from bandits.experiment import Experiment
from bandits.features import NumberFeature
from storage.private_files import open_private
from storage.stored_format import pack_json, unpack_json
from webapp.files.cell_values import (
    CellForms,
    DayPlace,
    DecimalSign,
    find_decimal,
    find_time_signs,
    is_zone,
)
from webapp.files.known_columns import EXPORTS, KnownColumns, KnownExport
from webapp.files.table_files import Cell, Table

_EXTRA = ("metric", "value", "event", "occurred_at", "as_of")
_SAMPLE_ROWS = 2000
_MOST_MAPPINGS = 200
_LONGEST_FILE = 5_000_000  # bytes
_NAME = "column-mappings.json"
_FORMAT = 1


class ColumnMapping(Struct, frozen=True):
    """Columns of a file as a form names them; an empty name stands for none.

    Attributes:
        id_column: the column that identifies a row.
        by_subject: it holds subjects; in a file of results, otherwise decision ids.
        features: the column of each feature.
        in_rows: in a file of results, each row is an event that names its metric.
        metrics: the column of each declared metric and listed event.
        extra: the columns `metric`, `value`, `event`, `occurred_at` and `as_of`.
        every_row: the event that each row is, where no column names it.
        zone: time zone of times that name none.
        day: place of the day in dates such as 3/4/2026.
        decimal: decimal sign.
        totals: numbers are totals so far, not new events.
        anew: decide again for subjects who have a decision.
        contents: write the payloads, besides the keys.
        own: write the columns of the list, too.
        one_each: decide once for a recipient who is in several rows.
        in_waves: the list is to be sent in waves.
    """

    id_column: str
    by_subject: bool
    features: Mapping[str, str]
    in_rows: bool
    metrics: Mapping[str, str]
    extra: Mapping[str, str]
    every_row: str = ""
    zone: str = ""
    day: str = ""
    decimal: str = ""
    totals: bool = False
    anew: bool = False
    contents: bool = True
    own: bool = True
    one_each: bool = True
    in_waves: bool = False

    @property
    def forms(self) -> CellForms:
        """How the cells are written, as far as it was said."""
        day: DayPlace | None = "first" if self.day == "first" else None
        day = "second" if self.day == "second" else day
        decimal: DecimalSign | None = "." if self.decimal == "." else None
        decimal = "," if self.decimal == "," else decimal
        return CellForms(self.zone if self.zone and is_zone(self.zone) else None, day, decimal)


def guess_mapping(kind: str, columns: Sequence[str], experiment: Experiment) -> ColumnMapping:
    """Guess the mapping of a file from the names of its columns."""
    usual = KnownColumns(columns)
    by_decision = kind == "results" and bool(usual.decision)
    extra = usual.extra()
    metrics = {name: usual.event(name) for name in experiment.reward.event_names}
    return ColumnMapping(
        id_column=usual.decision if by_decision else usual.subject,
        by_subject=not by_decision,
        features={f.name: usual.feature(f.name) for f in experiment.context},
        in_rows=bool(extra["metric"]) and not any(metrics.values()),
        metrics=metrics,
        extra=extra,
        totals=not (extra["occurred_at"] or extra["event"]),
    )


def apply_export(mapping: ColumnMapping, export: KnownExport, table: Table) -> ColumnMapping:
    """Return a mapping with what is known of a mailer's export."""
    usual = KnownColumns(table.columns)
    mapping = replace(mapping, id_column=usual.named(export.subject), by_subject=True)
    if export.kind == "recipients":
        return mapping
    times = {"occurred_at": usual.named(export.occurred_at)}
    in_rows = bool(export.metric or export.every_row)
    return replace(
        mapping,
        in_rows=in_rows,
        metrics={
            name: usual.named(export.metrics.get(name, "")) or column
            for name, column in mapping.metrics.items()
        },
        extra={**mapping.extra, "metric": usual.named(export.metric), **times},
        every_row=export.every_row,
        totals=not in_rows,
    )


def find_export(key: str, kind: str) -> KnownExport | None:
    """Return a known export by its key."""
    return next((e for e in EXPORTS if e.key == key and e.kind == kind), None)


class OpenQuestions(Struct, frozen=True):
    """What a file's cells leave open, by the columns of a mapping.

    Attributes:
        zone: the first column with times that name no zone, empty for none.
        day: the first column with dates that may be read in two ways.
    """

    zone: str = ""
    day: str = ""


def settle_forms(
    mapping: ColumnMapping, table: Table, experiment: Experiment, *, results: bool
) -> tuple[ColumnMapping, OpenQuestions]:
    """Complete a mapping by what the first rows show, and name what has to be asked.

    Raises:
        InvalidInput: the file cannot be read.
    """
    numbers, times = _number_columns(mapping, experiment, results=results), []
    if results:
        times = [mapping.extra["occurred_at"], mapping.extra["as_of"]]
        times += [] if mapping.in_rows else list(mapping.metrics.values())
    used = [c for c in dict.fromkeys([*numbers, *times]) if table.columns.count(c) == 1]
    cells = _sample(table, used)
    zone = day = ""
    for column in dict.fromkeys(times):
        signs = find_time_signs(cells.get(column, ()))
        if signs.needs_zone and not mapping.zone:
            zone = zone or column
        if signs.needs_day and not mapping.day:
            if signs.day:
                mapping = replace(mapping, day=signs.day)
            else:
                day = day or column
    if not mapping.decimal:
        decimals = {find_decimal(cells.get(column, ())) for column in numbers} - {None}
        if len(decimals) == 1:
            mapping = replace(mapping, decimal=decimals.pop() or "")
    return mapping, OpenQuestions(zone, day)


def _number_columns(mapping: ColumnMapping, experiment: Experiment, *, results: bool) -> list[str]:
    if not results:
        numbers = {f.name for f in experiment.context if isinstance(f, NumberFeature)}
        return [c for name, c in mapping.features.items() if c and name in numbers]
    if mapping.in_rows:
        return [c for c in [mapping.extra["value"]] if c]
    return [c for c in mapping.metrics.values() if c]


def _sample(table: Table, columns: Sequence[str]) -> Mapping[str, Sequence[Cell]]:
    if not columns:
        return {}
    rejected: list[object] = []
    portion = next(table.portions(columns, _SAMPLE_ROWS, reject=rejected.append), None)
    return {} if portion is None else portion.cells


class RememberedMappings(Struct, frozen=True):
    """Mappings by digest of a file's columns, the one used last at the end, and the last zone."""

    mappings: dict[str, ColumnMapping] = {}
    zone: str = ""


class SavedMappings:
    """Mappings that people chose, by the kind of file: the same columns, in any order."""

    def __init__(self, folder: Path) -> None:
        """Keep them in a file of this folder."""
        self._path = folder / _NAME

    def find(self, kind: str, columns: Sequence[str]) -> ColumnMapping | None:
        """Return the mapping that was chosen last for such a file, None without one."""
        return self._read().mappings.get(_digest(kind, columns))

    @property
    def zone(self) -> str:
        """Time zone that was chosen last, empty without one."""
        return self._read().zone

    def save(self, kind: str, columns: Sequence[str], mapping: ColumnMapping) -> None:
        """Remember a mapping; the oldest of many is forgotten."""
        remembered = self._read()
        digest = _digest(kind, columns)
        others = {k: m for k, m in remembered.mappings.items() if k != digest}
        kept = dict(islice(others.items(), max(0, len(others) - _MOST_MAPPINGS + 1), None))
        kept[digest] = replace(mapping, anew=False)
        content = msgspec.json.encode(
            RememberedMappings(kept, mapping.zone or remembered.zone)
        ).decode()
        unfinished = self._path.with_name(f".{_NAME}.{os.getpid()}")
        with open_private(unfinished, "w", encoding="utf-8") as file:
            file.write(pack_json(content, _FORMAT))
        unfinished.replace(self._path)

    def _read(self) -> RememberedMappings:
        with suppress(OSError, ValueError, Unavailable, msgspec.MsgspecError):
            with open_private(self._path, "r", encoding="utf-8") as file:
                text = file.read(_LONGEST_FILE)
            return msgspec.json.decode(unpack_json(text, _NAME, _FORMAT), type=RememberedMappings)
        return RememberedMappings()


def _digest(kind: str, columns: Sequence[str]) -> str:
    content = msgspec.json.encode([kind, sorted(columns)])
    return blake2b(content, digest_size=12).hexdigest()


def known_mapping(mapping: ColumnMapping, table: Table, experiment: Experiment) -> ColumnMapping:
    """Return a remembered mapping for another campaign: only columns and names that are there."""
    there = {*table.columns, ""}
    names = experiment.reward.event_names
    guessed = guess_mapping("results", table.columns, experiment)
    return replace(
        mapping,
        id_column=mapping.id_column if mapping.id_column in there else guessed.id_column,
        features={
            f.name: _there(mapping.features.get(f.name, guessed.features[f.name]), there)
            for f in experiment.context
        },
        metrics={n: _there(mapping.metrics.get(n, guessed.metrics[n]), there) for n in names},
        extra={n: _there(mapping.extra.get(n, ""), there) for n in _EXTRA},
        every_row=mapping.every_row if mapping.every_row in names else "",
    )


def _there(column: str, columns: set[str]) -> str:
    return column if column in columns else ""

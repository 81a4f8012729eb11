"""File of choices: a row for each recipient, a column for each field to merge into the email."""

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request
from webapp.files.cell_values import cell_name

_HEAD = ("subject_id", "decision_id")
_TAIL = ("propensity", "holdout", "fallback")


class ChoiceRows:
    """Rows of an experiment's decisions.

    The columns are `subject_id`, `decision_id`, for each slot `SLOT` (the variant's key) and
    `SLOT.FIELD` for every field that a variant's payload has, `propensity`, `holdout` and
    `fallback`. A payload's field is written as text, or as JSON if it is not text. Then come the
    columns of the list of recipients itself, if they are asked for. A column whose name is in use
    gets a ``_``; one of the list that is `subject_id` already does not come again.
    """

    def __init__(
        self,
        experiment: Experiment,
        own: Sequence[tuple[str, pa.DataType]] = (),
        subject: str | None = None,
    ) -> None:
        """Name the columns.

        Args:
            experiment: whose choices they are.
            own: name and type of each column of the list of recipients.
            subject: the one of them that has subject ids.
        """
        used = {*_HEAD, *_TAIL}
        self._slots: list[tuple[str, str]] = []  # column, slot
        self._fields: list[tuple[str, str, str]] = []  # column, slot, field of its payload
        columns: list[tuple[str, Any]] = [(name, pa.string()) for name in _HEAD]
        for slot in experiment.slots:
            name = _free_name(slot.key, used)
            self._slots.append((name, slot.key))
            columns.append((name, pa.string()))
            for field in dict.fromkeys(f for v in slot.variants for f in v.payload):
                name = _free_name(f"{slot.key}.{field}", used)
                self._fields.append((name, slot.key, field))
                columns.append((name, pa.string()))
        columns += zip(_TAIL, (pa.float64(), pa.bool_(), pa.bool_()), strict=True)
        self._own = [i for i, (name, _) in enumerate(own) if not name == subject == _HEAD[0]]
        columns += [(_free_name(own[i][0], used), own[i][1]) for i in self._own]
        self.schema = pa.schema(columns)
        self.contents = frozenset(name for name, _, _ in self._fields)

    def batch(
        self,
        requests: Sequence[Request],
        decisions: Sequence[Decision],
        own: Sequence[Sequence[Any]] = (),
    ) -> pa.RecordBatch:
        """Write decisions, the requests that they answer and the rows of these as rows."""
        cells: dict[str, list[Any]] = {
            "subject_id": [r.subject_id for r in requests],
            "decision_id": [d.decision_id for d in decisions],
            "propensity": [d.propensity for d in decisions],
            "holdout": [d.holdout for d in decisions],
            "fallback": [d.fallback for d in decisions],
        }
        for name, slot in self._slots:
            cells[name] = [d.slots[slot]["variant"] for d in decisions]
        for name, slot, field in self._fields:
            cells[name] = [_text(d.slots[slot].get("payload", {}).get(field)) for d in decisions]
        names = self.schema.names[len(cells) :]
        for name, place in zip(names, self._own, strict=True):
            cells[name] = [_own_cell(row[place], self.schema.field(name).type) for row in own]
        return pa.RecordBatch.from_pydict(cells, schema=self.schema)


def _own_cell(cell: Any, kind: pa.DataType) -> Any:
    """Return a cell of a list: as text in a column of text, whatever a spreadsheet keeps."""
    if cell is None or isinstance(cell, str) or not pa.types.is_string(kind):
        return cell
    return str(cell).lower() if isinstance(cell, bool) else cell_name(cell)


def _free_name(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    used.add(name)
    return name


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def check_output(path: Path) -> None:
    """Refuse an output file that could not be written, before any decision is made.

    Raises:
        InvalidInput: its format is unknown, its folder is missing, or it exists.
    """
    if path.suffix.lower() not in _WRITERS:
        raise InvalidInput.at("", f"cannot write {path}: give it one of {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise InvalidInput.at("", f"cannot write {path}: no folder {str(path.parent)!r}")
    if path.exists():
        raise InvalidInput.at("", f"{path} is there already: move it away, or name another file")


def write_table(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a table in the format of its file name's ending, whole or not at all.

    Raises:
        InvalidInput: the disk refuses it.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with _WRITERS[path.suffix.lower()](unfinished, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InvalidInput.at("", f"cannot write {path}: {error.strerror or error}") from None


def _csv(path: Path, schema: pa.Schema) -> AbstractContextManager[Any]:
    writer: AbstractContextManager[Any] = pa_csv.CSVWriter(path, schema)
    return writer


def _parquet(path: Path, schema: pa.Schema) -> AbstractContextManager[Any]:
    writer: AbstractContextManager[Any] = pq.ParquetWriter(path, schema)
    return writer


_WRITERS = {".parquet": _parquet, ".csv": _csv}

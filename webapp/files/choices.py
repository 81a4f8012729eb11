"""From decisions to the rows of a file: one a recipient, one column for each thing to merge in."""

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

_HEAD = ("subject_id", "decision_id")
_TAIL = ("propensity", "holdout", "fallback")


class ChoiceRows:
    """The columns that an experiment's decisions fill.

    They are `subject_id`, `decision_id`, for each slot `SLOT` (the variant's key) and `SLOT.FIELD`
    for every field that a variant's payload has, `propensity`, `holdout` and `fallback`. The field
    of a payload is text; what is no text is written as JSON. A name that is taken gets a ``_``.
    """

    def __init__(self, experiment: Experiment) -> None:
        """Name the columns."""
        used = {*_HEAD, *_TAIL}
        self._slots: list[tuple[str, str]] = []  # column, slot
        self._fields: list[tuple[str, str, str]] = []  # column, slot, field of its payload
        columns: list[tuple[str, Any]] = [(name, pa.string()) for name in _HEAD]
        for slot in experiment.slots:
            name = _unused(slot.key, used)
            self._slots.append((name, slot.key))
            columns.append((name, pa.string()))
            for field in dict.fromkeys(f for v in slot.variants for f in v.payload):
                name = _unused(f"{slot.key}.{field}", used)
                self._fields.append((name, slot.key, field))
                columns.append((name, pa.string()))
        columns += zip(_TAIL, (pa.float64(), pa.bool_(), pa.bool_()), strict=True)
        self.schema = pa.schema(columns)

    def batch(self, requests: Sequence[Request], decisions: Sequence[Decision]) -> pa.RecordBatch:
        """Write decisions as rows, beside the requests that they answer."""
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
        return pa.RecordBatch.from_pydict(cells, schema=self.schema)


def _unused(name: str, used: set[str]) -> str:
    while name in used:
        name += "_"
    used.add(name)
    return name


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def check_output(path: Path) -> None:
    """Refuse, before anybody is decided for, a file that could not be written after it.

    Raises:
        InvalidInput: it is of no known form, in no folder, or there already.
    """
    if path.suffix.lower() not in _WRITERS:
        raise InvalidInput.at("", f"cannot write {path}: give it one of {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise InvalidInput.at("", f"cannot write {path}: no folder {str(path.parent)!r}")
    if path.exists():
        raise InvalidInput.at("", f"{path} is there already: move it away, or name another file")


def write_table(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a table as the ending of its name says; it is there whole, or not at all.

    Raises:
        InvalidInput: the disk does not take it.
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

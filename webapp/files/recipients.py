"""File of recipients: its rows as requests, with their subjects, contexts and eligible sets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment
from bandits.features import Encoder, NumberFeature, Scalar
from bandits.schemas import Id, Request
from webapp.files.table_files import PORTION, Cell, Portion, Table

ELIGIBLE = "eligible."  # begins a column that restricts a slot
_BETWEEN_VARIANTS = "|"
_MOST_FAULTS = 20
_LONGEST_SUBJECT = 256
_LONGEST_RUN = 100


class RecipientColumns(Struct, frozen=True):
    """Columns of a file of recipients.

    Attributes:
        subject: the column of subject ids.
        context: by feature, its column, if that has another name; None for a feature without a
            column, which takes its default.
    """

    subject: str = "subject_id"
    context: Mapping[str, str | None] = {}


class RequestPortion(Struct, frozen=True, gc=False):
    """Requests of consecutive rows; `first` rows come before them."""

    first: int
    requests: Sequence[Request]


class RecipientFile:
    """File of recipients of one experiment."""

    def __init__(
        self, table: Table, experiment: Experiment, columns: RecipientColumns | None = None
    ) -> None:
        """Find the columns.

        A column `eligible.SLOT` restricts that slot, row by row, to the variants it lists, ``|``
        between them; an empty cell allows every variant.

        Raises:
            InvalidInput: a column is missing, or a named feature is not declared.
        """
        columns = columns or RecipientColumns()
        self._table = table
        self._experiment = experiment
        self._encoder = Encoder(experiment.context, strict=experiment.strict)
        self._subject = columns.subject
        declared = {f.name: f for f in experiment.context}
        if unknown := [name for name in columns.context if name not in declared]:
            names = ", ".join(declared) or "none"
            raise InvalidInput.at("", f"unknown feature {unknown[0]!r}; declared are {names}")
        by_feature = {name: columns.context.get(name, name) for name in declared}
        self._features = {name: column for name, column in by_feature.items() if column is not None}
        self._numbers = {n for n, f in declared.items() if isinstance(f, NumberFeature)}
        slots = {ELIGIBLE + slot.key: slot for slot in experiment.slots}
        self._slots = {name: slots[name] for name in table.columns if name in slots}
        if stray := [c for c in table.columns if c.startswith(ELIGIBLE) and c not in slots]:
            detail = f"column {stray[0]!r} names no slot; slots are "
            raise InvalidInput.at("", detail + ", ".join(s.key for s in experiment.slots))
        self._used = list(dict.fromkeys([self._subject, *self._features.values(), *self._slots]))
        for name in self._used:
            if name not in table.columns:
                raise self._missing(name)

    def _missing(self, column: str) -> InvalidInput:
        columns = ", ".join(self._table.columns)
        features = [feature for feature, name in self._features.items() if name == column]
        purpose = f" for the feature {features[0]!r}" if features else " that tells who each row is"
        return InvalidInput.at("", f"no column {column!r}{purpose}; columns are {columns}")

    def portions(self, run: str, size: int = PORTION) -> Iterator[RequestPortion]:
        """Convert every row to a request, `size` of them at a time.

        Args:
            run: begins every decision id, so that the same run decides once for each row.
            size: number of rows at a time.

        Raises:
            InvalidInput: rows are invalid; at most twenty faults are named.
        """
        for portion in self._table.portions(self._used, size):
            faults: list[str] = []
            requests = self._requests(run, portion, faults)
            faults += self._context_faults(portion, requests)
            if faults:
                raise InvalidInput(Fault("", detail) for detail in faults[:_MOST_FAULTS])
            yield RequestPortion(portion.first, requests)

    def count(self, progress: Callable[[int], object] = int) -> int:
        """Check every row; return their number.

        Args:
            progress: is called with the number of rows that were read.

        Raises:
            InvalidInput: rows are invalid, or there is none.
        """
        total = 0
        for portion in self.portions("check"):
            total += len(portion.requests)
            progress(len(portion.requests))
        if not total:
            raise InvalidInput.at("", "the file has a header and no rows")
        return total

    def _requests(self, run: str, portion: Portion, faults: list[str]) -> list[Request]:
        n = len(portion.lines)
        subjects = self._subjects(portion, faults)
        contexts: list[dict[str, Scalar]] = [{} for _ in range(n)]
        for feature, column in self._features.items():
            read = _number if feature in self._numbers else _category
            for context, cell in zip(contexts, portion.cells[column], strict=True):
                if cell is not None:
                    context[feature] = read(cell)
        eligible = self._eligible(portion, faults)
        return [
            Request(subject, context or None, f"{run}-{portion.first + i:010}", allowed or None)
            for i, (subject, context, allowed) in enumerate(
                zip(subjects, contexts, eligible, strict=True)
            )
        ]

    def _subjects(self, portion: Portion, faults: list[str]) -> list[str]:
        out = []
        for line, cell in zip(portion.lines, portion.cells[self._subject], strict=True):
            text = "" if cell is None else cell_name(cell)
            if not 1 <= len(text) <= _LONGEST_SUBJECT:
                wrong = f"is longer than {_LONGEST_SUBJECT} characters" if text else "is empty"
                faults.append(f"{self._table.place(line, self._subject)}: {wrong}")
            out.append(text)
        return out

    def _eligible(self, portion: Portion, faults: list[str]) -> list[dict[str, list[str]]]:
        out: list[dict[str, list[str]]] = [{} for _ in portion.lines]
        for column, slot in self._slots.items():
            variants = {variant.key for variant in slot.variants}
            cells = zip(portion.lines, portion.cells[column], out, strict=True)
            for line, cell, allowed in cells:
                if cell is None:
                    continue
                named = [part.strip() for part in cell_name(cell).split(_BETWEEN_VARIANTS)]
                if unknown := [v for v in named if v not in variants]:
                    names = ", ".join(sorted(variants))
                    wrong = f"unknown variant {unknown[0]!r}; known are {names}"
                    faults.append(f"{self._table.place(line, column)}: {wrong}")
                allowed[slot.key] = named
        return out

    def _context_faults(self, portion: Portion, requests: Sequence[Request]) -> list[str]:
        """Return the faults that the server would find in contexts, with their places here."""
        try:
            self._encoder.encode([request.context for request in requests])
        except InvalidInput as error:
            return [self._located(portion, fault) for fault in error.faults]
        return []

    def _located(self, portion: Portion, fault: Fault) -> str:
        _, row, feature = fault.pointer.split("/")
        column = self._features.get(feature, feature)
        return f"{self._table.place(portion.lines[int(row)], column)}: {fault.detail}"


def run_digest(path: Path, experiment: str, columns: RecipientColumns) -> str:
    """Return the default name of a run: a digest of its file, experiment and columns."""
    digest = blake2b(msgspec.json.encode([experiment, columns], order="sorted"), digest_size=8)
    with path.open("rb") as file:
        _update_digest(digest, file)
    return digest.hexdigest()


def _update_digest(digest: blake2b, file: BinaryIO) -> None:
    while block := file.read(1 << 20):
        digest.update(block)


def check_run(run: str) -> str:
    """Check the name of a run.

    Raises:
        InvalidInput: a decision id could not begin with it.
    """
    try:
        msgspec.convert(run, Id)
    except msgspec.ValidationError:
        run = ""
    if not 1 <= len(run) <= _LONGEST_RUN:
        detail = f"a run is 1 to {_LONGEST_RUN} printable ASCII characters without spaces"
        raise InvalidInput.at("", detail)
    return run


def _number(cell: Cell) -> Scalar:
    """Read a number; any other text stays text, which the encoder refuses with its place."""
    if isinstance(cell, str):
        with suppress(ValueError):
            return float(cell)
    return cell


def _category(cell: Cell) -> Scalar:
    return cell


def cell_name(cell: Cell) -> str:
    """Return a cell as a name: a whole number without a point."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)

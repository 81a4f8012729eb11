"""From the rows of a file to requests: who each row is, and what is known of them."""

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
from webapp.files.tables import PORTION, Cell, Portion, Table

ELIGIBLE = "eligible."  # begins a column that restricts a slot
_BETWEEN_VARIANTS = "|"
_MOST_FAULTS = 20
_LONGEST_SUBJECT = 256
_LONGEST_RUN = 100


class RecipientColumns(Struct, frozen=True):
    """Which column of the file means what.

    Attributes:
        subject: who the row is.
        context: by feature, its column, where that is not called like the feature; None where
            nobody's value is known, so that the feature's default is taken.
    """

    subject: str = "subject_id"
    context: Mapping[str, str | None] = {}


class RequestPortion(Struct, frozen=True, gc=False):
    """Requests for rows that follow each other; `first` rows stand before them."""

    first: int
    requests: Sequence[Request]


class RecipientFile:
    """A file of recipients of one experiment."""

    def __init__(
        self, table: Table, experiment: Experiment, columns: RecipientColumns | None = None
    ) -> None:
        """Find the columns.

        A column `eligible.SLOT` restricts that slot, row by row, to the variants it lists, ``|``
        between them; where it is empty, every variant may be chosen.

        Raises:
            InvalidInput: a column is missing, or a feature is named that was not declared.
        """
        columns = columns or RecipientColumns()
        self._table = table
        self._experiment = experiment
        self._encoder = Encoder(experiment.context, strict=experiment.strict)
        self._subject = columns.subject
        declared = {f.name: f for f in experiment.context}
        if unknown := [name for name in columns.context if name not in declared]:
            known = ", ".join(declared) or "none"
            raise InvalidInput.at("", f"unknown feature {unknown[0]!r}; declared are {known}")
        wanted = {name: columns.context.get(name, name) for name in declared}
        self._features = {name: column for name, column in wanted.items() if column is not None}
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
        there = ", ".join(self._table.columns)
        of = [feature for feature, name in self._features.items() if name == column]
        what = f" for the feature {of[0]!r}" if of else " that tells who each row is"
        return InvalidInput.at("", f"no column {column!r}{what}; columns are {there}")

    def portions(self, run: str, size: int = PORTION) -> Iterator[RequestPortion]:
        """Turn every row into a request, `size` of them at a time.

        Args:
            run: begins every decision id, so that the same run decides nobody twice.
            size: how many at a time.

        Raises:
            InvalidInput: rows do not fit; at most twenty places are named.
        """
        for portion in self._table.portions(self._used, size):
            faults: list[str] = []
            asked = self._requests(run, portion, faults)
            faults += self._unfit(portion, asked)
            if faults:
                raise InvalidInput(Fault("", detail) for detail in faults[:_MOST_FAULTS])
            yield RequestPortion(portion.first, asked)

    def count(self, progress: Callable[[int], object] = int) -> int:
        """Read every row to see whether it fits; return how many there are.

        Args:
            progress: is told how many rows were read.

        Raises:
            InvalidInput: some do not fit, or there is none.
        """
        total = 0
        for asked in self.portions("check"):
            total += len(asked.requests)
            progress(len(asked.requests))
        if not total:
            raise InvalidInput.at("", "the file has a header and no rows")
        return total

    def _requests(self, run: str, portion: Portion, faults: list[str]) -> list[Request]:
        n = len(portion.lines)
        subjects = self._texts(portion, faults)
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

    def _texts(self, portion: Portion, faults: list[str]) -> list[str]:
        out = []
        for line, cell in zip(portion.lines, portion.cells[self._subject], strict=True):
            text = "" if cell is None else name_of(cell)
            if not 1 <= len(text) <= _LONGEST_SUBJECT:
                wrong = f"is longer than {_LONGEST_SUBJECT} characters" if text else "is empty"
                faults.append(f"{self._table.place(line, self._subject)}: {wrong}")
            out.append(text)
        return out

    def _eligible(self, portion: Portion, faults: list[str]) -> list[dict[str, list[str]]]:
        out: list[dict[str, list[str]]] = [{} for _ in portion.lines]
        for column, slot in self._slots.items():
            known = {variant.key for variant in slot.variants}
            cells = zip(portion.lines, portion.cells[column], out, strict=True)
            for line, cell, allowed in cells:
                if cell is None:
                    continue
                named = [part.strip() for part in name_of(cell).split(_BETWEEN_VARIANTS)]
                if unknown := [v for v in named if v not in known]:
                    wrong = f"unknown variant {unknown[0]!r}; known are {', '.join(sorted(known))}"
                    faults.append(f"{self._table.place(line, column)}: {wrong}")
                allowed[slot.key] = named
        return out

    def _unfit(self, portion: Portion, asked: Sequence[Request]) -> list[str]:
        """Tell which contexts the server would refuse, in the words of this file."""
        try:
            self._encoder.encode([request.context for request in asked])
        except InvalidInput as error:
            return [self._told(portion, fault.pointer, fault.detail) for fault in error.faults]
        return []

    def _told(self, portion: Portion, pointer: str, detail: str) -> str:
        _, row, feature = pointer.split("/")
        column = self._features.get(feature, feature)
        return f"{self._table.place(portion.lines[int(row)], column)}: {detail}"


def run_of(path: Path, experiment: str, columns: RecipientColumns) -> str:
    """Name the run that a file makes: the same file, experiment and columns, the same run."""
    digest = blake2b(msgspec.json.encode([experiment, columns], order="sorted"), digest_size=8)
    with path.open("rb") as file:
        _digest(file, digest)
    return digest.hexdigest()


def _digest(file: BinaryIO, digest: blake2b) -> None:
    while block := file.read(1 << 20):
        digest.update(block)


def check_run(run: str) -> str:
    """Check a name that a person gave to a run.

    Raises:
        InvalidInput: decision ids could not begin with it.
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
    """Read a number; what is none stays text, which the encoder refuses with its place."""
    if isinstance(cell, str):
        with suppress(ValueError):
            return float(cell)
    return cell


def _category(cell: Cell) -> Scalar:
    return cell


def name_of(cell: Cell) -> str:
    """Write a cell as a name: a whole number without a point, as a person would."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)

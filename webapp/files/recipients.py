"""File of recipients: its rows as requests, with their subjects, contexts and eligible sets."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment
from bandits.features import CategoryFeature, Encoder, NumberFeature, Scalar
from bandits.schemas import Id, Request
from webapp.files.cell_values import CategoryCells, CellForms, cell_name, read_id, read_number
from webapp.files.table_files import PORTION, Cell, Portion, Reject, RejectedRow, Table, TableFormat

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
    """Requests of consecutive rows.

    Attributes:
        first: number of rows before them.
        requests: of the rows that fit.
        n_rows: number of rows, with those that were left out.
        ordinals: for each request, the number of rows before its own.
        lines: for each request, its line of the file.
        own: for each request, the cells of its row, where they were asked for.
    """

    first: int
    requests: Sequence[Request]
    n_rows: int
    ordinals: Sequence[int]
    lines: Sequence[int]
    own: Sequence[Sequence[Cell]] = ()

    def take(self, rows: Sequence[int]) -> "RequestPortion":
        """Return the portion with the requests at these places alone."""
        return replace(
            self,
            requests=[self.requests[i] for i in rows],
            ordinals=[self.ordinals[i] for i in rows],
            lines=[self.lines[i] for i in rows],
            own=[self.own[i] for i in rows] if self.own else (),
        )


class RecipientFile:
    """File of recipients of one experiment."""

    def __init__(
        self,
        table: Table,
        experiment: Experiment,
        columns: RecipientColumns | None = None,
        forms: CellForms | None = None,
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
        self._decimal = (forms or CellForms()).decimal
        self._numbers = {n for n, f in declared.items() if isinstance(f, NumberFeature)}
        self._categories = {
            n: CategoryCells(f.values)
            for n, f in declared.items()
            if isinstance(f, CategoryFeature)
        }
        slots = {ELIGIBLE + slot.key: slot for slot in experiment.slots}
        self._slots = {name: slots[name] for name in table.columns if name in slots}
        if stray := [c for c in table.columns if c.startswith(ELIGIBLE) and c not in slots]:
            detail = f"column {stray[0]!r} names no slot; slots are "
            raise InvalidInput.at("", detail + ", ".join(s.key for s in experiment.slots))
        self._used = list(dict.fromkeys([self._subject, *self._features.values(), *self._slots]))
        for name in self._used:
            if name not in table.columns:
                raise self._missing(name)

    @property
    def feature_columns(self) -> Mapping[str, str]:
        """Column of each feature that has one."""
        return self._features

    def _missing(self, column: str) -> InvalidInput:
        columns = ", ".join(self._table.columns)
        features = [feature for feature, name in self._features.items() if name == column]
        purpose = f" for the feature {features[0]!r}" if features else " that tells who each row is"
        return InvalidInput.at("", f"no column {column!r}{purpose}; columns are {columns}")

    def portions(
        self, run: str, size: int = PORTION, *, reject: Reject | None = None, own: bool = False
    ) -> Iterator[RequestPortion]:
        """Convert every row to a request, `size` of them at a time.

        Args:
            run: begins every decision id, so that the same run decides once for each row.
            size: number of rows at a time.
            reject: takes each row that does not fit, which is then left out.
            own: keep the cells of all columns of the file.

        Raises:
            InvalidInput: without `reject`, rows are invalid; at most twenty faults are named.
        """
        for portion in self._table.portions(self._used, size, reject=reject, whole=own):
            faults: list[RejectedRow] = []
            requests = self._requests(run, portion, faults)
            faults += self._context_faults(portion, requests)
            if faults and reject is None:
                raise InvalidInput(Fault("", self._told(f)) for f in faults[:_MOST_FAULTS])
            if reject is not None:
                for fault in faults:
                    reject(fault)
            wrong = {fault.line for fault in faults}
            rows = [i for i, line in enumerate(portion.lines) if line not in wrong]
            own_cells = list(zip(*portion.whole, strict=True)) if own else []
            yield RequestPortion(
                portion.first,
                [requests[i] for i in rows],
                len(portion.lines),
                [portion.first + i for i in rows],
                [portion.lines[i] for i in rows],
                [own_cells[i] for i in rows] if own else (),
            )

    def _told(self, fault: RejectedRow) -> str:
        return f"{self._table.place(fault.line, fault.column)}: {fault.reason}"

    def _requests(self, run: str, portion: Portion, faults: list[RejectedRow]) -> list[Request]:
        n = len(portion.lines)
        subjects = self._subjects(portion, faults)
        contexts: list[dict[str, Scalar]] = [{} for _ in range(n)]
        for feature, column in self._features.items():
            cells = zip(portion.lines, contexts, portion.cells[column], strict=True)
            if feature in self._numbers:
                for line, context, cell in cells:
                    number = read_number(cell, self._decimal)
                    if isinstance(number, str):
                        faults.append(RejectedRow(line, column, str(cell), number))
                    elif number is not None:
                        context[feature] = number
            else:
                read = self._categories[feature].read
                for _, context, cell in cells:
                    if (value := read(cell)) is not None:
                        context[feature] = value
        eligible = self._eligible(portion, faults)
        return [
            Request(subject, context or None, f"{run}-{portion.first + i:010}", allowed or None)
            for i, (subject, context, allowed) in enumerate(
                zip(subjects, contexts, eligible, strict=True)
            )
        ]

    def _subjects(self, portion: Portion, faults: list[RejectedRow]) -> list[str]:
        out = []
        for line, cell in zip(portion.lines, portion.cells[self._subject], strict=True):
            text, wrong = read_id(cell)
            if len(text) > _LONGEST_SUBJECT:
                wrong = f"is longer than {_LONGEST_SUBJECT} characters"
            if wrong:
                shown = "" if cell is None else str(cell)
                faults.append(RejectedRow(line, self._subject, shown, wrong))
            out.append(text)
        return out

    def _eligible(self, portion: Portion, faults: list[RejectedRow]) -> list[dict[str, list[str]]]:
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
                    faults.append(RejectedRow(line, column, str(cell), wrong))
                allowed[slot.key] = named
        return out

    def _context_faults(
        self, portion: Portion, requests: Sequence[Request]
    ) -> Iterator[RejectedRow]:
        """Yield the faults that the server would find in contexts, with their places here."""
        contexts = [request.context for request in requests]
        try:
            self._encoder.encode(contexts)
        except InvalidInput:
            for row, context in enumerate(contexts):
                yield from self._faults_of(portion, row, context)

    def _faults_of(
        self, portion: Portion, row: int, context: Mapping[str, Scalar] | None
    ) -> Iterator[RejectedRow]:
        try:
            self._encoder.encode([context])
        except InvalidInput as error:
            for fault in error.faults:
                feature = fault.pointer.split("/")[2]
                column = self._features.get(feature, feature)
                cell = portion.cells[column][row] if column in portion.cells else None
                shown = "" if cell is None else str(cell)
                yield RejectedRow(portion.lines[row], column, shown, fault.detail)


def run_digest(
    path: Path,
    experiment: str,
    columns: RecipientColumns,
    forms: CellForms | None = None,
    table_format: TableFormat | None = None,
) -> str:
    """Return the default name of a run: a digest of its file, experiment and what they mean."""
    # What is as it is by default stays out, so that earlier runs keep their names.
    meaning: list[Any] = [experiment, columns]
    if forms is not None and forms.decimal == ",":
        meaning.append(forms.decimal)
    if table_format is not None and table_format != TableFormat():
        meaning.append(table_format)
    digest = blake2b(msgspec.json.encode(meaning, order="sorted"), digest_size=8)
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

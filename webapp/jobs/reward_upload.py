"""Reporting every event of an uploaded export, and writing down what had no match, and why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from secrets import token_hex

from msgspec.structs import replace

from bandits.engine import Engine
from bandits.errors import InvalidInput
from webapp.files.csv_safe import csv_lines
from webapp.files.recipients import name_of
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.tables import PORTION, Portion, Table, open_table
from webapp.jobs.uploads import Upload, Uploads

Newest = Callable[[Sequence[str]], Mapping[str, str]]  # from subjects to their decisions

FOUND = "the decision that was found"
_HEAD = ("line", "recipient or decision", "why it was not counted")
_UNKNOWN = "no email was chosen under this decision id, or none that is still kept"
_NOBODY = "no email of this campaign was chosen for this recipient"
_EARLY = "it happened before its email was chosen or sent"


class SubjectMatcher:
    """A table with a column more: the newest decision of each row's recipient."""

    def __init__(self, table: Table, subject: str, newest: Newest) -> None:
        """Look up the recipients in the column `subject`."""
        if subject not in table.columns:
            raise InvalidInput.at(
                "", f"no column {subject!r}; columns are {', '.join(table.columns)}"
            )
        self.columns: Sequence[str] = [*table.columns, FOUND]
        self._table = table
        self._subject = subject
        self._newest = newest
        self.nobody = f"nobody-{token_hex(8)}-"  # begins an id that no decision has

    def place(self, line: int, column: str) -> str:
        """Say where a cell is."""
        return self._table.place(line, self._subject if column == FOUND else column)

    def portions(self, columns: Sequence[str], size: int = PORTION) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        wanted = [c for c in dict.fromkeys([self._subject, *columns]) if c != FOUND]
        for portion in self._table.portions(wanted, size):
            names = ["" if cell is None else name_of(cell) for cell in portion.cells[self._subject]]
            newest = self._newest([name for name in dict.fromkeys(names) if name])
            found = [
                newest.get(name, f"{self.nobody}{line}")
                for line, name in zip(portion.lines, names, strict=True)
            ]
            cells: Mapping[str, Sequence[str | float | bool | None]] = {
                **portion.cells,
                FOUND: found,
            }
            yield Portion(portion.first, portion.lines, cells)


def report(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Report the events that are left; the same ones again count once.

    Raises:
        InvalidInput: rows do not fit; nothing was reported.
        IdReused: an event came before with another value.
        Unavailable: the database does not answer; to go on later counts nothing twice.
    """
    experiment = engine.store.record(upload.experiment).configuration.experiment
    table = open_table(uploads.file(upload), upload.name)
    columns = upload.events or EventColumns()
    nobody = ""
    if upload.subject is not None:
        newest = partial(engine.store.newest_decisions, upload.experiment)
        found = SubjectMatcher(table, upload.subject, newest)
        table, nobody = found, found.nobody
        columns = replace(columns, decision=FOUND)
    export = RewardExport(table, experiment, columns)
    if not upload.total:
        upload = replace(upload, total=sum(reported.rows for reported in export.portions()))
        uploads.save(upload)
    first = 0
    with uploads.answer(upload).open("ab") as answer:
        answer.truncate(upload.written)
        if not upload.written:
            answer.write("".join(csv_lines([_HEAD])).encode())
        for reported in export.portions():
            first, before = first + reported.rows, first
            if before < upload.done:
                continue
            receipt = engine.reward(reported.rewards)
            why = dict.fromkeys(receipt.unknown, _UNKNOWN) | dict.fromkeys(receipt.early, _EARLY)
            missed = [
                (line, r.decision_id, why[r.decision_id])
                for line, r in zip(reported.lines, reported.rewards, strict=True)
                if r.decision_id in why
            ]
            answer.write("".join(csv_lines(_told(missed, nobody))).encode())
            answer.flush()
            upload = replace(
                upload,
                done=first,
                written=answer.tell(),
                accepted=upload.accepted + receipt.accepted,
                repeated=upload.repeated + receipt.repeated,
                late=upload.late + receipt.late,
                unmatched=upload.unmatched + len(receipt.unknown) + len(receipt.early),
            )
            uploads.save(upload)


def _told(
    missed: Sequence[tuple[int, str, str]], nobody: str
) -> Iterator[tuple[int | str, str, str]]:
    for line, decision, reason in missed:
        if nobody and decision.startswith(nobody):
            yield line, "", _NOBODY
        else:
            yield line, decision, reason

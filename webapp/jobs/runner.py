"""Jobs on uploaded files: choices for recipients and rewards of an export, run in a thread."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from secrets import token_hex
from threading import Thread
from typing import IO

from msgspec.structs import replace

from bandits.engine import Engine
from bandits.errors import BanditsError, InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request
from webapp.files.choices import ChoiceRows
from webapp.files.recipients import RecipientColumns, RecipientFile, name_of, run_of
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.tables import PORTION, Portion, Table, csv_lines, open_table
from webapp.jobs.uploads import Kind, Stage, Upload, Uploads

RECIPIENTS_A_TRANSACTION = 1000  # recipients in a transaction: others wait for it only shortly


def choose(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Decide for the rows that are left; the same rows again get the same answers.

    Raises:
        InvalidInput: rows do not fit; nobody was decided for.
        WrongState: the experiment does not choose now.
        Unavailable: the database does not answer; to go on later does nothing twice.
    """
    path = uploads.file(upload)
    configuration = engine.store.experiments.record(upload.experiment).configuration
    columns = upload.columns or RecipientColumns()
    recipients = RecipientFile(open_table(path, upload.name), configuration.experiment, columns)
    if upload.version != configuration.version:  # what was written has other columns
        upload = replace(upload, version=configuration.version, done=0, written=0)
        upload = replace(upload, total=recipients.count())
        uploads.save(upload)
    run = run_of(path, upload.experiment, columns)
    portions = recipients.portions(
        f"{run}-{upload.id}" if upload.anew else run, RECIPIENTS_A_TRANSACTION
    )
    rows = _Rows(configuration.experiment, contents=upload.contents)
    with uploads.answer(upload).open("ab") as answer:
        answer.truncate(upload.written)  # a portion that was cut off is asked for again
        if not upload.written:
            answer.write(rows.head())
        for asked in portions:
            if asked.first < upload.done:
                continue
            decisions = engine.choose(upload.experiment, asked.requests)
            answer.write(rows.lines(asked.requests, decisions))
            answer.flush()
            done = asked.first + len(asked.requests)
            upload = replace(upload, done=done, written=answer.tell())
            uploads.save(upload)


class _Rows:
    """The lines of a file of choices."""

    def __init__(self, experiment: Experiment, *, contents: bool) -> None:
        self._choices = ChoiceRows(experiment)
        named = {s.key for s in experiment.slots}
        columns: list[str] = self._choices.schema.names
        self._kept = [
            c for c in columns if contents or c.partition(".")[0] not in named or c in named
        ]

    def head(self) -> bytes:
        return "".join(csv_lines([self._kept])).encode()

    def lines(self, requests: Sequence[Request], decisions: Sequence[Decision]) -> bytes:
        batch = self._choices.batch(requests, decisions)
        columns = [batch.column(name).to_pylist() for name in self._kept]
        return "".join(csv_lines(zip(*columns, strict=True))).encode()


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
    experiment = engine.store.experiments.record(upload.experiment).configuration.experiment
    table = open_table(uploads.file(upload), upload.name)
    columns = upload.events or EventColumns()
    nobody = ""
    if upload.subject is not None:
        newest = partial(engine.store.log.newest_decisions, upload.experiment)
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


Work = Callable[[Uploads, Upload, Engine], None]
_WORK: Mapping[Kind, Work] = {"recipients": choose, "results": report}
_log = logging.getLogger(__name__)


def start_job(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Work through what is left of an upload in a thread; one that is worked on is left alone."""
    held = uploads.hold(upload)
    if held is not None:
        upload = replace(upload, stage="working", faults=())
        uploads.save(upload)
        work = (held, uploads, upload, engine)
        Thread(target=_work, args=work, name="upload", daemon=True).start()


def _work(held: IO[bytes], uploads: Uploads, upload: Upload, engine: Engine) -> None:
    with held:
        stage, faults = _through(uploads, upload, engine)
        newest = uploads.find(upload.experiment, upload.id)
        uploads.save(replace(newest, stage=stage, faults=faults))


def _through(uploads: Uploads, upload: Upload, engine: Engine) -> tuple[Stage, tuple[str, ...]]:
    try:
        _WORK[upload.kind](uploads, upload, engine)
    except InvalidInput as error:
        return "refused", tuple(fault.detail for fault in error.faults)
    except (BanditsError, OSError) as error:
        return "broken", (str(error),)
    except Exception:  # noqa: BLE001 - whoever waits is told, whatever it was
        _log.exception("an upload of %s failed", upload.experiment)
        return "broken", ("something of ours failed; the server's log tells what",)
    return "done", ()

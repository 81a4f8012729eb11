"""Job runner: choices for an uploaded file of recipients, rewards of an uploaded export."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from secrets import token_hex
from threading import Thread
from typing import IO

from msgspec.structs import replace

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.errors import BanditsError, InvalidInput
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request
from webapp.files.choices import ChoiceRows
from webapp.files.recipients import RecipientColumns, RecipientFile, cell_name, run_digest
from webapp.files.reward_export import EventColumns, RewardExport, read_moment
from webapp.files.table_files import PORTION, Portion, Table, csv_lines, open_table
from webapp.jobs.uploads import Kind, Stage, Upload, Uploads

RECIPIENTS_A_TRANSACTION = 1000  # few, so that others wait for a transaction only shortly


def choose(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Decide for the remaining rows; the same rows again get the same decisions.

    Raises:
        InvalidInput: rows are invalid; no decision was made.
        WrongState: the experiment does not choose now.
        Unavailable: the database does not answer; to resume later records nothing twice.
    """
    path = uploads.file(upload)
    configuration = engine.store.experiments.record(upload.experiment).configuration
    columns = upload.columns or RecipientColumns()
    recipients = RecipientFile(open_table(path, upload.name), configuration.experiment, columns)
    if upload.version != configuration.version:  # rows written before have other columns
        upload = replace(upload, version=configuration.version, done=0, written=0)
        upload = replace(upload, total=recipients.count())
        uploads.save(upload)
    run = run_digest(path, upload.experiment, columns)
    portions = recipients.portions(
        f"{run}-{upload.id}" if upload.anew else run, RECIPIENTS_A_TRANSACTION
    )
    lines = _ChoiceLines(configuration.experiment, contents=upload.contents)
    actor = actor_of("person", upload.by)
    with uploads.open_answer(upload) as answer:
        answer.truncate(upload.written)  # an incomplete portion is decided for again
        if not upload.written:
            answer.write(lines.header())
        for portion in portions:
            if portion.first < upload.done:
                continue
            decisions = engine.choose(upload.experiment, portion.requests, actor=actor)
            answer.write(lines.rows(portion.requests, decisions))
            answer.flush()
            done = portion.first + len(portion.requests)
            upload = replace(upload, done=done, written=answer.tell())
            uploads.save(upload)


class _ChoiceLines:
    """Lines of a file of choices; without `contents`, payloads are left out."""

    def __init__(self, experiment: Experiment, *, contents: bool) -> None:
        self._choices = ChoiceRows(experiment)
        slots = {s.key for s in experiment.slots}
        columns: list[str] = self._choices.schema.names
        self._columns = [
            c for c in columns if contents or c.partition(".")[0] not in slots or c in slots
        ]

    def header(self) -> bytes:
        return "".join(csv_lines([self._columns])).encode()

    def rows(self, requests: Sequence[Request], decisions: Sequence[Decision]) -> bytes:
        batch = self._choices.batch(requests, decisions)
        columns = [batch.column(name).to_pylist() for name in self._columns]
        return "".join(csv_lines(zip(*columns, strict=True))).encode()


# From subjects, and times of events as far as known, to the decision of each, None without any.
MatchSubjects = Callable[[Sequence[str], Sequence[float | None]], Sequence[str | None]]

FOUND = "the decision that was found"
_HEAD = ("line", "recipient or decision", "why it was not counted")
_UNKNOWN = "no email was chosen under this decision id, or none that is still kept"
_NOBODY = "this campaign has no email to this recipient that it can count for"
_EARLY = "it happened before its email was chosen or sent"


class SubjectMatcher:
    """Table with one more column: the decision of each row's recipient that the row is of."""

    def __init__(
        self, table: Table, subject: str, match: MatchSubjects, time: str | None = None
    ) -> None:
        """Look up the recipients of the column `subject` at the times of the column `time`.

        Raises:
            InvalidInput: there is no column of subjects.
        """
        if subject not in table.columns:
            raise InvalidInput.at(
                "", f"no column {subject!r}; columns are {', '.join(table.columns)}"
            )
        self.columns: Sequence[str] = [*table.columns, FOUND]
        self._table = table
        self._subject = subject
        self._match = match
        self._time = time if time in table.columns else None
        self.missing_prefix = f"nobody-{token_hex(8)}-"  # begins the ids of rows without a decision

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return self._table.place(line, self._subject if column == FOUND else column)

    def portions(self, columns: Sequence[str], size: int = PORTION) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        own = [self._subject] if self._time is None else [self._subject, self._time]
        table_columns = [c for c in dict.fromkeys([*own, *columns]) if c != FOUND]
        for portion in self._table.portions(table_columns, size):
            names = [
                "" if cell is None else cell_name(cell) for cell in portion.cells[self._subject]
            ]
            matches = self._match(names, self._times(portion))
            decisions = [
                match if name and match else f"{self.missing_prefix}{line}"
                for line, name, match in zip(portion.lines, names, matches, strict=True)
            ]
            cells: Mapping[str, Sequence[str | float | bool | None]] = {
                **portion.cells,
                FOUND: decisions,
            }
            yield Portion(portion.first, portion.lines, cells)

    def _times(self, portion: Portion) -> list[float | None]:
        """Read the times of rows; None also where one is unreadable, which is refused later."""
        if self._time is None:
            return [None] * len(portion.lines)
        moments = [None if c is None else read_moment(c) for c in portion.cells[self._time]]
        return [None if moment is None else moment.timestamp() for moment in moments]


def report(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Report the remaining events; an event that is reported again counts once.

    Raises:
        InvalidInput: rows are invalid; nothing was reported.
        IdReused: an event came before with another value.
        Unavailable: the database does not answer; to resume later counts nothing twice.
    """
    experiment = engine.store.experiments.record(upload.experiment).configuration.experiment
    table = open_table(uploads.file(upload), upload.name)
    columns = upload.events or EventColumns()
    missing_prefix = ""
    if upload.subject is not None:
        match = partial(engine.match_subjects, upload.experiment)
        matcher = SubjectMatcher(table, upload.subject, match, columns.occurred_at)
        table, missing_prefix = matcher, matcher.missing_prefix
        columns = replace(columns, decision=FOUND)
    export = RewardExport(table, experiment, columns)
    if not upload.total:
        upload = replace(upload, total=sum(reported.rows for reported in export.portions()))
        uploads.save(upload)
    first = 0
    actor = actor_of("person", upload.by)
    with uploads.open_answer(upload) as answer:
        answer.truncate(upload.written)
        if not upload.written:
            answer.write("".join(csv_lines([_HEAD])).encode())
        for reported in export.portions():
            first, before = first + reported.rows, first
            if before < upload.done:
                continue
            receipt = engine.reward(reported.rewards, actor=actor)
            reasons = dict.fromkeys(receipt.unknown, _UNKNOWN) | dict.fromkeys(
                receipt.early, _EARLY
            )
            unmatched = [
                (line, r.decision_id, reasons[r.decision_id])
                for line, r in zip(reported.lines, reported.rewards, strict=True)
                if r.decision_id in reasons
            ]
            answer.write("".join(csv_lines(_unmatched_rows(unmatched, missing_prefix))).encode())
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


def _unmatched_rows(
    unmatched: Sequence[tuple[int, str, str]], missing_prefix: str
) -> Iterator[tuple[int | str, str, str]]:
    """Yield unmatched rows, without the made-up ids of rows whose recipient has no decision."""
    for line, decision, reason in unmatched:
        if missing_prefix and decision.startswith(missing_prefix):
            yield line, "", _NOBODY
        else:
            yield line, decision, reason


Job = Callable[[Uploads, Upload, Engine], None]
_JOBS: Mapping[Kind, Job] = {"recipients": choose, "results": report}
_log = logging.getLogger(__name__)


def start_job(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Process the rest of an upload in a thread, unless another thread works on it."""
    lock = uploads.hold(upload)
    if lock is not None:
        upload = replace(upload, stage="working", faults=())
        uploads.save(upload)
        Thread(
            target=_run, args=(lock, uploads, upload, engine), name="upload", daemon=True
        ).start()


def _run(lock: IO[bytes], uploads: Uploads, upload: Upload, engine: Engine) -> None:
    with lock:
        stage, faults = _process(uploads, upload, engine)
        newest = uploads.find(upload.experiment, upload.id)
        uploads.save(replace(newest, stage=stage, faults=faults))


def _process(uploads: Uploads, upload: Upload, engine: Engine) -> tuple[Stage, tuple[str, ...]]:
    try:
        _JOBS[upload.kind](uploads, upload, engine)
    except InvalidInput as error:
        return "refused", tuple(fault.detail for fault in error.faults)
    except (BanditsError, OSError) as error:
        return "broken", (str(error),)
    except Exception:  # noqa: BLE001 - the page shows every failure
        _log.exception("an upload of %s failed", upload.experiment)
        return "broken", ("something of ours failed; the server's log tells what",)
    return "done", ()

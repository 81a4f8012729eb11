"""Job runner: choices for an uploaded file of recipients, rewards of an uploaded export."""

import csv
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from secrets import token_hex
from threading import Thread
from typing import IO, Any

from msgspec.structs import replace

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.errors import BanditsError, InvalidInput
from bandits.experiment import Experiment
from bandits.rewards import RewardRule
from bandits.schemas import Decision, Reward, RewardReceipt
from webapp.files.cell_values import CellForms, Moment, read_id, read_moment
from webapp.files.choices import ChoiceRows
from webapp.files.file_check import check_recipients, check_results
from webapp.files.recipients import (
    RecipientColumns,
    RecipientFile,
    RequestPortion,
    run_digest,
)
from webapp.files.rejection_report import RejectionReport
from webapp.files.repeated_recipients import (
    RepeatedRecipients,
    choose_once,
    first_rows,
    subject_digests,
)
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.table_files import (
    PORTION,
    Cell,
    Portion,
    Reject,
    RejectedRow,
    Table,
    csv_lines,
)
from webapp.jobs.totals import FileTotals, TotalLine, TotalWriter
from webapp.jobs.uploads import Kind, Stage, Upload, Uploads

RECIPIENTS_A_TRANSACTION = 1000  # few, so that others wait for a transaction only shortly


def ignore_row(_: RejectedRow) -> None:
    """Leave a row out that is in the report."""


def choose(uploads: Uploads, upload: Upload, engine: Engine) -> Stage:
    """Check the file, then decide for the remaining rows; the same rows get the same decisions.

    Returns:
        The stage that the upload has reached.

    Raises:
        InvalidInput: no row fits; no decision was made.
        WrongState: the experiment does not choose now.
        Unavailable: the database does not answer; to resume later records nothing twice.
    """
    configuration = engine.store.experiments.record(upload.experiment).configuration
    experiment, columns = configuration.experiment, upload.columns or RecipientColumns()
    table = uploads.open_table(upload)
    recipients = RecipientFile(table, experiment, columns, upload.forms)
    if upload.version != configuration.version:  # rows written before have other columns
        upload = replace(upload, version=configuration.version, done=0, written=0)
        with uploads.open_report(upload) as report:
            check, _ = check_recipients(recipients, experiment, RejectionReport(report))
        upload = replace(upload, total=check.read, check=check)
        uploads.save(upload)
        check.refuse_useless()
        if not (upload.confirmed or (check.is_clean and not upload.in_waves)):
            return "checked"
    run = run_digest(uploads.file(upload), upload.experiment, columns, upload.forms, upload.format)
    portions = recipients.portions(
        f"{run}-{upload.id}" if upload.anew else run,
        RECIPIENTS_A_TRANSACTION,
        reject=ignore_row,
        own=upload.own,
    )
    own = list(zip(table.columns, table.types, strict=True)) if upload.own else []
    lines = ChoiceLines(experiment, own, columns.subject, contents=upload.contents)
    repeated = repeated_recipients(recipients, upload)
    actor = actor_of("person", upload.by)
    decide = partial(engine.choose, upload.experiment, actor=actor)
    with uploads.open_answer(upload) as answer:
        answer.truncate(upload.written)  # an incomplete portion is decided for again
        if not upload.written:
            answer.write(lines.header())
        for portion in portions:
            requests = portion.requests
            if repeated is not None:
                requests = repeated.replaced(requests)
            if portion.first < upload.done:
                continue
            decisions = choose_once(decide, requests)
            answer.write(lines.rows(portion, decisions))
            answer.flush()
            done = portion.first + portion.n_rows
            upload = replace(upload, done=done, written=answer.tell())
            uploads.save(upload)
    return "done"


def repeated_recipients(recipients: RecipientFile, upload: Upload) -> RepeatedRecipients | None:
    """Find recipients who are in several rows, if each of them gets one decision."""
    if not (upload.one_each and upload.check and upload.check.repeated):
        return None
    digests = [
        subject_digests(request.subject_id for request in portion.requests)
        for portion in recipients.portions("check", reject=ignore_row)
    ]
    return RepeatedRecipients(first_rows(digests))


class ChoiceLines:
    """Lines of a file of choices; without `contents`, payloads are left out."""

    def __init__(
        self,
        experiment: Experiment,
        own: Sequence[tuple[str, Any]],
        subject: str,
        *,
        contents: bool,
    ) -> None:
        """Name the columns, as `ChoiceRows` does."""
        self._choices = ChoiceRows(experiment, own, subject)
        names = self._choices.schema.names
        self._places = [
            i for i, name in enumerate(names) if contents or name not in self._choices.contents
        ]

    def header(self) -> bytes:
        """Return the line of the columns' names."""
        names = self._choices.schema.names
        return _encoded([[names[i] for i in self._places]])

    def rows(self, portion: RequestPortion, decisions: Sequence[Decision]) -> bytes:
        """Return the lines of a portion's decisions."""
        batch = self._choices.batch(portion.requests, decisions, portion.own)
        columns = [batch.column(i).to_pylist() for i in self._places]
        return _encoded(zip(*columns, strict=True))


def _encoded(rows: Iterable[Iterable[Any]]) -> bytes:
    return "".join(csv_lines(rows, exact=True)).encode()


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
        self,
        table: Table,
        subject: str,
        match: MatchSubjects,
        time: str | None = None,
        forms: CellForms | None = None,
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
        self.types, self.notes = table.types, table.notes
        self._forms = forms or CellForms(zone="UTC")
        self._table = table
        self._subject = subject
        self._match = match
        self._time = time if time in table.columns else None
        self.has_several: Callable[[Sequence[str]], Sequence[bool]] | None = None
        self.ambiguous: set[str] = set()  # decisions of rows without a time, but of several emails
        self.missing_prefix = f"nobody-{token_hex(8)}-"  # begins the ids of rows without a decision

    def place(self, line: int, column: str) -> str:
        """Describe the place of a cell."""
        return self._table.place(line, self._subject if column == FOUND else column)

    def portions(
        self,
        columns: Sequence[str],
        size: int = PORTION,
        *,
        reject: Reject | None = None,
        whole: bool = False,
    ) -> Iterator[Portion]:
        """Read these columns, `size` rows at a time."""
        own = [self._subject] if self._time is None else [self._subject, self._time]
        table_columns = [c for c in dict.fromkeys([*own, *columns]) if c != FOUND]
        for portion in self._table.portions(table_columns, size, reject=reject, whole=whole):
            names = [read_id(cell)[0] for cell in portion.cells[self._subject]]
            times = self._times(portion)
            matches = self._match(names, times)
            self._note_ambiguous(names, times, matches)
            decisions = [
                match if name and match else f"{self.missing_prefix}{line}"
                for line, name, match in zip(portion.lines, names, matches, strict=True)
            ]
            cells: Mapping[str, Sequence[Cell]] = {**portion.cells, FOUND: decisions}
            yield Portion(portion.first, portion.lines, cells, portion.whole)

    def _note_ambiguous(
        self,
        names: Sequence[str],
        times: Sequence[float | None],
        matches: Sequence[str | None],
    ) -> None:
        """Note decisions that a row may be of or not, where somebody wants to know."""
        rows = zip(names, times, matches, strict=True)
        untimed = {name: match for name, time, match in rows if time is None and match}
        if self.has_several is not None and untimed:
            several = self.has_several(list(untimed))
            pairs = zip(untimed.values(), several, strict=True)
            self.ambiguous.update(match for match, is_several in pairs if is_several)

    def _times(self, portion: Portion) -> list[float | None]:
        """Read the times of rows; None also where one is unreadable, which is refused later."""
        if self._time is None:
            return [None] * len(portion.lines)
        moments = [read_moment(cell, self._forms) for cell in portion.cells[self._time]]
        return [m.at.timestamp() if isinstance(m, Moment) else None for m in moments]


def report(uploads: Uploads, upload: Upload, engine: Engine) -> Stage:
    """Check the file, then report the remaining events; one that is reported again counts once.

    Returns:
        The stage that the upload has reached.

    Raises:
        InvalidInput: no row fits; nothing was reported.
        Unavailable: the database does not answer; to resume later counts nothing twice.
    """
    experiment = engine.store.experiments.record(upload.experiment).configuration.experiment
    table = uploads.open_table(upload)
    columns = upload.events or EventColumns()
    missing_prefix = ""
    ambiguous: set[str] = set()
    if upload.subject is not None:
        match = partial(engine.match_subjects, upload.experiment)
        matcher = SubjectMatcher(table, upload.subject, match, columns.occurred_at, upload.forms)
        if not upload.total:
            matcher.has_several = partial(_several_emails, engine, upload.experiment)
        ambiguous = matcher.ambiguous
        table, missing_prefix = matcher, matcher.missing_prefix
        columns = replace(columns, decision=FOUND)
    now = datetime.fromtimestamp(engine.clock(), UTC)
    export = RewardExport(table, experiment, columns, upload.forms, now=now, totals=upload.totals)
    if not upload.total:
        with uploads.open_report(upload) as report_file:
            report = RejectionReport(report_file)
            check = check_results(export, report, missing_prefix, ambiguous)
        upload = replace(upload, total=check.read, check=check)
        uploads.save(upload)
        check.refuse_useless()
        if not upload.confirmed and (check.left_out or check.several or check.is_unmatched):
            return "checked"
    totals = _file_totals(export, upload, experiment.reward)
    first = 0
    actor = actor_of("person", upload.by)
    writer = TotalWriter(engine, upload.id, actor)
    with uploads.open_answer(upload) as answer:
        answer.truncate(upload.written)
        if not upload.written:
            answer.write("".join(csv_lines([_HEAD])).encode())
        for reported in export.portions(reject=ignore_row):
            first, before = first + reported.rows, first
            events = list(zip(reported.lines, reported.rewards, strict=True))
            complete: list[TotalLine] = []
            if totals is not None:
                complete, events = totals.split(reported.lines, reported.rewards)
            if before < upload.done:
                continue
            same = len(complete)
            for line, event in writer.events(complete):
                events.append((line, event))
                same -= 1
            receipt = engine.reward([r for _, r in events], actor=actor, partial=True)
            answer.write(
                "".join(csv_lines(_unmatched_rows(events, receipt, missing_prefix))).encode()
            )
            answer.flush()
            upload = replace(
                upload,
                done=first,
                written=answer.tell(),
                accepted=upload.accepted + receipt.accepted,
                repeated=upload.repeated + receipt.repeated + same,
                late=upload.late + receipt.late,
                unmatched=upload.unmatched
                + len(receipt.unknown)
                + len(receipt.early)
                + len(receipt.refused),
            )
            uploads.save(upload)
    return "done"


def _several_emails(engine: Engine, experiment: str, subjects: Sequence[str]) -> list[bool]:
    """Return for each subject if they got several emails of an experiment."""
    record = engine.store.experiments.record(experiment)
    return [len(emails) > 1 for emails in engine.store.log.candidates([record], subjects)]


def _file_totals(export: RewardExport, upload: Upload, rule: RewardRule) -> FileTotals | None:
    if not upload.totals:
        return None
    totals = FileTotals(rule)
    for portion in export.portions(reject=ignore_row):
        totals.count(portion.rewards)
    totals.end_count()
    return totals


def _unmatched_rows(
    events: Sequence[tuple[int, Reward]], receipt: RewardReceipt, missing_prefix: str
) -> Iterator[tuple[int | str, str, str]]:
    """Yield rows of events that were not counted, without made-up ids of unknown recipients."""
    reasons = dict.fromkeys(receipt.unknown, _UNKNOWN) | dict.fromkeys(receipt.early, _EARLY)
    refused = {row.row: row.detail for row in receipt.refused}
    for row, (line, reward) in enumerate(events):
        decision = reward.decision_id
        reason = refused.get(row) or reasons.get(decision)
        if reason is None:
            continue
        if missing_prefix and decision.startswith(missing_prefix):
            yield line, "", _NOBODY
        else:
            yield line, decision, reason


def report_sent(uploads: Uploads, upload: Upload, engine: Engine) -> Stage:
    """Report the emails of a file's choices as sent, which starts the clocks that wait for it.

    Raises:
        Unavailable: the database does not answer; to resume later reports nothing twice.
    """
    actor = actor_of("person", upload.by)
    with uploads.answer(upload).open(encoding="utf-8", newline="") as file:
        decisions = (row["decision_id"] for row in csv.DictReader(file))
        for ids in batched(islice(decisions, upload.reported, None), RECIPIENTS_A_TRANSACTION):
            engine.activate(ids, actor=actor)
            upload = replace(upload, reported=upload.reported + len(ids))
            uploads.save(upload)
    return "done"


def batched(values: Iterator[str], size: int) -> Iterator[list[str]]:
    """Yield `size` values at a time."""
    while portion := list(islice(values, size)):
        yield portion


Job = Callable[[Uploads, Upload, Engine], Stage]
UploadListener = Callable[[Upload], None]
_JOBS: Mapping[Kind, Job] = {"recipients": choose, "results": report}
_log = logging.getLogger(__name__)


def start_job(
    uploads: Uploads, upload: Upload, engine: Engine, ended: UploadListener = lambda _: None
) -> None:
    """Process the rest of an upload in a thread, unless another thread works on it.

    Args:
        uploads: keeps it.
        upload: the file.
        engine: decides or records.
        ended: is called with the upload once its job has ended.
    """
    lock = uploads.hold(upload)
    if lock is not None:
        upload = replace(upload, stage="working", faults=())
        uploads.save(upload)
        Thread(
            target=_run, args=(lock, uploads, upload, engine, ended), name="upload", daemon=True
        ).start()


def _run(
    lock: IO[bytes], uploads: Uploads, upload: Upload, engine: Engine, ended: UploadListener
) -> None:
    with lock:
        stage, faults = _process(uploads, upload, engine)
        newest = replace(uploads.find(upload.experiment, upload.id), stage=stage, faults=faults)
        uploads.save(newest)
    try:
        ended(newest)
    except BanditsError as error:
        _log.warning("cannot tell that a file of %s ended: %s", upload.experiment, error)


def _process(uploads: Uploads, upload: Upload, engine: Engine) -> tuple[Stage, tuple[str, ...]]:
    try:
        job = report_sent if upload.sent else _JOBS[upload.kind]
        return job(uploads, upload, engine), ()
    except InvalidInput as error:
        return "refused", tuple(fault.detail for fault in error.faults)
    except (BanditsError, OSError) as error:
        return "broken", (str(error),)
    except Exception:  # noqa: BLE001 - the page shows every failure
        _log.exception("an upload of %s failed", upload.experiment)
        return "broken", ("something of ours failed; the server's log tells what",)

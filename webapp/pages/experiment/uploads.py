"""Recipients and results by file: upload, say what its columns mean, wait, download."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import get_args

from flask import Flask, Response, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import InvalidInput, NotFound
from bandits.experiment import Experiment
from webapp.files.recipients import RecipientColumns, RecipientFile
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.table_files import Table, open_table
from webapp.jobs.runner import FOUND, SubjectMatcher, start_job
from webapp.jobs.uploads import Kind, Upload, Uploads, uploads_folder
from webapp.pages.access import needs, person
from webapp.pages.blueprint import pages
from webapp.pages.gate import takes_files
from webapp.services import services
from webapp.settings import Settings

_NAME = "bandits.uploads"
_SHOWN = 3  # rows of a file that help to tell what its columns are
_LONGEST_NAME = 120
_LONGEST_CELL = 60
_SUBJECT = ("subject_id", "recipient", "recipient_id", "customer_id", "user_id", "email", "id")


class ColumnMapping(Struct, frozen=True):
    """What a form says of a file's columns; an empty name is none.

    Attributes:
        who: the column that tells who a row is.
        by_subject: it holds recipients; of results, otherwise decision ids.
        features: by feature, its column.
        in_rows: of results, each row is an event that names its metric.
        metrics: by metric, its column.
        extra: the columns `metric`, `value`, `event` and `occurred_at`.
    """

    who: str
    by_subject: bool
    features: Mapping[str, str]
    in_rows: bool
    metrics: Mapping[str, str]
    extra: Mapping[str, str]
    anew: bool = False
    contents: bool = True


def init(app: Flask, settings: Settings) -> None:
    """Remember where `app` keeps files."""
    app.extensions[_NAME] = Uploads(uploads_folder(settings))


def _uploads() -> Uploads:
    found: Uploads = current_app.extensions[_NAME]
    return found


@pages.get("/experiments/<key:key>/files")
@needs("manager")
def files(key: str) -> ResponseReturnValue:
    """Show what was uploaded, and take another."""
    return _files(key)


@pages.post("/experiments/<key:key>/files")
@needs("manager")
@takes_files
def upload(key: str) -> ResponseReturnValue:
    """Keep a file, and go on to its columns."""
    engine, uploads = services().engine, _uploads()
    engine.store.experiments.record(key)
    kind, file = request.form.get("kind", ""), request.files.get("file")
    if kind not in get_args(Kind) or file is None or not file.filename:
        return _files(key, kind, "choose a file first"), 422
    name = PurePosixPath(file.filename.replace("\\", "/")).name[-_LONGEST_NAME:]
    uploads.sweep(engine.clock())
    kept: Kind = "recipients" if kind == "recipients" else "results"
    made = uploads.add(key, kept, file.stream, name, at=engine.clock(), by=person().email)
    try:
        open_table(uploads.file(made), name)
    except InvalidInput as error:
        uploads.remove(made)
        return _files(key, kind, _said(error)), 422
    return redirect(url_for("pages.uploaded", key=key, upload_id=made.id))


def _files(key: str, kind: str = "", wrong: str = "") -> str:
    uploads = _uploads()
    uploads.sweep(services().engine.clock())
    return render_template(
        "files.html",
        record=services().engine.store.experiments.record(key),
        uploads=uploads.list_for(key),
        kind=kind,
        wrong=wrong,
        largest=current_app.config["MAX_UPLOAD_BYTES"],
        tab="files",
    )


@pages.get("/experiments/<key:key>/files/<upload_id>")
@needs("manager")
def uploaded(key: str, upload_id: str) -> ResponseReturnValue:
    """Ask for the columns, or show how far it is."""
    found = _uploads().find(key, upload_id)
    experiment = services().engine.store.experiments.record(key).configuration.experiment
    if found.stage == "new":
        table = _table(found)
        return _columns(found, table, _guessed(found, table.columns, experiment))
    return _progress(found)


@pages.post("/experiments/<key:key>/files/<upload_id>")
@needs("manager")
def work_on(key: str, upload_id: str) -> ResponseReturnValue:
    """Start with the columns that the form names, or go on where it was cut off."""
    engine, uploads = services().engine, _uploads()
    found = uploads.find(key, upload_id)
    if found.stage == "new":
        experiment = engine.store.experiments.record(key).configuration.experiment
        table, meaning = _table(found), _meant(experiment)
        try:
            found = _understood(found, table, meaning, experiment)
        except InvalidInput as error:
            return _columns(found, table, meaning, _said(error)), 422
    if found.stage != "done":
        start_job(uploads, found, engine)
    return redirect(url_for("pages.uploaded", key=key, upload_id=upload_id))


@pages.post("/experiments/<key:key>/files/<upload_id>/columns")
@needs("manager")
def ask_columns(key: str, upload_id: str) -> ResponseReturnValue:
    """Ask for the columns of a refused file once more."""
    uploads = _uploads()
    found = uploads.find(key, upload_id)
    if found.stage == "refused":
        uploads.save(replace(found, stage="new", total=0, done=0, written=0, version=0, faults=()))
    return redirect(url_for("pages.uploaded", key=key, upload_id=upload_id))


@pages.get("/experiments/<key:key>/files/<upload_id>/answer.csv")
@needs("manager")
def answer_csv(key: str, upload_id: str) -> ResponseReturnValue:
    """Download the chosen variants, or the rows without a match."""
    uploads = _uploads()
    found = uploads.find(key, upload_id)
    if found.stage != "done":
        raise NotFound("answer", upload_id)
    said = "choices" if found.kind == "recipients" else "not-counted"
    response = Response(_read(uploads, found), content_type="text/csv; charset=utf-8")
    response.content_length = found.written
    response.headers["Content-Disposition"] = f'attachment; filename="{key}-{said}.csv"'
    return response


def _read(uploads: Uploads, found: Upload) -> Iterator[bytes]:
    with uploads.answer(found).open("rb") as file:
        while block := file.read(1 << 16):
            yield block


@pages.post("/experiments/<key:key>/files/<upload_id>/remove")
@needs("manager")
def remove_upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Forget a file and its answer; what was decided and reported stays."""
    uploads = _uploads()
    found = uploads.find(key, upload_id)
    if uploads.is_worked_on(found):
        flash(f"{found.name} is being worked through; remove it once that is done.")
        return redirect(url_for("pages.uploaded", key=key, upload_id=upload_id))
    uploads.remove(found)
    flash(f"{found.name} is removed. What was decided or reported with it stays.")
    return redirect(url_for("pages.files", key=key))


def _progress(found: Upload) -> str:
    uploads = _uploads()
    idle = found.stage == "working" and not uploads.is_worked_on(found)
    if idle:  # it may just have ended
        found = uploads.find(found.experiment, found.id)
    return render_template(
        "upload.html",
        record=services().engine.store.experiments.record(found.experiment),
        upload=found,
        cut_off=found.stage == "working" and idle,
        tab="files",
    )


def _columns(found: Upload, table: Table, meaning: ColumnMapping, wrong: str = "") -> str:
    try:
        portion = next(table.portions(table.columns, _SHOWN), None)
    except InvalidInput as error:
        portion, wrong = None, wrong or _said(error)
    cells = portion.cells if portion else {}
    return render_template(
        "columns.html",
        record=services().engine.store.experiments.record(found.experiment),
        upload=found,
        columns=table.columns,
        meaning=meaning,
        examples={name: [_short(cell) for cell in cells.get(name, ())] for name in table.columns},
        wrong=wrong,
        tab="files",
    )


def _short(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _table(found: Upload) -> Table:
    return open_table(_uploads().file(found), found.name)


def _guessed(found: Upload, columns: Sequence[str], experiment: Experiment) -> ColumnMapping:
    """Guess what columns mean by what they are called."""
    called = {c.strip().casefold(): c for c in columns}
    results = found.kind == "results"
    by_decision = results and "decision_id" in called
    who = next((called[n] for n in _SUBJECT if n in called), "")
    rule = experiment.reward
    extra = {n: called.get(n, "") for n in ("metric", "value", "event_id", "occurred_at")}
    extra["event"] = extra.pop("event_id")
    return ColumnMapping(
        who=called["decision_id"] if by_decision else who,
        by_subject=not by_decision,
        features={f.name: called.get(f.name.casefold(), "") for f in experiment.context},
        in_rows=bool(extra["metric"]),
        metrics={m: called.get(m.casefold(), "") for m in rule.metrics},
        extra=extra,
    )


def _meant(experiment: Experiment) -> ColumnMapping:
    """Read what the form says."""
    given = request.form
    return ColumnMapping(
        who=given.get("who", ""),
        by_subject=given.get("by") != "decision",
        features={f.name: given.get(f"feature:{f.name}", "") for f in experiment.context},
        in_rows=given.get("shape") == "rows",
        metrics={m: given.get(f"metric:{m}", "") for m in experiment.reward.metrics},
        extra={n: given.get(n, "") for n in ("metric", "value", "event", "occurred_at")},
        anew="anew" in given,
        contents="contents" in given,
    )


def _understood(
    found: Upload, table: Table, meaning: ColumnMapping, experiment: Experiment
) -> Upload:
    """Put what the form says into an upload.

    Raises:
        InvalidInput: a column is missing.
    """
    if not meaning.who:
        raise InvalidInput.at("", "say which column tells who each row is")
    if found.kind == "recipients":
        columns = RecipientColumns(meaning.who, {f: c or None for f, c in meaning.features.items()})
        RecipientFile(table, experiment, columns)
        return replace(found, columns=columns, anew=meaning.anew, contents=meaning.contents)
    events = _events(meaning)
    if meaning.by_subject:
        RewardExport(SubjectMatcher(table, meaning.who, lambda _: {}), experiment, events)
        return replace(found, events=events, subject=meaning.who)
    RewardExport(table, experiment, events)
    return replace(found, events=events)


def _events(meaning: ColumnMapping) -> EventColumns:
    extra = {name: column or None for name, column in meaning.extra.items()}
    decision = FOUND if meaning.by_subject else meaning.who
    at = extra["occurred_at"]
    if not meaning.in_rows:
        chosen = {metric: column for metric, column in meaning.metrics.items() if column}
        return EventColumns(decision, chosen, occurred_at=at)
    return EventColumns(decision, {}, extra["metric"], extra["value"], extra["event"], at)


def _said(error: InvalidInput) -> str:
    return "; ".join(fault.detail for fault in error.faults)

"""Pages of uploaded files: upload, mapping of the columns, progress, download."""

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
from webapp.pages import pages
from webapp.pages.access import needs, person, takes_files
from webapp.services import services
from webapp.settings import Settings

_NAME = "bandits.uploads"
_SHOWN = 3  # rows of a file that are shown beside its columns
_LONGEST_NAME = 120
_LONGEST_CELL = 60
_SUBJECT = ("subject_id", "recipient", "recipient_id", "customer_id", "user_id", "email", "id")


class ColumnMapping(Struct, frozen=True):
    """Columns of a file as a form names them; an empty name stands for none.

    Attributes:
        id_column: the column that identifies a row.
        by_subject: it holds subjects; in a file of results, otherwise decision ids.
        features: the column of each feature.
        in_rows: in a file of results, each row is an event that names its metric.
        metrics: the column of each declared metric and listed event.
        extra: the columns `metric`, `value`, `event`, `occurred_at` and `as_of`.
        anew: decide again for subjects who have a decision.
        contents: write the payloads, besides the keys.
    """

    id_column: str
    by_subject: bool
    features: Mapping[str, str]
    in_rows: bool
    metrics: Mapping[str, str]
    extra: Mapping[str, str]
    anew: bool = False
    contents: bool = True


def init(app: Flask, settings: Settings) -> None:
    """Give `app` its folder of uploads."""
    app.extensions[_NAME] = Uploads(uploads_folder(settings))


def _uploads() -> Uploads:
    uploads: Uploads = current_app.extensions[_NAME]
    return uploads


@pages.get("/experiments/<key:key>/files")
@needs("manager")
def files(key: str) -> ResponseReturnValue:
    """Show the uploaded files, and a form for another."""
    return _files_page(key)


@pages.post("/experiments/<key:key>/files")
@needs("manager")
@takes_files
def add_upload(key: str) -> ResponseReturnValue:
    """Store a file, and go on to its columns."""
    engine, uploads = services().engine, _uploads()
    engine.store.experiments.record(key)
    kind, file = request.form.get("kind", ""), request.files.get("file")
    if kind not in get_args(Kind) or file is None or not file.filename:
        return _files_page(key, kind, "choose a file first"), 422
    name = PurePosixPath(file.filename.replace("\\", "/")).name[-_LONGEST_NAME:]
    uploads.sweep(engine.clock())
    file_kind: Kind = "recipients" if kind == "recipients" else "results"
    upload = uploads.add(key, file_kind, file.stream, name, at=engine.clock(), by=person().email)
    try:
        open_table(uploads.file(upload), name)
    except InvalidInput as error:
        uploads.remove(upload)
        return _files_page(key, kind, _fault_text(error)), 422
    return redirect(url_for("pages.upload", key=key, upload_id=upload.id))


def _files_page(key: str, kind: str = "", wrong: str = "") -> str:
    uploads = _uploads()
    uploads.sweep(services().engine.clock())
    return render_template(
        "experiment/files.html",
        record=services().engine.store.experiments.record(key),
        uploads=uploads.list_for(key),
        kind=kind,
        wrong=wrong,
        largest=current_app.config["MAX_UPLOAD_BYTES"],
        tab="files",
    )


@pages.get("/experiments/<key:key>/files/<upload_id>")
@needs("manager")
def upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Ask for the columns, or show the progress."""
    upload = _uploads().find(key, upload_id)
    experiment = services().engine.store.experiments.record(key).configuration.experiment
    if upload.stage == "new":
        table = _open_table(upload)
        return _columns_page(upload, table, _guess_mapping(upload, table.columns, experiment))
    return _progress_page(upload)


@pages.post("/experiments/<key:key>/files/<upload_id>")
@needs("manager")
def start_upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Start the job with the columns of the form, or continue one that was cut off."""
    engine, uploads = services().engine, _uploads()
    upload = uploads.find(key, upload_id)
    if upload.stage == "new":
        experiment = engine.store.experiments.record(key).configuration.experiment
        table, mapping = _open_table(upload), _submitted_mapping(experiment)
        try:
            upload = _with_mapping(upload, table, mapping, experiment)
        except InvalidInput as error:
            return _columns_page(upload, table, mapping, _fault_text(error)), 422
    if upload.stage != "done":
        start_job(uploads, upload, engine)
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.post("/experiments/<key:key>/files/<upload_id>/columns")
@needs("manager")
def reset_columns(key: str, upload_id: str) -> ResponseReturnValue:
    """Return a refused file to the choice of its columns."""
    uploads = _uploads()
    upload = uploads.find(key, upload_id)
    if upload.stage == "refused":
        uploads.save(replace(upload, stage="new", total=0, done=0, written=0, version=0, faults=()))
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.get("/experiments/<key:key>/files/<upload_id>/answer.csv")
@needs("manager")
def answer_csv(key: str, upload_id: str) -> ResponseReturnValue:
    """Download the chosen variants, or the rows without a match."""
    uploads = _uploads()
    upload = uploads.find(key, upload_id)
    if upload.stage != "done":
        raise NotFound("answer", upload_id)
    suffix = "choices" if upload.kind == "recipients" else "not-counted"
    response = Response(_read(uploads, upload), content_type="text/csv; charset=utf-8")
    response.content_length = upload.written
    response.headers["Content-Disposition"] = f'attachment; filename="{key}-{suffix}.csv"'
    return response


def _read(uploads: Uploads, upload: Upload) -> Iterator[bytes]:
    with uploads.answer(upload).open("rb") as file:
        while block := file.read(1 << 16):
            yield block


@pages.post("/experiments/<key:key>/files/<upload_id>/remove")
@needs("manager")
def remove_upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Remove a file and its answer; decisions and rewards stay."""
    uploads = _uploads()
    upload = uploads.find(key, upload_id)
    if uploads.is_worked_on(upload):
        flash(f"{upload.name} is being worked through; remove it once that is done.")
        return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
    uploads.remove(upload)
    flash(f"{upload.name} is removed. What was decided or reported with it stays.")
    return redirect(url_for("pages.files", key=key))


def _progress_page(upload: Upload) -> str:
    uploads = _uploads()
    idle = upload.stage == "working" and not uploads.is_worked_on(upload)
    if idle:  # it may just have ended
        upload = uploads.find(upload.experiment, upload.id)
    return render_template(
        "experiment/upload.html",
        record=services().engine.store.experiments.record(upload.experiment),
        upload=upload,
        cut_off=upload.stage == "working" and idle,
        tab="files",
    )


def _columns_page(upload: Upload, table: Table, mapping: ColumnMapping, wrong: str = "") -> str:
    try:
        portion = next(table.portions(table.columns, _SHOWN), None)
    except InvalidInput as error:
        portion, wrong = None, wrong or _fault_text(error)
    cells = portion.cells if portion else {}
    return render_template(
        "experiment/columns.html",
        record=services().engine.store.experiments.record(upload.experiment),
        upload=upload,
        columns=table.columns,
        mapping=mapping,
        examples={name: [_short(cell) for cell in cells.get(name, ())] for name in table.columns},
        wrong=wrong,
        tab="files",
    )


def _short(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _open_table(upload: Upload) -> Table:
    return open_table(_uploads().file(upload), upload.name)


def _guess_mapping(upload: Upload, columns: Sequence[str], experiment: Experiment) -> ColumnMapping:
    """Guess the mapping from the names of the columns."""
    columns_by_name = {c.strip().casefold(): c for c in columns}
    results = upload.kind == "results"
    by_decision = results and "decision_id" in columns_by_name
    id_column = next((columns_by_name[n] for n in _SUBJECT if n in columns_by_name), "")
    rule = experiment.reward
    names = ("metric", "value", "event_id", "occurred_at", "as_of")
    extra = {n: columns_by_name.get(n, "") for n in names}
    extra["event"] = extra.pop("event_id")
    return ColumnMapping(
        id_column=columns_by_name["decision_id"] if by_decision else id_column,
        by_subject=not by_decision,
        features={f.name: columns_by_name.get(f.name.casefold(), "") for f in experiment.context},
        in_rows=bool(extra["metric"]),
        metrics={m: columns_by_name.get(m.casefold(), "") for m in rule.event_names},
        extra=extra,
    )


def _submitted_mapping(experiment: Experiment) -> ColumnMapping:
    """Read the mapping from the form."""
    form = request.form
    return ColumnMapping(
        id_column=form.get("who", ""),
        by_subject=form.get("by") != "decision",
        features={f.name: form.get(f"feature:{f.name}", "") for f in experiment.context},
        in_rows=form.get("shape") == "rows",
        metrics={m: form.get(f"metric:{m}", "") for m in experiment.reward.event_names},
        extra={n: form.get(n, "") for n in ("metric", "value", "event", "occurred_at", "as_of")},
        anew="anew" in form,
        contents="contents" in form,
    )


def _with_mapping(
    upload: Upload, table: Table, mapping: ColumnMapping, experiment: Experiment
) -> Upload:
    """Return the upload with the mapping.

    Raises:
        InvalidInput: a column is missing.
    """
    if not mapping.id_column:
        raise InvalidInput.at("", "say which column tells who each row is")
    if upload.kind == "recipients":
        columns = RecipientColumns(
            mapping.id_column, {f: c or None for f, c in mapping.features.items()}
        )
        RecipientFile(table, experiment, columns)
        return replace(upload, columns=columns, anew=mapping.anew, contents=mapping.contents)
    events = _events(mapping)
    if mapping.by_subject:
        matcher = SubjectMatcher(table, mapping.id_column, lambda names, _: [None] * len(names))
        RewardExport(matcher, experiment, events)
        return replace(upload, events=events, subject=mapping.id_column)
    RewardExport(table, experiment, events)
    return replace(upload, events=events)


def _events(mapping: ColumnMapping) -> EventColumns:
    extra = {name: column or None for name, column in mapping.extra.items()}
    decision = FOUND if mapping.by_subject else mapping.id_column
    times = extra["occurred_at"], extra["as_of"]
    if not mapping.in_rows:
        chosen = {metric: column for metric, column in mapping.metrics.items() if column}
        return EventColumns(decision, chosen, None, None, None, *times)
    return EventColumns(decision, {}, extra["metric"], extra["value"], extra["event"], *times)


def _fault_text(error: InvalidInput) -> str:
    return "; ".join(fault.detail for fault in error.faults)

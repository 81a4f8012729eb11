"""Pages of uploaded files: upload, mapping of the columns, check, progress, downloads."""

from datetime import UTC, datetime
from functools import cache
from pathlib import PurePosixPath
from typing import get_args
from zoneinfo import available_timezones

from flask import current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec.structs import replace

from bandits.errors import InvalidInput, NotFound
from bandits.experiment import Experiment
from bandits.store.values import ExperimentRecord
from webapp.files.cell_values import is_zone
from webapp.files.known_columns import EXPORTS, KnownColumns
from webapp.files.recipients import RecipientColumns, RecipientFile
from webapp.files.reward_export import EventColumns, RewardExport
from webapp.files.table_files import ENDINGS, Table, TableFormat
from webapp.files.text_codec import ENCODINGS
from webapp.jobs.column_map import (
    ColumnMapping,
    apply_export,
    find_export,
    guess_mapping,
    known_mapping,
    settle_forms,
)
from webapp.jobs.file_preview import PREVIEWED, preview_recipients, preview_results
from webapp.jobs.runner import FOUND, SubjectMatcher, start_job
from webapp.jobs.uploads import Kind, Upload
from webapp.jobs.waves import due_wave
from webapp.notices.file_alerts import tell_uploader
from webapp.pages import pages
from webapp.pages.access import needs, person, takes_files
from webapp.pages.experiment.upload_folder import (
    BOM,
    csv_download,
    read_file,
    spreadsheet_lines,
    upload_folder,
)
from webapp.pages.experiment.wave_views import GAP_UNITS, first_plan, too_soon
from webapp.services import services

_SHOWN = 3  # rows of a file that are shown beside its columns
_LONGEST_NAME = 120
_LONGEST_CELL = 60
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


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
    engine, uploads = services().engine, upload_folder()
    engine.store.experiments.record(key)
    kind, file = request.form.get("kind", ""), request.files.get("file")
    if kind not in get_args(Kind) or file is None or not file.filename:
        return _files_page(key, kind, "choose a file first"), 422
    name = PurePosixPath(file.filename.replace("\\", "/")).name[-_LONGEST_NAME:]
    uploads.sweep(engine.clock())
    file_kind: Kind = "recipients" if kind == "recipients" else "results"
    upload = uploads.add(key, file_kind, file.stream, name, at=engine.clock(), by=person().email)
    try:
        uploads.open_table(upload)
    except InvalidInput as error:
        uploads.remove(upload)
        return _files_page(key, kind, _fault_text(error)), 422
    return redirect(url_for("pages.upload", key=key, upload_id=upload.id))


def _files_page(key: str, kind: str = "", wrong: str = "") -> str:
    uploads = upload_folder()
    uploads.sweep(services().engine.clock())
    return render_template(
        "experiment/files.html",
        record=services().engine.store.experiments.record(key),
        uploads=uploads.list_for(key),
        kind=kind,
        wrong=wrong,
        largest=current_app.config["MAX_UPLOAD_BYTES"],
        endings=ENDINGS,
        tab="files",
    )


@pages.get("/experiments/<key:key>/files/<upload_id>")
@needs("manager")
def upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Ask for the columns, or show what was found in the file, or the progress."""
    uploads = upload_folder()
    upload = uploads.find(key, upload_id)
    experiment = services().engine.store.experiments.record(key).configuration.experiment
    if upload.stage == "new":
        try:
            table = uploads.open_table(upload)
            mapping = _first_mapping(upload, table, experiment)
        except InvalidInput as error:  # it cannot be read in the format that was chosen
            uploads.save(replace(upload, format=TableFormat()))
            flash(_fault_text(error))
            return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
        return _columns_page(upload, table, mapping)
    return _progress_page(upload)


@pages.post("/experiments/<key:key>/files/<upload_id>")
@needs("manager")
def start_upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Start the job with the columns of the form, or continue one that stopped."""
    engine, uploads = services().engine, upload_folder()
    upload = uploads.find(key, upload_id)
    if upload.stage == "new":
        experiment = engine.store.experiments.record(key).configuration.experiment
        table, mapping = uploads.open_table(upload), _submitted_mapping(experiment)
        if (chosen := _submitted_format()) != upload.format:
            uploads.save(replace(upload, format=chosen))
            return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
        if request.form.get("action") == "preview":
            return _columns_page(upload, table, mapping)
        try:
            mapping = _settled(upload, table, mapping, experiment)
            upload = _with_mapping(upload, table, mapping, experiment)
        except InvalidInput as error:
            return _columns_page(upload, table, mapping, _fault_text(error)), 422
        uploads.mappings.save(upload.kind, table.columns, mapping)
    elif upload.stage == "checked":
        upload = replace(upload, confirmed=True, in_waves=False)
    if upload.stage not in {"done", "waves"}:
        start_job(uploads, upload, engine, tell_uploader(services()))
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.post("/experiments/<key:key>/files/<upload_id>/sent")
@needs("manager")
def report_upload_sent(key: str, upload_id: str) -> ResponseReturnValue:
    """Report the emails of a file's choices as sent: their clocks start now."""
    uploads, engine = upload_folder(), services().engine
    upload = uploads.find(key, upload_id)
    waits = engine.store.experiments.record(key).configuration.experiment.await_activation
    if upload.kind == "recipients" and upload.stage == "done" and waits and not upload.sent:
        start_job(uploads, replace(upload, sent=True), engine)
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.post("/experiments/<key:key>/files/<upload_id>/columns")
@needs("manager")
def reset_columns(key: str, upload_id: str) -> ResponseReturnValue:
    """Return a refused or checked file to the choice of its columns."""
    uploads = upload_folder()
    upload = uploads.find(key, upload_id)
    if upload.stage in {"refused", "checked"}:
        again = {"total": 0, "done": 0, "written": 0, "version": 0, "faults": (), "check": None}
        uploads.save(replace(upload, stage="new", **again))
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.get("/experiments/<key:key>/files/<upload_id>/answer.csv")
@needs("manager")
def answer_csv(key: str, upload_id: str) -> ResponseReturnValue:
    """Download the chosen variants, to the byte or for a spreadsheet; or rows without a match."""
    uploads = upload_folder()
    upload = uploads.find(key, upload_id)
    if upload.stage != "done":
        raise NotFound("answer", upload_id)
    suffix = "choices" if upload.kind == "recipients" else "not-counted"
    if request.args.get("for") == "spreadsheet":
        return csv_download(
            spreadsheet_lines(uploads.answer(upload)), f"{key}-{suffix}-spreadsheet"
        )
    response = csv_download(read_file(uploads.answer(upload)), f"{key}-{suffix}")
    response.content_length = upload.written
    return response


@pages.get("/experiments/<key:key>/files/<upload_id>/report.csv")
@needs("manager")
def report_csv(key: str, upload_id: str) -> ResponseReturnValue:
    """Download the rows that do not fit: row, column, value and reason."""
    uploads = upload_folder()
    upload = uploads.find(key, upload_id)
    path = uploads.report(upload)
    if upload.check is None or not path.exists():
        raise NotFound("report", upload_id)
    return csv_download(iter([BOM, path.read_bytes()]), f"{key}-left-out")


@pages.post("/experiments/<key:key>/files/<upload_id>/remove")
@needs("manager")
def remove_upload(key: str, upload_id: str) -> ResponseReturnValue:
    """Remove a file and its answer; decisions and rewards stay."""
    uploads = upload_folder()
    upload = uploads.find(key, upload_id)
    if uploads.is_worked_on(upload):
        flash(f"{upload.name} is being worked through; remove it once that is done.")
        return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
    uploads.remove(upload)
    flash(f"{upload.name} is removed. What was decided or reported with it stays.")
    return redirect(url_for("pages.files", key=key))


def _progress_page(upload: Upload) -> str:
    uploads = upload_folder()
    idle = upload.stage == "working" and not uploads.is_worked_on(upload)
    if idle:  # it may just have ended
        upload = uploads.find(upload.experiment, upload.id)
    record = services().engine.store.experiments.record(upload.experiment)
    return render_template(
        "experiment/upload.html",
        record=record,
        upload=upload,
        cut_off=upload.stage == "working" and idle,
        plan=first_plan(record),
        gap_units=GAP_UNITS,
        too_soon=too_soon(record, upload.waves),
        due=_is_due(record, upload),
        tab="files",
    )


def _is_due(record: ExperimentRecord, upload: Upload) -> bool:
    """Return True where a wave is being chosen for, or will be within seconds."""
    now, chooses = services().engine.clock(), record.state == "running"
    due = chooses and due_wave(upload.waves, now) is not None
    return due or any(wave.stage == "working" for wave in upload.waves)


def _columns_page(upload: Upload, table: Table, mapping: ColumnMapping, wrong: str = "") -> str:
    record = services().engine.store.experiments.record(upload.experiment)
    experiment = record.configuration.experiment
    try:
        portion = next(table.portions([], _SHOWN, reject=_ignore, whole=True), None)
        mapping, questions = settle_forms(
            mapping, table, experiment, results=upload.kind == "results"
        )
    except InvalidInput as error:
        portion, questions, wrong = None, None, wrong or _fault_text(error)
    rows = zip(*portion.whole, strict=True) if portion else ()
    preview = None
    try:
        preview = _preview(upload, table, mapping, experiment)
    except InvalidInput as error:
        preview_wrong = _fault_text(error)
    else:
        preview_wrong = ""
    return render_template(
        "experiment/columns.html",
        record=record,
        upload=upload,
        columns=table.columns,
        notes=table.notes,
        mapping=mapping,
        rows=[[_short(cell) for cell in row] for row in rows],
        questions=questions,
        preview=preview,
        preview_wrong=preview_wrong,
        n_previewed=PREVIEWED,
        exports=[e for e in EXPORTS if e.kind == upload.kind],
        export=KnownColumns(table.columns).export(upload.kind),
        remembered=upload_folder().mappings.find(upload.kind, table.columns) is not None,
        adds_up=[m for m in mapping.metrics if experiment.reward.event(m).count == "sum"],
        zones=_zones(),
        encodings=ENCODINGS,
        encoding=getattr(table, "encoding", None),
        delimiters=_DELIMITERS,
        wrong=wrong,
        tab="files",
    )


def _ignore(_: object) -> None:
    """Leave out what the check of the whole file tells."""


@cache
def _zones() -> list[str]:
    zones = available_timezones()
    return [*sorted(z for z in zones if "/" in z and not z.startswith("Etc/")), "UTC"]


def _preview(
    upload: Upload, table: Table, mapping: ColumnMapping, experiment: Experiment
) -> list[list[str]]:
    """Return the first rows as they are understood, a header first."""
    if upload.kind == "recipients":
        columns = RecipientColumns(
            mapping.id_column, {f: c or None for f, c in mapping.features.items()}
        )
        return preview_recipients(table, experiment, columns, mapping.forms)
    now = datetime.fromtimestamp(services().engine.clock(), UTC)
    return preview_results(
        table, experiment, _events(mapping), mapping.id_column, mapping.forms, now
    )


def _short(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _first_mapping(upload: Upload, table: Table, experiment: Experiment) -> ColumnMapping:
    """Return the mapping that a form begins with: chosen by name, remembered, or guessed."""
    uploads = upload_folder()
    mapping = guess_mapping(upload.kind, table.columns, experiment)
    mapping = replace(mapping, zone=uploads.mappings.zone)
    export = find_export(request.args.get("export", ""), upload.kind)
    if export is not None:
        return apply_export(mapping, export, table)
    remembered = uploads.mappings.find(upload.kind, table.columns)
    if remembered is not None:
        return known_mapping(remembered, table, experiment)
    export = KnownColumns(table.columns).export(upload.kind)
    return mapping if export is None else apply_export(mapping, export, table)


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
        every_row=form.get("every_row", ""),
        zone=form.get("zone", ""),
        day=form.get("day", ""),
        decimal=form.get("decimal", ""),
        totals=form.get("numbers") == "totals",
        anew="anew" in form,
        contents="contents" in form,
        own="own" in form,
        one_each=form.get("repeats") != "each",
        in_waves=form.get("send") == "waves",
    )


def _submitted_format() -> TableFormat:
    """Read how the file is written from the form; None for what is to be found."""
    encoding, delimiter = request.form.get("encoding", ""), request.form.get("delimiter", "")
    by_name = {name: sign for sign, name in _DELIMITERS.items()}
    return TableFormat(encoding if encoding in ENCODINGS else None, by_name.get(delimiter))


def _settled(
    upload: Upload, table: Table, mapping: ColumnMapping, experiment: Experiment
) -> ColumnMapping:
    """Return a mapping whose forms are complete, as far as the first rows tell.

    Raises:
        InvalidInput: something has to be said.
    """
    if mapping.zone and not is_zone(mapping.zone):
        raise InvalidInput.at("", "Choose a time zone from the list.")
    mapping, questions = settle_forms(mapping, table, experiment, results=upload.kind == "results")
    if questions.zone:
        detail = f"Choose the time zone of this file: the times in “{questions.zone}” name none."
        raise InvalidInput.at("", detail)
    if questions.day:
        detail = f"Choose how dates are written: those in “{questions.day}” may be two dates."
        raise InvalidInput.at("", detail)
    return mapping


def _with_mapping(
    upload: Upload, table: Table, mapping: ColumnMapping, experiment: Experiment
) -> Upload:
    """Return the upload with the mapping.

    Raises:
        InvalidInput: a column is missing.
    """
    if not mapping.id_column:
        raise InvalidInput.at("", "Choose the column that says who each row is.")
    if table.columns.count(mapping.id_column) > 1:
        count = table.columns.count(mapping.id_column)
        raise InvalidInput.at("", f"{count} columns are called “{mapping.id_column}”: rename one.")
    forms = mapping.forms
    upload = replace(upload, forms=forms, confirmed=False, check=None)
    if upload.kind == "recipients":
        columns = RecipientColumns(
            mapping.id_column, {f: c or None for f, c in mapping.features.items()}
        )
        RecipientFile(table, experiment, columns, forms)
        return replace(
            upload,
            columns=columns,
            anew=mapping.anew,
            contents=mapping.contents,
            own=mapping.own,
            one_each=mapping.one_each,
            in_waves=mapping.in_waves,
            waves=(),
        )
    events = _events(mapping)
    upload = replace(upload, events=events, totals=mapping.totals and not mapping.in_rows)
    if mapping.by_subject:
        matcher = SubjectMatcher(table, mapping.id_column, lambda names, _: [None] * len(names))
        RewardExport(matcher, experiment, events, forms)
        return replace(upload, subject=mapping.id_column)
    RewardExport(table, experiment, events, forms)
    return replace(upload, subject=None)


def _events(mapping: ColumnMapping) -> EventColumns:
    extra = {name: column or None for name, column in mapping.extra.items()}
    decision = FOUND if mapping.by_subject else mapping.id_column
    times = extra["occurred_at"], extra["as_of"]
    if not mapping.in_rows:
        metrics = {metric: column for metric, column in mapping.metrics.items() if column}
        return EventColumns(decision, metrics, None, None, None, *times)
    every_row = None if extra["metric"] else mapping.every_row or None
    return EventColumns(
        decision, {}, extra["metric"], extra["value"], extra["event"], *times, every_row
    )


def _fault_text(error: InvalidInput) -> str:
    return "; ".join(fault.detail for fault in error.faults)

"""Pages of a list that is sent in waves: its plan, its waves, and what can be done with them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import InvalidInput, NotFound
from bandits.experiment import DAY
from bandits.store.values import ExperimentRecord
from webapp.jobs.uploads import Upload
from webapp.jobs.wave_job import start_reporting, start_wave
from webapp.jobs.waves import LEAST_GAP_SECONDS, Wave, WavePlan, cancelled, moved
from webapp.notices.file_alerts import tell_uploader
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.upload_folder import (
    csv_download,
    read_file,
    spreadsheet_lines,
    upload_folder,
)
from webapp.services import services

GAP_UNITS = {"minutes": 60.0, "hours": 3600.0, "days": DAY}
_WAVES = "/experiments/<key:key>/files/<upload_id>/waves"
_FIRST = {"waves": "4", "first": "25", "start/local": "", "start/offset": "0"}


class TypedWaves(Struct, frozen=True):
    """A plan as it is typed, and what is wrong with it, by field."""

    fields: Mapping[str, str]
    errors: Mapping[str, str] = {}


def first_plan(record: ExperimentRecord) -> TypedWaves:
    """Return a plan to begin with: four waves, each after the results of the one before."""
    maturity = record.configuration.experiment.reward.maturity
    unit = "days" if maturity >= DAY else "hours"
    gap = max(1, -(-int(maturity) // int(GAP_UNITS[unit])))
    return TypedWaves({**_FIRST, "gap": str(gap), "unit": unit})


def too_soon(record: ExperimentRecord, waves: tuple[Wave, ...]) -> list[float | None]:
    """Return for each wave when results of the one before count, if that is after its time."""
    maturity = record.configuration.experiment.reward.maturity
    later: list[float | None] = [None]
    for before, wave in pairwise(waves):
        counts_at = (before.prepared_at or before.at) + maturity
        later.append(counts_at if wave.stage == "waiting" and wave.at < counts_at else None)
    return later


def _typed_plan() -> tuple[WavePlan, TypedWaves]:
    """Read a plan from the form; what cannot be read is among the errors."""
    fields = {name: request.form.get(name, "").strip() for name in (*_FIRST, "gap", "unit")}
    fields["best"] = request.form.get("best", "")
    errors: dict[str, str] = {}

    def number(name: str) -> float:
        try:
            value = float(fields[name].removesuffix("%").replace(",", "."))
        except ValueError:
            value = float("nan")
        if not 0 < value < 1e9:  # noqa: PLR2004 - what is beyond it is no plan
            errors[name] = "Enter a number above 0."
            return 1.0
        return value

    start = _typed_time(fields, errors)
    waves, first, gap = number("waves"), number("first"), number("gap")
    if "waves" not in errors and waves != int(waves):
        errors["waves"] = "Enter a whole number."
    seconds = gap * GAP_UNITS.get(fields["unit"], DAY)
    return WavePlan(int(waves), first / 100, start, seconds), TypedWaves(fields, errors)


def _typed_time(fields: Mapping[str, str], errors: dict[str, str]) -> float:
    """Read the time in the form; now where it is empty."""
    text = fields["start/local"]
    if not text:
        return services().engine.clock()
    try:
        zone = timezone(timedelta(minutes=int(fields["start/offset"] or "0")))
        return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        errors["start"] = "Enter a date and a time, or leave it empty to begin now."
        return services().engine.clock()


@pages.post(_WAVES)
@needs("manager")
def plan_waves(key: str, upload_id: str) -> ResponseReturnValue:
    """Plan the waves of a list that is checked; the first one may be chosen for at once."""
    upload = upload_folder().find(key, upload_id)
    if upload.stage != "checked" or upload.kind != "recipients" or upload.check is None:
        return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
    engine = services().engine
    plan, typed = _typed_plan()
    try:
        waves = plan.deal(upload.check.recipients, now=engine.clock())
    except InvalidInput as error:
        faults = {fault.pointer.removeprefix("/"): fault.detail for fault in error.faults}
        typed = replace(typed, errors=faults | dict(typed.errors))
        waves = ()
    if typed.errors:
        record = engine.store.experiments.record(key)
        page = render_template(
            "experiment/upload.html",
            record=record,
            upload=upload,
            cut_off=False,
            plan=typed,
            gap_units=GAP_UNITS,
            tab="files",
        )
        return page, 422
    planned = {"waves": waves, "best_last": typed.fields["best"] == "yes", "confirmed": True}
    total = upload.check.usable
    upload = replace(upload, stage="waves", done=0, total=total, **planned)
    upload_folder().save(upload)
    if waves[0].at <= engine.clock():
        start_wave(upload_folder(), upload, engine, 0, tell_uploader(services()))
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


def _find(key: str, upload_id: str) -> Upload:
    """Find a list that has waves.

    Raises:
        NotFound: there is none.
    """
    upload = upload_folder().find(key, upload_id)
    if not upload.waves:
        raise NotFound("plan", upload_id)
    return upload


def _wave(upload: Upload, number: int) -> Wave:
    """Return a wave by its number on the page.

    Raises:
        NotFound: there is none.
    """
    if not 1 <= number <= len(upload.waves):
        raise NotFound("wave", str(number))
    return upload.waves[number - 1]


@pages.post(f"{_WAVES}/<int:number>/prepare")
@needs("manager")
def prepare_wave_now(key: str, upload_id: str, number: int) -> ResponseReturnValue:
    """Choose for the next wave now, whatever its time."""
    upload = _find(key, upload_id)
    if _wave(upload, number).is_open:
        start_wave(
            upload_folder(), upload, services().engine, number - 1, tell_uploader(services())
        )
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.post(f"{_WAVES}/move")
@needs("manager")
def move_waves(key: str, upload_id: str) -> ResponseReturnValue:
    """Move the next wave to another time, and those after it by as much."""
    upload, folder = _find(key, upload_id), upload_folder()
    errors: dict[str, str] = {}
    fields = {name: request.form.get(name, "") for name in ("start/local", "start/offset")}
    to, now = _typed_time(fields, errors), services().engine.clock()
    lock = folder.hold(upload)
    if lock is None:
        flash("A wave is being prepared. Move the others once it is ready.")
        return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
    with lock:
        upload = folder.find(key, upload_id)
        waiting = [wave for wave in upload.waves if wave.stage == "waiting"]
        if errors or not fields["start/local"]:
            flash("Nothing was moved: enter a date and a time.")
        elif waiting and to < now - LEAST_GAP_SECONDS:
            flash("Nothing was moved: that time is over.")
        elif waiting:
            folder.save(replace(upload, waves=moved(upload.waves, to - waiting[0].at)))
            flash("The waves that wait are moved.")
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.post(f"{_WAVES}/cancel")
@needs("manager")
def cancel_waves(key: str, upload_id: str) -> ResponseReturnValue:
    """Choose for none of the waves that remain; what was chosen stays."""
    folder = upload_folder()
    lock = folder.hold(_find(key, upload_id))
    if lock is None:
        flash("A wave is being prepared. Cancel the others once it is ready.")
        return redirect(url_for("pages.upload", key=key, upload_id=upload_id))
    with lock:
        upload = folder.find(key, upload_id)
        folder.save(replace(upload, waves=cancelled(upload.waves), stage="done"))
    flash("The waves that remained are cancelled.")
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.post(f"{_WAVES}/<int:number>/sent")
@needs("manager")
def report_wave(key: str, upload_id: str, number: int) -> ResponseReturnValue:
    """Report the emails of a wave as sent: their clocks start now."""
    upload = _find(key, upload_id)
    waits = (
        services().engine.store.experiments.record(key).configuration.experiment.await_activation
    )
    wave = _wave(upload, number)
    if wave.stage == "ready" and waits:
        start_reporting(upload_folder(), upload, services().engine, number - 1)
    return redirect(url_for("pages.upload", key=key, upload_id=upload_id))


@pages.get(f"{_WAVES}/<int:number>/answer.csv")
@needs("manager")
def wave_csv(key: str, upload_id: str, number: int) -> ResponseReturnValue:
    """Download the choices of a wave, to the byte or for a spreadsheet."""
    upload = _find(key, upload_id)
    wave = _wave(upload, number)
    path = upload_folder().answer(upload, number - 1)
    if wave.stage != "ready" or not path.exists():
        raise NotFound("answer", upload_id)
    name = f"{key}-wave-{number}"
    if request.args.get("for") == "spreadsheet":
        return csv_download(spreadsheet_lines(path), f"{name}-spreadsheet")
    response = csv_download(read_file(path), name)
    response.content_length = wave.written
    return response

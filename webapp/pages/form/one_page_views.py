"""Pages of the form on one page: to create an experiment and to edit one."""

from collections.abc import Sequence

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec.structs import replace

from bandits.errors import AlreadyExists, Fault, FixedOnceStarted, InvalidInput, StaleEdit
from bandits.store.values import ExperimentRecord
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.form import form_model, rows
from webapp.pages.form.field_paths import in_order, title_of
from webapp.pages.form.fields import methods
from webapp.pages.form.form_model import TypedExperiment
from webapp.pages.form.from_experiment import fill_form
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.payload_edits import PayloadChange, resolve_edits
from webapp.pages.form.submit import with_key
from webapp.pages.form.validate import map_faults
from webapp.pages.formatting import UNITS
from webapp.services import services


@pages.get("/new-experiment/one-page")
@needs("manager")
def one_page_form() -> ResponseReturnValue:
    """Show the form for a new experiment."""
    return _form_page(form_model.new_form(TypedExperiment))


@pages.post("/new-experiment/one-page")
@needs("manager")
def create_experiment() -> ResponseReturnValue:
    """Change the form's rows, or create the draft that it declares."""
    form, action = _submitted_form(), request.form.get("do", "save")
    if action != "save":
        return _form_page(*rows.change_rows(form, action))
    form = rows.without_empty_rows(form)
    try:
        experiment = parse_experiment(with_key(form))
        record = services().engine.create(experiment, by=person().email)
    except InvalidInput as error:
        return _form_page(form, error.faults)
    except AlreadyExists as error:
        return _form_page(form, [Fault("key", f"there is an experiment {error.key!r} already")])
    flash(f"{experiment.title} is saved as a draft. Look through it, then start.")
    return redirect(url_for("pages.experiment", key=record.key))


@pages.get("/experiments/<key:key>/edit")
@needs("manager")
def edit(key: str) -> ResponseReturnValue:
    """Show the form of an experiment."""
    record = services().engine.store.experiments.record(key)
    return _form_page(fill_form(record.configuration), record=record)


@pages.post("/experiments/<key:key>/edit")
@needs("manager")
def save_edit(key: str) -> ResponseReturnValue:
    """Change the form's rows, or save the declaration."""
    engine = services().engine
    record = engine.store.experiments.record(key)
    form, action = replace(_submitted_form(), key=key), request.form.get("do", "save")
    if action != "save":
        return _form_page(*rows.change_rows(form, action), record=record)
    form = rows.without_empty_rows(form)
    if record.started:
        form, unclear = resolve_edits(fill_form(record.configuration), form, request.form)
        if unclear:
            return _form_page(form, record=record, unclear=unclear)
    version = int(form.version) if form.version.isdecimal() else 0
    try:
        engine.edit(key, parse_experiment(form), version=version, by=person().email)
    except StaleEdit as error:
        # One warning is enough: the form carries the current version, so a second save is taken.
        return _form_page(replace(form, version=str(error.current)), record=record, stale=True)
    except FixedOnceStarted as error:
        return _form_page(form, map_faults(error.faults, form), record=record)
    except InvalidInput as error:
        return _form_page(form, error.faults, record=record)
    flash("Your changes are saved.")
    return redirect(url_for("pages.experiment", key=key))


def _submitted_form() -> TypedExperiment:
    return form_model.read_fields(request.form.items(), TypedExperiment)


def _form_page(
    form: TypedExperiment,
    faults: Sequence[Fault] = (),
    *,
    record: ExperimentRecord | None = None,
    stale: bool = False,
    unclear: Sequence[PayloadChange] = (),
) -> ResponseReturnValue:
    errors = {f.pointer: f.detail for f in reversed(faults)}
    page = render_template(
        "form/one_page.html",
        form=rows.with_empty_rows(form),
        errors=errors,
        summary=[(f, title_of(f, form), errors[f]) for f in in_order(errors)],
        record=record,
        stale=stale,
        unclear=unclear,
        kinds=form_model.KINDS,
        metrics=form_model.METRICS,
        units=list(UNITS),
        methods=methods(),
        changed_by=_last_editor(record) if stale and record else None,
    )
    return page, 422 if faults or unclear else 409 if stale else 200


def _last_editor(record: ExperimentRecord) -> str:
    changes = services().accounts.changes(subject=f"experiment:{record.key}", limit=1)
    return changes[0].by if changes else ""

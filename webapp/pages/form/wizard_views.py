"""Pages of the form in five steps; each saves its fields, also those that do not fit yet."""

from collections.abc import Sequence

import msgspec
from flask import Response, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec.structs import replace

from bandits.errors import Fault, InvalidInput, NotFound, StaleEdit
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.form import advice, form_model, prior_campaigns, rows, steps
from webapp.pages.form.draft_store import DraftConflict, DraftService, SavedDraft, draft_title
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.from_experiment import fill_form
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.plan import read_plan
from webapp.pages.form.proposal_drafts import open_proposals
from webapp.pages.form.render import StepView, differences, render_step
from webapp.pages.form.steps import STEPS
from webapp.pages.form.submit import draft_faults, submit, with_key
from webapp.services import services

FIRST, *_, LAST = STEPS


@pages.get("/new-experiment")
@needs("manager")
def new_experiment() -> ResponseReturnValue:
    """Show the first step; nothing is stored before something is typed."""
    others = tuple((d, draft_title(d.form)) for d in draft_service().all())
    return render_step(StepView(None, form_model.new_form(TypedDraft), FIRST, others=others))


@pages.post("/new-experiment")
@needs("manager")
def create_draft() -> ResponseReturnValue:
    """Store the first step as a new draft."""
    form, blank = _submitted_form(), form_model.new_form(TypedDraft)
    form = steps.merge_step(blank, form, FIRST)
    action = _action()
    if action != "autosave":
        form = steps.mark_visited(form, FIRST)
    drafts = draft_service()
    return _go_on(drafts, drafts.add(form), FIRST, action)


@pages.post("/experiments/<key:key>/steps")
@needs("manager")
def create_edit_draft(key: str) -> ResponseReturnValue:
    """Open an experiment's declaration in a draft, to edit it step by step."""
    drafts = draft_service()
    own = (d for d in drafts.all() if d.form.edits == key and not d.form.proposed_by)
    draft = next(own, None)
    if draft is None:
        record = services().engine.store.experiments.record(key)
        declared = msgspec.to_builtins(fill_form(record.configuration))
        seen = tuple(STEPS)[:-1]
        form = replace(msgspec.convert(declared, TypedDraft), edits=key, seen=seen)
        draft = drafts.add(form)
    return _redirect_to(draft, FIRST)


@pages.get(f"/drafts/<draft_id>/<any({','.join(STEPS)}):step>")
@needs("manager")
def draft_step(draft_id: str, step: str) -> ResponseReturnValue:
    """Show a step of a draft."""
    draft = draft_service().open(draft_id)
    return render_step(StepView(draft, draft.form, step))


@pages.post(f"/drafts/<draft_id>/<any({','.join(STEPS)}):step>")
@needs("manager")
def save_draft_step(draft_id: str, step: str) -> ResponseReturnValue:
    """Save a step, then do as its button says."""
    form, action, drafts = _submitted_form(), _action(), draft_service()
    try:
        done = action != "autosave"
        draft = drafts.save_step(draft_id, step, form, request.form.get("base", ""), done=done)
    except DraftConflict as error:
        return _conflict_page(error.draft, form, step)
    except NotFound:
        if action in {"start", "ready"}:
            flash("This draft was started or discarded a moment ago.")
            return redirect(url_for("pages.experiments"))
        draft = drafts.restart(step, form)
        flash(
            "The draft that you typed in was started or discarded in the meantime. What you typed"
            " is kept in this new one."
        )
    return _go_on(drafts, draft, step, action)


@pages.get("/drafts/<draft_id>/discard")
@needs("manager")
def confirm_discard(draft_id: str) -> ResponseReturnValue:
    """Ask for confirmation before a draft is discarded."""
    draft = draft_service().open(draft_id)
    return render_template("form/steps/discard.html", draft=draft, name=draft_title(draft.form))


@pages.post("/drafts/<draft_id>/discard")
@needs("manager")
def discard_draft(draft_id: str) -> ResponseReturnValue:
    """Discard a draft."""
    drafts = draft_service()
    name = draft_title(drafts.open(draft_id).form)
    drafts.end(draft_id)
    flash(f"The draft “{name}” is discarded.")
    return redirect(url_for("pages.experiments"))


@pages.app_template_global()
def waiting_proposals(key: str) -> list[SavedDraft]:
    """List the proposals of versions that wait for a person, the newest first."""
    return open_proposals(services().drafts, key)


@pages.app_template_global()
def unfinished_drafts() -> int:
    """Count the drafts."""
    return len(services().drafts.all())


def draft_service() -> DraftService:
    """Return the drafts in the name of the person who is signed in."""
    return DraftService(services().drafts, services().engine.clock(), person().email)


def _submitted_form() -> TypedDraft:
    return form_model.read_fields(request.form.items(), TypedDraft)


def _action() -> str:
    return request.form.get("do", "next")


def _redirect_to(draft: SavedDraft, step: str) -> ResponseReturnValue:
    return redirect(url_for("pages.draft_step", draft_id=draft.stored.id, step=step))


def _go_on(  # noqa: PLR0911 - one case for each button
    drafts: DraftService, draft: SavedDraft, step: str, action: str
) -> ResponseReturnValue:
    """Do as a step's button says, once the step is saved."""
    match action.split():
        case ["autosave"]:
            return _json_answer(
                200, base=steps.step_digest(draft.form, step), address=_address(draft, step)
            )
        case ["close"]:
            flash(f"“{draft_title(draft.form)}” is kept as a draft. Nothing is sent.")
            return redirect(url_for("pages.experiments"))
        case ["go", target] if target in STEPS:
            return _redirect_to(draft, target)
        case ["advise"]:
            form = advice.with_advice(draft.form)
            return _save_and_render(drafts, draft, form, step)
        case ["start" | "ready" as button]:
            return _submit(drafts, drafts.drop_empty_rows(draft), start=button == "start")
        case ["expect"]:
            return _save_and_render(
                drafts, draft, prior_campaigns.with_prior_rates(draft.form), step
            )
        case ["simulate" | "next"] if step == LAST:
            return _simulate(drafts.drop_empty_rows(draft))
        case ["next" | "save"]:
            draft = drafts.drop_empty_rows(draft)
            if step_faults := [
                f for f in draft_faults(draft.form) if steps.step_of(f.pointer) == step
            ]:
                return render_step(StepView(draft, draft.form, step, step_faults, status=422))
            return _redirect_to(draft, steps.next_step(step))
        case _:
            form, faults = rows.change_rows(draft.form, action)
            return _save_and_render(drafts, draft, form, step, faults)


def _save_and_render(
    drafts: DraftService,
    draft: SavedDraft,
    form: TypedDraft,
    step: str,
    faults: Sequence[Fault] = (),
) -> ResponseReturnValue:
    """Save a form that a button changed, and show it with the faults of that change."""
    try:
        draft = drafts.save(draft, form)
    except StaleEdit:  # somebody else saved a moment ago: that draft is shown instead
        draft = drafts.open(draft.stored.id)
    return render_step(StepView(draft, draft.form, step, faults, status=422 if faults else 200))


def _submit(drafts: DraftService, draft: SavedDraft, *, start: bool) -> ResponseReturnValue:
    """Submit the draft, or show its faults."""
    try:
        record = submit(drafts, draft, start=start)
    except InvalidInput as error:
        draft = drafts.open(draft.stored.id)
        return render_step(StepView(draft, draft.form, "start", error.faults, status=422))
    title = record.configuration.experiment.title
    if start:
        flash(f"{title} is now running.")
    elif record.started:
        flash(f"{title} is changed: the version takes part from now on.")
    else:
        flash(f"{title} is ready. Nothing is sent yet.")
    return redirect(url_for("pages.experiment", key=record.key))


def _simulate(draft: SavedDraft) -> ResponseReturnValue:
    """Redirect to the plan's simulation, or show the plan's faults."""
    faults = draft_faults(draft.form)
    if not faults:
        try:
            read_plan(draft.form, parse_experiment(with_key(draft.form)))
        except InvalidInput as error:
            faults = error.faults
    if faults:
        return render_step(StepView(draft, draft.form, LAST, faults, status=422))
    return redirect(
        url_for("pages.draft_step", draft_id=draft.stored.id, step=LAST, simulate="yes")
    )


def _conflict_page(draft: SavedDraft, form: TypedDraft, step: str) -> ResponseReturnValue:
    """Show the fields that somebody else saved beside those of this form, not saved yet."""
    if _action() == "autosave":
        return _json_answer(409, by=draft.stored.changed_by)
    merged = steps.merge_step(draft.form, form, step)
    return render_step(
        StepView(draft, merged, step, conflicts=differences(merged, draft.form, step), status=409)
    )


def _address(draft: SavedDraft, step: str) -> str:
    return url_for("pages.draft_step", draft_id=draft.stored.id, step=step)


def _json_answer(status: int, **content: str) -> ResponseReturnValue:
    return Response(msgspec.json.encode(content), status, content_type="application/json")

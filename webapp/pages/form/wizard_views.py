"""The way to an experiment in five steps; each saves what is typed, whether or not it fits yet."""

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
from webapp.pages.form.from_experiment import retype
from webapp.pages.form.parse import declare
from webapp.pages.form.plan import read_plan
from webapp.pages.form.render import StepView, differences, show
from webapp.pages.form.steps import STEPS
from webapp.pages.form.submit import conclude, faults_of, with_key
from webapp.services import services

FIRST, *_, LAST = STEPS


@pages.get("/new-experiment")
@needs("manager")
def new_experiment() -> ResponseReturnValue:
    """Show the first step; nothing is kept before something is typed."""
    others = tuple((k, draft_title(k.form)) for k in keeper_of().listed())
    return show(StepView(None, form_model.fresh(TypedDraft), FIRST, others=others))


@pages.post("/new-experiment")
@needs("manager")
def create_draft() -> ResponseReturnValue:
    """Keep what was typed at the first step as a new draft."""
    given, blank = _given(), form_model.fresh(TypedDraft)
    form = steps.merged(blank, given, FIRST)
    action = _action()
    if action != "autosave":
        form = steps.visited(form, FIRST)
    keeper = keeper_of()
    return _go_on(keeper, keeper.add(form), FIRST, action)


@pages.post("/experiments/<key:key>/steps")
@needs("manager")
def create_edit_draft(key: str) -> ResponseReturnValue:
    """Go through an experiment's declaration step by step, in a draft of its own."""
    keeper = keeper_of()
    kept = next((k for k in keeper.listed() if k.form.edits == key), None)
    if kept is None:
        record = services().engine.store.experiments.record(key)
        declared = msgspec.to_builtins(retype(record.configuration))
        seen = tuple(STEPS)[:-1]
        form = replace(msgspec.convert(declared, TypedDraft), edits=key, seen=seen)
        kept = keeper.add(form)
    return _to(kept, FIRST)


@pages.get(f"/drafts/<draft_id>/<any({','.join(STEPS)}):step>")
@needs("manager")
def draft_step(draft_id: str, step: str) -> ResponseReturnValue:
    """Show a step as it was left."""
    kept = keeper_of().open(draft_id)
    return show(StepView(kept, kept.form, step))


@pages.post(f"/drafts/<draft_id>/<any({','.join(STEPS)}):step>")
@needs("manager")
def save_draft_step(draft_id: str, step: str) -> ResponseReturnValue:
    """Save a step, then do what the button said."""
    given, action, keeper = _given(), _action(), keeper_of()
    try:
        done = action != "autosave"
        kept = keeper.keep_step(draft_id, step, given, request.form.get("base", ""), done=done)
    except DraftConflict as error:
        return _both(error.kept, given, step)
    except NotFound:
        if action in {"start", "ready"}:
            flash("This draft was started or discarded a moment ago.")
            return redirect(url_for("pages.experiments"))
        kept = keeper.start_over(step, given)
        flash(
            "The draft that you typed in was started or discarded in the meantime. What you typed"
            " is kept in this new one."
        )
    return _go_on(keeper, kept, step, action)


@pages.get("/drafts/<draft_id>/discard")
@needs("manager")
def confirm_discard(draft_id: str) -> ResponseReturnValue:
    """Ask before a draft is thrown away."""
    kept = keeper_of().open(draft_id)
    return render_template("form/steps/discard.html", kept=kept, name=draft_title(kept.form))


@pages.post("/drafts/<draft_id>/discard")
@needs("manager")
def discard_draft(draft_id: str) -> ResponseReturnValue:
    """Throw a draft away."""
    keeper = keeper_of()
    name = draft_title(keeper.open(draft_id).form)
    keeper.end(draft_id)
    flash(f"The draft “{name}” is discarded.")
    return redirect(url_for("pages.experiments"))


@pages.app_template_global()
def unfinished_drafts() -> int:
    """Count the drafts that somebody could go on with."""
    return len(services().drafts.all())


def keeper_of() -> DraftService:
    """Make a keeper for who is signed in."""
    return DraftService(services().drafts, services().engine.clock(), person().email)


def _given() -> TypedDraft:
    return form_model.read(request.form.items(), TypedDraft)


def _action() -> str:
    return request.form.get("do", "next")


def _to(kept: SavedDraft, step: str) -> ResponseReturnValue:
    return redirect(url_for("pages.draft_step", draft_id=kept.draft.id, step=step))


def _go_on(  # noqa: PLR0911 - one case for each button
    keeper: DraftService, kept: SavedDraft, step: str, action: str
) -> ResponseReturnValue:
    """Do what a step's button says, once the step is saved."""
    match action.split():
        case ["autosave"]:
            return _told(200, base=steps.digest(kept.form, step), address=_address(kept, step))
        case ["close"]:
            flash(f"“{draft_title(kept.form)}” is kept as a draft. Nothing is sent.")
            return redirect(url_for("pages.experiments"))
        case ["go", target] if target in STEPS:
            return _to(kept, target)
        case ["advise"]:
            form = advice.followed(kept.form)
            return _rendered(keeper, kept, form, step)
        case ["start" | "ready" as how]:
            return _concluded(keeper, keeper.tidy(kept), start=how == "start")
        case ["expect"]:
            return _rendered(keeper, kept, prior_campaigns.expected(kept.form), step)
        case ["simulate" | "next"] if step == LAST:
            return _simulated(keeper.tidy(kept))
        case ["next" | "save"]:
            kept = keeper.tidy(kept)
            if own := [f for f in faults_of(kept.form) if steps.step_of(f.pointer) == step]:
                return show(StepView(kept, kept.form, step, own, status=422))
            return _to(kept, steps.after(step))
        case _:
            form, faults = rows.change_rows(kept.form, action)
            return _rendered(keeper, kept, form, step, faults)


def _rendered(
    keeper: DraftService,
    kept: SavedDraft,
    form: TypedDraft,
    step: str,
    faults: Sequence[Fault] = (),
) -> ResponseReturnValue:
    """Save a form that a button changed, and show it with the faults of that change."""
    try:
        kept = keeper.save(kept, form)
    except StaleEdit:  # somebody saved in this very moment: what is kept is shown instead
        kept = keeper.open(kept.draft.id)
    return show(StepView(kept, kept.form, step, faults, status=422 if faults else 200))


def _concluded(keeper: DraftService, kept: SavedDraft, *, start: bool) -> ResponseReturnValue:
    """Make the experiment, or say what is missing."""
    try:
        record = conclude(keeper, kept, start=start)
    except InvalidInput as error:
        kept = keeper.open(kept.draft.id)
        return show(StepView(kept, kept.form, "start", error.faults, status=422))
    title = record.configuration.experiment.title
    flash(f"{title}: it is running." if start else f"{title} is ready. Nothing is sent yet.")
    return redirect(url_for("pages.experiment", key=record.key))


def _simulated(kept: SavedDraft) -> ResponseReturnValue:
    """Turn to the plan's simulation, or say what the plan lacks."""
    faults = faults_of(kept.form)
    if not faults:
        try:
            read_plan(kept.form, declare(with_key(kept.form)))
        except InvalidInput as error:
            faults = error.faults
    if faults:
        return show(StepView(kept, kept.form, LAST, faults, status=422))
    return redirect(url_for("pages.draft_step", draft_id=kept.draft.id, step=LAST, simulate="yes"))


def _both(kept: SavedDraft, given: TypedDraft, step: str) -> ResponseReturnValue:
    """Show what somebody else saved, beside what was typed here, which is not saved yet."""
    if _action() == "autosave":
        return _told(409, by=kept.draft.changed_by)
    mine = steps.merged(kept.form, given, step)
    return show(StepView(kept, mine, step, theirs=differences(mine, kept.form, step), status=409))


def _address(kept: SavedDraft, step: str) -> str:
    return url_for("pages.draft_step", draft_id=kept.draft.id, step=step)


def _told(status: int, **content: str) -> ResponseReturnValue:
    return Response(msgspec.json.encode(content), status, content_type="application/json")

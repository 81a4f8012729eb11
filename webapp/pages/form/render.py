"""Rendering of a step's page: its fields, its open faults, and conflicting edits."""

from collections.abc import Sequence

import msgspec
from flask import render_template
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.errors import Fault
from bandits.machines import NEWEST_RULES
from webapp.pages import pages
from webapp.pages.form import advice, control_group_text, examples, form_model, steps
from webapp.pages.form.draft_store import SavedDraft, draft_title
from webapp.pages.form.field_paths import in_order, title_of
from webapp.pages.form.fields import methods
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.rows import with_empty_rows
from webapp.pages.form.start_step import start_step_context
from webapp.pages.form.steps import STEPS
from webapp.pages.form.submit import draft_faults
from webapp.pages.formatting import UNITS


class StepEntry(Struct, frozen=True):
    """A step in the list of steps: its number of open faults, None before its first visit."""

    name: str
    question: str
    to_do: int | None


class StepView(Struct, frozen=True):
    """A step's page.

    Attributes:
        draft: the stored draft; None before its first save.
        form: text of the fields; differs from the draft's after a conflict.
        step: name of the step.
        faults: faults to show beside the fields.
        conflicts: fields of this step that somebody else saved in the meantime.
        others: other drafts, and their titles.
        status: status of the answer.
    """

    draft: SavedDraft | None
    form: TypedDraft
    step: str
    faults: Sequence[Fault] = ()
    conflicts: tuple[tuple[str, str, str], ...] = ()
    others: tuple[tuple[SavedDraft, str], ...] = ()
    status: int = 200


def differences(
    form: TypedDraft, other_form: TypedDraft, step: str
) -> tuple[tuple[str, str, str], ...]:
    """List the fields of a step that differ in two forms: title, text, other text."""
    texts, others = _field_texts(form, step), _field_texts(other_form, step)
    rows = []
    for field in in_order(f for f in {*texts, *others} if texts.get(f, "") != others.get(f, "")):
        title = title_of(field, form if field in texts else other_form)
        rows.append((title, texts.get(field, ""), others.get(field, "")))
    return tuple(rows)


def _field_texts(form: TypedDraft, step: str) -> dict[str, str]:
    """Return the texts of a step's fields, by field."""
    texts: dict[str, str] = {}

    def visit(place: str, value: object) -> None:
        match value:
            case dict():
                for name, inner in value.items():
                    visit(f"{place}/{name}", inner)
            case list():
                for position, inner in enumerate(value):
                    visit(f"{place}/{position}", inner)
            case _:
                texts[place] = str(value)

    for name in STEPS[step].fields:
        visit(name, msgspec.to_builtins(getattr(form, name)))
    return texts


@pages.app_template_global()
def machine_rule_choices(chosen: str) -> list[tuple[str, str]]:
    """List the choices of rules against machines: the newest, an older one in use, or none."""
    newest = str(NEWEST_RULES)
    older = [(chosen, f"set them aside, by the rules of version {chosen}")]
    return [
        (newest, "set them aside"),
        *(older if chosen not in ("", newest) else []),
        ("", "count them too"),
    ]


def render_step(view: StepView) -> ResponseReturnValue:
    """Answer with the page of a step."""
    form, step, draft = with_empty_rows(view.form), view.step, view.draft
    errors = {f.pointer: f.detail for f in reversed(view.faults)}
    open_faults = draft_faults(form)
    page = render_template(
        f"form/steps/{step}.html",
        form=form,
        errors=errors,
        summary=[(f, title_of(f, form), errors[f], steps.step_of(f)) for f in in_order(errors)],
        view=view,
        step=step,
        base=steps.step_digest(draft.form if draft else view.form, step),
        entries=[_entry(name, form, open_faults) for name in STEPS],
        back=steps.previous_step(step),
        name=draft_title(form),
        record=None,
        kinds=form_model.KINDS,
        metrics=form_model.METRICS,
        units=list(UNITS),
        methods=methods(),
        others=view.others,
        **_step_context(form, step, open_faults),
    )
    return page, view.status


def _entry(name: str, form: TypedDraft, open_faults: Sequence[Fault]) -> StepEntry:
    to_do = sum(steps.step_of(f.pointer) == name for f in open_faults)
    return StepEntry(name, STEPS[name].question, to_do if name in form.seen else None)


def _step_context(form: TypedDraft, step: str, open_faults: Sequence[Fault]) -> dict[str, object]:
    match step:
        case "success":
            return {"worked_example": examples.worked_example(form)}
        case "audience":
            return {"control_group": control_group_text.usual_sentence(form)}
        case "learning":
            return {"advice": advice.advise(form)}
        case "start":
            titled_faults = [(f, title_of(f.pointer, form)) for f in open_faults]
            context: dict[str, object] = {"open_faults": titled_faults, "step_of": steps.step_of}
            return context if open_faults else context | start_step_context(form)
        case _:
            return {}

"""A step's page: its fields, what is still to be done, and what somebody else typed there."""

from collections.abc import Sequence

import msgspec
from flask import render_template
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.errors import Fault
from webapp.pages.form import advice, examples, form_model, steps
from webapp.pages.form.draft_store import SavedDraft, draft_title
from webapp.pages.form.field_mapping import in_order, title_of
from webapp.pages.form.fields import methods
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.rows import with_empty_rows
from webapp.pages.form.start_step import foreseen
from webapp.pages.form.steps import STEPS
from webapp.pages.form.submit import faults_of
from webapp.pages.formatting import UNITS


class FieldEntry(Struct, frozen=True):
    """A step in the list of steps: what is still to be done there, None where nobody was yet."""

    name: str
    question: str
    to_do: int | None


class StepView(Struct, frozen=True):
    """A step's page.

    Attributes:
        kept: the draft; None before anything was typed.
        form: what the fields say; not what is kept, where somebody else saved in between.
        step: which one.
        faults: what to say beside the fields.
        theirs: what somebody else saved at this step in the meantime.
        others: drafts to go on with instead.
        status: of the answer.
    """

    kept: SavedDraft | None
    form: TypedDraft
    step: str
    faults: Sequence[Fault] = ()
    theirs: tuple[tuple[str, str, str], ...] = ()
    others: tuple[tuple[SavedDraft, str], ...] = ()
    status: int = 200


def differences(
    mine: TypedDraft, theirs: TypedDraft, step: str
) -> tuple[tuple[str, str, str], ...]:
    """List a step's fields that two people typed differently: title, mine, theirs."""
    own, other = (_leaves(form, step) for form in (mine, theirs))
    found = []
    for field in in_order({f for f in {*own, *other} if own.get(f, "") != other.get(f, "")}):
        longer = mine if field in own else theirs
        found.append((title_of(field, longer), own.get(field, ""), other.get(field, "")))
    return tuple(found)


def _leaves(form: TypedDraft, step: str) -> dict[str, str]:
    """Name everything that a step's fields say."""
    found: dict[str, str] = {}

    def visit(place: str, value: object) -> None:
        match value:
            case dict():
                for name, inner in value.items():
                    visit(f"{place}/{name}", inner)
            case list():
                for position, inner in enumerate(value):
                    visit(f"{place}/{position}", inner)
            case _:
                found[place] = str(value)

    for name in STEPS[step].fields:
        visit(name, msgspec.to_builtins(getattr(form, name)))
    return found


def show(shown: StepView) -> ResponseReturnValue:
    """Answer with the page."""
    form, step, kept = with_empty_rows(shown.form), shown.step, shown.kept
    errors = {f.pointer: f.detail for f in reversed(shown.faults)}
    everything = faults_of(form)
    page = render_template(
        f"form/steps/{step}.html",
        form=form,
        errors=errors,
        summary=[(f, title_of(f, form), errors[f], steps.step_of(f)) for f in in_order(errors)],
        shown=shown,
        step=step,
        base=steps.digest(kept.form if kept else shown.form, step),
        entries=[_entry(name, form, everything) for name in STEPS],
        back=steps.before(step),
        name=draft_title(form),
        record=None,
        kinds=form_model.KINDS,
        metrics=form_model.METRICS,
        units=list(UNITS),
        methods=methods(),
        others=shown.others,
        **_extras(form, step, everything),
    )
    return page, shown.status


def _entry(name: str, form: TypedDraft, everything: Sequence[Fault]) -> FieldEntry:
    to_do = sum(steps.step_of(f.pointer) == name for f in everything)
    return FieldEntry(name, STEPS[name].question, to_do if name in form.seen else None)


def _extras(form: TypedDraft, step: str, everything: Sequence[Fault]) -> dict[str, object]:
    match step:
        case "success":
            return {"worked": examples.worked_example(form)}
        case "learning":
            return {"advised": advice.advise(form)}
        case "start":
            said = [(f, title_of(f.pointer, form)) for f in everything]
            extras: dict[str, object] = {"everything": said, "where": steps.step_of}
            return extras if everything else extras | foreseen(form)
        case _:
            return {}

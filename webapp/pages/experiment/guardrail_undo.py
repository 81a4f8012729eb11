"""Pages that undo what a guardrail did."""

from flask import flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import NotFound
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.experiment.guardrail_text import GuardrailNote, guardrail_note
from webapp.services import services


@pages.get("/experiments/<key:key>/guardrails/<int(max=2147483647):number>/undo")
@needs("manager")
def confirm_guardrail_undo(key: str, number: int) -> ResponseReturnValue:
    """Ask for confirmation before what a guardrail did is undone."""
    record = services().engine.store.experiments.record(key)
    return render_template(
        "experiment/confirm_guardrail_undo.html", record=record, note=_note(key, number)
    )


@pages.post("/experiments/<key:key>/guardrails/<int(max=2147483647):number>/undo")
@needs("manager")
def undo_guardrail(key: str, number: int) -> ResponseReturnValue:
    """Undo what a guardrail did."""
    note = _note(key, number)
    services().engine.undo_guardrail(key, number, by=person().email)
    again = "It is sent again, and counted" if note.pauses else "It is counted"
    flash(f"{again} anew for that guardrail.")
    return redirect(url_for("pages.experiment", key=key))


def _note(key: str, number: int) -> GuardrailNote:
    """Find an act that nobody has undone.

    Raises:
        NotFound: there is none of this number.
    """
    engine = services().engine
    experiment = engine.store.experiments.record(key).configuration.experiment
    for act in engine.results(key).guardrails.acts:
        if act.number == number and not act.undone:
            return guardrail_note(experiment, act)
    raise NotFound("act of a guardrail", f"{key}/{number}")

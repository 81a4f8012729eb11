"""Why this email? One decision, explained."""

import re

from flask import redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import NotFound
from bandits.experiment import Experiment
from bandits.schemas import DecisionReceipt
from webapp.api.converters import DecisionIdConverter
from webapp.pages.access import needs
from webapp.pages.blueprint import pages
from webapp.pages.experiment.contributions import (
    PredictionView,
    contribution_views,
    prediction_view,
)
from webapp.pages.experiment.labels import measure, named
from webapp.pages.form.fields import methods
from webapp.services import services

_LONGEST_SUBJECT = 256
_MOST = 100  # decisions of a recipient that are listed


@pages.get("/decisions")
@needs("viewer")
def decisions() -> ResponseReturnValue:
    """Ask for a decision's id."""
    wanted = request.args.get("id", "").strip()
    if re.fullmatch(DecisionIdConverter.regex, wanted):
        return redirect(url_for("pages.decision", decision_id=wanted))
    return render_template("decisions.html", wanted=wanted)


@pages.post("/decisions")
@needs("viewer")
def decisions_of() -> ResponseReturnValue:
    """List what was chosen for a recipient; by POST, so that no log keeps who was asked about."""
    who = request.form.get("who", "").strip()[:_LONGEST_SUBJECT]
    found = services().engine.subject(who, limit=_MOST) if who else None
    return render_template(
        "decisions.html",
        wanted="",
        who=who,
        found=found.decisions if found else [],
        cut=bool(found and found.next is not None),
    )


@pages.get("/decisions/<decision_id:decision_id>")
@needs("viewer")
def decision(decision_id: str) -> ResponseReturnValue:
    """Show what was chosen, with which chance, from what, and what came of it."""
    engine = services().engine
    try:
        receipt = engine.receipt(decision_id)
    except NotFound:
        return render_template("decisions.html", wanted=decision_id, missing=True), 404
    record = engine.store.record(receipt.experiment)
    then = engine.store.configuration(record.key, receipt.configuration_version).experiment
    labels = {m.name: m.label for m in methods()}
    counted = measure(then.reward)
    return render_template(
        "receipt.html",
        receipt=receipt,
        record=record,
        then=then,
        method=labels.get(receipt.policy, receipt.policy),
        chances=_chances(then, receipt),
        measure=counted,
        pushes=contribution_views(then, receipt, counted),
    )


def _chances(
    then: Experiment, receipt: DecisionReceipt
) -> list[tuple[str, float, bool, PredictionView | None]]:
    """List each version that could have come: name, chance, whether it did, prediction."""
    if receipt.propensities is None:
        return []
    keys = [s.key for s in then.slots]
    came = " · ".join(receipt.slots[k]["variant"] for k in keys)
    rows = []
    predicted = prediction_view(receipt)
    for combination in then.combinations():
        joined = " · ".join(combination)
        if joined in receipt.propensities:
            name = named(then, dict(zip(keys, combination, strict=True)))
            rows.append((name, receipt.propensities[joined], joined == came, predicted.get(joined)))
    return sorted(rows, key=lambda row: -row[1])

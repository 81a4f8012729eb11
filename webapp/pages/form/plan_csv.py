"""Download of a simulated plan."""

from flask import redirect, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import InvalidInput
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.form.forecast_text import test_label
from webapp.pages.form.forecasts import forecasts
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.plan import read_plan
from webapp.pages.form.rows import without_empty_rows
from webapp.pages.form.steps import STEPS
from webapp.pages.form.submit import with_key
from webapp.pages.form.wizard_views import draft_service
from webapp.pages.formatting import csv_response

_HEAD = ("way to send", "emails sent", "extra", "lowest 5 %", "highest 5 %")
*_, _LAST = STEPS


@pages.get("/drafts/<draft_id>/plan.csv")
@needs("manager")
def plan_csv(draft_id: str) -> ResponseReturnValue:
    """Export the figures of the plan's chart; a plan without a simulation leads to its page."""
    form = draft_service().open(draft_id).form
    page = url_for("pages.draft_step", draft_id=draft_id, step=_LAST)
    try:
        declared = parse_experiment(with_key(without_empty_rows(form)))
        plan = read_plan(form, declared)
    except InvalidInput:  # the page lists what is missing
        return redirect(page)
    simulation = forecasts().request(plan, person().email).result
    if simulation is None:
        return redirect(f"{page}?simulate=yes")
    rows = [
        [label, emails, *quantities]
        for label, side in (
            ("this plan", simulation.policy),
            (test_label(simulation.test), simulation.test),
        )
        for emails, quantities in zip(side.emails.tolist(), side.curve.T.tolist(), strict=True)
    ]
    return csv_response(f"{declared.key}-plan.csv", _HEAD, rows)

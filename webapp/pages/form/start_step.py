"""The last step's page: what is declared, what is planned, and what comes of it."""

from flask import request

from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from simulations.planning.forecast import PlanForecast
from webapp.charts import Figure, forecast_figure
from webapp.pages.access import person
from webapp.pages.experiment.labels import named
from webapp.pages.form import prior_campaigns
from webapp.pages.form.forecast_text import forecast_verdict, test_label, unit
from webapp.pages.form.forecasts import Forecast, forecasts
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.parse import declare
from webapp.pages.form.plan import MOST_VERSIONS, Plan, plain, read_plan
from webapp.pages.form.rows import without_empty_rows
from webapp.pages.form.submit import with_key


def foreseen(form: TypedDraft) -> dict[str, object]:
    """Gather what the page shows of a complete draft."""
    declared = declare(with_key(without_empty_rows(form)))
    shown: dict[str, object] = {
        "declared": declared,
        "versions": _versions(declared),
        "valued": not plain(declared.reward),
        "earlier": prior_campaigns.candidates(),
        "forecast": None,
    }
    try:
        plan = read_plan(form, declared)
    except InvalidInput:  # the page's fields say so once a simulation is asked for
        return shown
    forecast = _forecast(plan)
    shown |= {"forecast": forecast, "planned": plan}
    if forecast is not None and forecast.outlook is not None and forecast.over.is_set():
        shown |= {"verdict": forecast_verdict(forecast), "figure": figure(plan, forecast.outlook)}
    return shown


def _forecast(plan: Plan) -> Forecast | None:
    asked = request.args.get("simulate") == "yes"
    return forecasts().ask(plan, person().email) if asked else forecasts().find(plan)


def _versions(declared: Experiment) -> list[str]:
    """Name the versions whose rates can be typed; none where they are too many."""
    arms = declared.combinations()
    if len(arms) > MOST_VERSIONS:
        return []
    keys = [s.key for s in declared.slots]
    return [named(declared, dict(zip(keys, arm, strict=True))) for arm in arms]


def figure(plan: Plan, outlook: PlanForecast) -> Figure:
    """Draw what both ways bring while the campaign goes on."""
    sides = {"This plan": outlook.policy, test_label(outlook.test): outlook.test}
    return forecast_figure(sides, f"Extra {unit(plan)}")

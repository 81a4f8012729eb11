"""The last step's page: what is declared, what is planned, and what comes of it."""

from flask import request

from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from simulations.planning.forecast import PlanForecast
from webapp.figures import Figure, outlook_figure
from webapp.pages.access import person
from webapp.pages.campaign.naming import named
from webapp.pages.form import earlier
from webapp.pages.form.concluding import with_key
from webapp.pages.form.declaring import declare
from webapp.pages.form.forecasts import Forecast, forecasts
from webapp.pages.form.planning import MOST_VERSIONS, Plan, plain, read_plan
from webapp.pages.form.rows import compacted
from webapp.pages.form.typed import TypedDraft
from webapp.pages.form.verdict import judge, test_label, unit


def foreseen(form: TypedDraft) -> dict[str, object]:
    """Gather what the page shows of a complete draft."""
    declared = declare(with_key(compacted(form)))
    shown: dict[str, object] = {
        "declared": declared,
        "versions": _versions(declared),
        "valued": not plain(declared.reward),
        "earlier": earlier.candidates(),
        "forecast": None,
    }
    try:
        plan = read_plan(form, declared)
    except InvalidInput:  # the page's fields say so once a simulation is asked for
        return shown
    forecast = _forecast(plan)
    shown |= {"forecast": forecast, "planned": plan}
    if forecast is not None and forecast.outlook is not None and forecast.over.is_set():
        shown |= {"verdict": judge(forecast), "figure": figure(plan, forecast.outlook)}
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
    return outlook_figure(sides, f"Extra {unit(plan)}")

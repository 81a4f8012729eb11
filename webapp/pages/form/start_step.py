"""Template context of the last step: the declaration, the plan, and its forecast."""

from flask import request

from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from simulations.planning.forecast import PlanForecast
from webapp.charts import Figure, forecast_figure
from webapp.pages.access import person
from webapp.pages.experiment.labels import arm_name
from webapp.pages.form import control_group_text, prior_campaigns
from webapp.pages.form.forecast_text import forecast_verdict, gain_name, test_label
from webapp.pages.form.forecasts import Forecast, forecasts
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.plan import MOST_VERSIONS, Plan, assumed_half, is_binary, read_plan
from webapp.pages.form.rows import without_empty_rows
from webapp.pages.form.submit import with_key
from webapp.pages.formatting import duration_text


def start_step_context(form: TypedDraft) -> dict[str, object]:
    """Return the template context for a draft without faults."""
    declared = parse_experiment(with_key(without_empty_rows(form)))
    context: dict[str, object] = {
        "declared": declared,
        "versions": _versions(declared),
        "has_worth": not is_binary(declared.reward),
        "earlier": prior_campaigns.prior_campaigns(),
        "forecast": None,
        "assumed_half": duration_text(3600 * assumed_half(declared.reward)),
        "simulates": not declared.make_policy().statistic.timed,
    }
    try:
        plan = read_plan(form, declared)
    except InvalidInput:  # the fields show it once a simulation is requested
        return context
    forecast = _forecast(plan) if context["simulates"] else None
    context |= {
        "forecast": forecast,
        "plan": plan,
        "control_group": control_group_text.plan_sentences(plan),
    }
    if forecast is not None and forecast.result is not None and forecast.over.is_set():
        context |= {
            "verdict": forecast_verdict(forecast),
            "figure": plan_figure(plan, forecast.result),
        }
    return context


def _forecast(plan: Plan) -> Forecast | None:
    simulate = request.args.get("simulate") == "yes"
    return forecasts().request(plan, person().email) if simulate else forecasts().find(plan)


def _versions(declared: Experiment) -> list[str]:
    """Return the names of the arms with a field for their rate; none if they are too many."""
    arms = declared.combinations()
    if len(arms) > MOST_VERSIONS:
        return []
    keys = [s.key for s in declared.slots]
    return [arm_name(declared, dict(zip(keys, arm, strict=True))) for arm in arms]


def plan_figure(plan: Plan, result: PlanForecast) -> Figure:
    """Draw the extra reward of both ways during the campaign."""
    sides = {"This plan": result.policy, test_label(result.test): result.test}
    return forecast_figure(sides, gain_name(plan))

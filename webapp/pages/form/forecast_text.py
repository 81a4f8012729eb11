"""What a simulated plan comes to, in words."""

from msgspec import Struct

from bandits.registry import policies
from simulations.planning.forecast import ForecastSide, PlanForecast
from webapp.pages.form.forecasts import Forecast
from webapp.pages.form.plan import Plan, plain
from webapp.pages.formatting import amount, count, percent, say

_ENDS_TOO_SOON = (
    "This campaign ends before its first results are complete, so it cannot learn as planned."
)


class ForecastRow(Struct, frozen=True):
    """One way to send the campaign: its extra with its range, and how often it errs."""

    label: str
    extra: float
    low: float
    high: float
    wrong: str


class ForecastVerdict(Struct, frozen=True):
    """What to make of it.

    Attributes:
        headline: the answer.
        reasons: why, and what else to know.
        unit: what is counted: "clicks", "fewer unsubscribes", "of success".
        rows: the ways to send it.
        notes: what the simulation leaves out.
    """

    headline: str
    reasons: tuple[str, ...]
    unit: str
    rows: tuple[ForecastRow, ...]
    notes: tuple[str, ...]


def forecast_verdict(forecast: Forecast) -> ForecastVerdict:
    """Say what a finished forecast comes to."""
    plan, outlook = forecast.plan, forecast.outlook
    if outlook is None:
        raise ValueError("it is not finished")
    headline, reasons = _answer(plan, outlook, forecast.cure)
    reasons += [_risk(outlook), _when_the_rest_leaves(plan, outlook.test)]
    return ForecastVerdict(
        headline,
        tuple(reasons),
        unit(plan),
        (_row("This plan", outlook.policy), _row(test_label(outlook.test), outlook.test)),
        tuple(_notes(plan, outlook)),
    )


def unit(plan: Plan) -> str:
    """Say what is counted."""
    names = list(plan.experiment.reward.metrics)
    word = f"{names[0]}s" if plain(plan.experiment.reward) else "of success"
    return f"fewer {word}" if plan.experiment.reward.goal == "minimise" else word


def test_label(test: ForecastSide) -> str:
    """Name an A/B test by its size."""
    return f"A/B test on {percent(test.share, 0)}, then its winner"


def _row(label: str, side: ForecastSide) -> ForecastRow:
    wrong = f"{percent(side.wrong.mean, 0)} ± {percent(1.96 * side.wrong.se, 1)}"
    return ForecastRow(label, side.extra.mean, side.low, side.high, wrong)


def _answer(
    plan: Plan, outlook: PlanForecast, cure: tuple[Plan, PlanForecast] | None
) -> tuple[str, list[str]]:
    what, gain, margin = unit(plan), outlook.difference, outlook.margin
    between = f"{_signed(gain - margin)} to {_signed(gain + margin)}"
    if plan.informed == 0:
        return (
            _ENDS_TOO_SOON,
            [_cure(plan, cure), f"Or run an A/B test: {_brings(outlook.test, what)}."],
        )
    if _fixed(plan):
        return (
            "A fixed split learns nothing on the way: it measures, and earns nothing by it.",
            [f"An A/B test that ships its winner {_brings(outlook.test, what)}."],
        )
    if gain - margin > 0:
        return (
            f"The bandit is the better choice: about {count(gain)} {what} more than an A/B test.",
            [f"That difference is {between} with 95 % confidence over the simulated campaigns."],
        )
    if gain + margin < 0:
        return (
            f"An A/B test is the better choice for this plan: about {count(-gain)} {what} more.",
            [
                (
                    f"The bandit's difference to it is {between}. The A/B test sends most emails"
                    " when its results are in; the bandit has to send while it learns. It gains"
                    " from more waves, or from going on for longer."
                )
            ],
        )
    return (
        "Bandit and A/B test bring about the same.",
        [f"The bandit's difference to the best A/B test is {between} {what}."],
    )


def _cure(plan: Plan, cure: tuple[Plan, PlanForecast] | None) -> str:
    if cure is None:
        return ""
    better, outlook = cure
    time = "in the same time" if better.over == plan.over else f"{say(better.over)} in all"
    return (
        f"Spread it over {better.waves} waves, one every {say(round(better.gap))} ({time}): then"
        f" {percent(better.informed, 0)} of the emails leave when results are known, and it"
        f" {_brings(outlook.policy, unit(plan))}."
    )


def _brings(side: ForecastSide, what: str) -> str:
    return (
        f"brings about {_signed(side.extra.mean)} {what} against an equal split"
        f" ({_signed(side.low)} to {_signed(side.high)})"
    )


def _risk(outlook: PlanForecast) -> str:
    """Compare how often the best results at the end belong to another than the best version."""
    mine, other = outlook.policy.wrong.mean, outlook.test.wrong.mean
    return (
        "When all results are in, the version that looks best is not the best in"
        f" {percent(mine, 0)} of campaigns sent like this; the A/B test ships a wrong winner in"
        f" {percent(other, 0)}."
    )


def _when_the_rest_leaves(plan: Plan, test: ForecastSide) -> str:
    rest = percent(1 - (test.share or 0), 0)
    late = " That is after this campaign would have ended." if plan.wait > plan.over else ""
    waits = say(plan.experiment.reward.maturity)
    return (
        f"The A/B test holds {rest} of the emails back until its results are complete,"
        f" {waits}.{late}"
    )


def _notes(plan: Plan, outlook: PlanForecast) -> list[str]:
    experiment = plan.experiment
    notes = [
        (
            f"{count(outlook.replications)} campaigns were simulated, with your learning method,"
            " minimum share, waves and waiting time. The range is the middle 90 % of them: luck as"
            " you may meet it."
        )
    ]
    if experiment.make_policy().statistic.contextual:
        notes.append(
            "Recipients are simulated alike: what choosing by recipient adds comes on top, and"
            " depends on how much they differ."
        )
    if not plan.each:
        notes.append("Which version is the best is dealt anew each time; the others lie between.")
    if experiment.forgetting is not None:
        notes.append("Tastes are simulated as they are, without forgetting.")
    if experiment.holdout:
        notes.append(
            f"The control group of {percent(experiment.holdout, 0)} is left out of both sides."
        )
    if not plain(experiment.reward):
        notes.append("What a success brings is simulated to vary as order values do.")
    return notes


def _signed(value: float) -> str:
    shown = count(value) if abs(value) >= 1 or value == 0 else amount(value)
    return f"+{shown}" if value > 0 else shown


def _fixed(plan: Plan) -> bool:
    return policies()[plan.experiment.policy.name].advised == "nothing in time"

"""Result of a simulated plan, in words."""

from math import hypot

import numpy as np
from msgspec import Struct

from bandits.registry import policies
from simulations.planning.forecast import ForecastSide, PlanForecast
from simulations.reporting.summary import TWO_SIDED
from webapp.pages.form.forecasts import Forecast
from webapp.pages.form.plan import Plan, is_binary
from webapp.pages.formatting import amount, count, duration_text, percent, phrase

_HALF = 0.5  # of campaigns
_DISCERNED = 0.5  # of two versions it is this where the wrong one wins in a quarter of campaigns
_ENDS_TOO_SOON = (
    "This campaign ends before its first results are complete, so it cannot learn as planned."
)


class ForecastRow(Struct, frozen=True):
    """One way to send the campaign: its extra reward with its range, and its rate of errors."""

    label: str
    extra: float
    low: float
    high: float
    wrong: str


class ForecastVerdict(Struct, frozen=True):
    """Verdict on a plan.

    Attributes:
        headline: the better way to send the campaign.
        reasons: sentences that explain it.
        gain: name of what a way to send gains: "Extra clicks", "Fewer unsubscribes".
        rows: the ways to send it.
        notes: limits of the simulation.
    """

    headline: str
    reasons: tuple[str, ...]
    gain: str
    rows: tuple[ForecastRow, ...]
    notes: tuple[str, ...]


def forecast_verdict(forecast: Forecast) -> ForecastVerdict:
    """Describe the result of a finished forecast."""
    plan, simulation = forecast.plan, forecast.result
    if simulation is None:
        raise ValueError("it is not finished")
    headline, reasons = _answer(plan, simulation, forecast.alternative)
    rows = [
        _row("This plan", simulation.policy),
        _row(test_label(simulation.test), simulation.test),
    ]
    if forecast.slow_best is not None:
        reasons.append(_slow_best(plan, forecast.slow_best))
        rows.append(
            _row("This plan, where the best version's results are slow", forecast.slow_best.policy)
        )
    if forecast.rivals:
        reasons.append(_rivals(plan, simulation, forecast.rivals))
    reasons += [_risk(simulation), _when_the_rest_leaves(plan, simulation.test)]
    return ForecastVerdict(
        headline,
        tuple(reasons),
        gain_name(plan),
        tuple(rows),
        tuple(_notes(plan, simulation)),
    )


def gain_name(plan: Plan) -> str:
    """Name what a way to send gains: "Extra clicks", "Fewer unsubscribes", "Extra value"."""
    rule = plan.experiment.reward
    if not is_binary(rule):
        return "Avoided value" if rule.goal == "minimise" else "Extra value"
    return f"{'Fewer' if rule.goal == 'minimise' else 'Extra'} {_events(plan)}"


def _gain(plan: Plan, value: float) -> str:
    """Write a gain: "17 more clicks", "17 fewer unsubscribes", "17 more in value"."""
    rule, size = plan.experiment.reward, _short_count(abs(value))
    more = (value >= 0) == (rule.goal == "maximise")
    if not is_binary(rule):
        return f"{size} {'more' if more else 'less'} in value"
    return f"{size} {'more' if more else 'fewer'} {_events(plan)}"


def _events(plan: Plan) -> str:
    return f"{phrase(next(iter(plan.experiment.reward.metrics)))}s"


def test_label(test: ForecastSide) -> str:
    """Name an A/B test by its size."""
    return f"A/B test on {percent(test.share, 0)}, then its winner"


def _row(label: str, side: ForecastSide) -> ForecastRow:
    wrong = f"{percent(side.wrong.mean, 0)} ± {percent(1.96 * side.wrong.se, 1)}"
    return ForecastRow(label, side.extra.mean, side.low, side.high, wrong)


def _answer(
    plan: Plan, simulation: PlanForecast, alternative: tuple[Plan, PlanForecast] | None
) -> tuple[str, list[str]]:
    headline, reasons = _comparison(plan, simulation, alternative)
    if plan.informed == 0 or simulation.discerned > _DISCERNED:
        return headline, reasons
    mistaken = (
        f"Even if all {count(plan.chosen)} emails were split equally, the version with the best"
        f" results would not be the best in {percent(simulation.mistaken, 0)} of campaigns."
    )
    return "This list is too small to tell these versions apart.", [mistaken, headline, *reasons]


def _comparison(
    plan: Plan, simulation: PlanForecast, alternative: tuple[Plan, PlanForecast] | None
) -> tuple[str, list[str]]:
    gain, margin = simulation.difference, simulation.margin
    between = f"{_signed_count(gain - margin)} to {_signed_count(gain + margin)}"
    if plan.informed == 0:
        return (
            _ENDS_TOO_SOON,
            [
                _alternative_text(plan, alternative),
                f"Or run an A/B test: it {_brings(plan, simulation.test)}.",
            ],
        )
    if _is_fixed_split(plan):
        return (
            "A fixed split learns nothing on the way: it measures, and earns nothing by it.",
            [f"An A/B test that ships its winner {_brings(plan, simulation.test)}."],
        )
    if gain - margin > 0 and simulation.ahead > _HALF:
        return (
            (
                "The bandit is the better choice: it brings more than an A/B test in"
                f" {percent(simulation.ahead, 0)} of simulated campaigns."
            ),
            [
                f"On average that is {_gain(plan, gain)}; {between} with 95 % confidence.",
                f"This plan {_brings(plan, simulation.policy)}.",
            ],
        )
    if gain + margin < 0 and simulation.ahead < _HALF:
        return (
            (
                "An A/B test is the better choice for this plan: it brings more in"
                f" {percent(1 - simulation.ahead, 0)} of simulated campaigns."
            ),
            [
                (
                    f"On average that is {_gain(plan, -gain)}. The A/B test sends most emails"
                    " when its results are in; the bandit has to send while it learns. It gains"
                    " from more waves, or from going on for longer."
                )
            ],
        )
    return (
        "Bandit and A/B test bring about the same.",
        [
            (
                f"The bandit brings more in {percent(simulation.ahead, 0)} of simulated campaigns,"
                f" and its difference to the best A/B test is {between} on average."
            )
        ],
    )


def _alternative_text(plan: Plan, alternative: tuple[Plan, PlanForecast] | None) -> str:
    if alternative is None:
        return ""
    other_plan, simulation = alternative
    time = (
        "in the same time"
        if other_plan.seconds == plan.seconds
        else f"{duration_text(other_plan.seconds)} in all"
    )
    gap = duration_text(round(other_plan.wave_gap))
    return (
        f"Spread it over {other_plan.waves} waves, one every {gap} ({time}): then"
        f" {percent(other_plan.informed, 0)} of the emails leave when results are known, and it"
        f" {_brings(other_plan, simulation.policy)}."
    )


def _brings(plan: Plan, side: ForecastSide) -> str:
    return (
        f"brings about {_gain(plan, side.extra.mean)} than sending every version equally"
        f" (90 % range: {_signed_count(side.low)} to {_signed_count(side.high)})"
    )


def _rivals(plan: Plan, simulation: PlanForecast, rivals: list[tuple[str, PlanForecast]]) -> str:
    """Say whether another method, chosen in step 4, would bring more."""
    own = simulation.policy.extra
    label, other = max(rivals, key=lambda rival: rival[1].policy.extra.mean)
    extra = other.policy.extra
    gain, error = extra.mean - own.mean, hypot(extra.se, own.se)
    if gain > TWO_SIDED * error:
        low, high = (_signed_count(gain + side * TWO_SIDED * error) for side in (-1, 1))
        return (
            f"With {label} in step 4 the same plan brings about {_gain(plan, gain)}"
            f" ({low} to {high} with 95 % confidence)."
        )
    labels = " and ".join(label for label, _ in rivals)
    return f"{labels} would bring no more than your method in these simulations."


def _slow_best(plan: Plan, simulation: PlanForecast) -> str:
    """Say what comes of the plan where what is best is answered more slowly than the others."""
    return (
        "If the best version's results took twice as long and those of the others half as long,"
        f" this plan {_would_bring(plan, simulation.policy)}."
    )


def _would_bring(plan: Plan, side: ForecastSide) -> str:
    return (
        f"would bring about {_gain(plan, side.extra.mean)} than sending every version equally"
        f" (90 % range: {_signed_count(side.low)} to {_signed_count(side.high)})"
    )


def _risk(simulation: PlanForecast) -> str:
    """Compare how often the best results at the end belong to another than the best version."""
    bandit, other = simulation.policy.wrong.mean, simulation.test.wrong.mean
    return (
        "When all results are in, the version that looks best is not the best in"
        f" {percent(bandit, 0)} of campaigns sent like this; the A/B test ships a wrong winner in"
        f" {percent(other, 0)}."
    )


def _when_the_rest_leaves(plan: Plan, test: ForecastSide) -> str:
    rest = percent(1 - (test.share or 0), 0)
    late = (
        " That is after this campaign would have ended." if plan.reward_delay > plan.seconds else ""
    )
    waits = duration_text(plan.experiment.reward.maturity)
    return (
        f"The A/B test holds {rest} of the emails back until its results are complete,"
        f" {waits}.{late}"
    )


def _notes(plan: Plan, simulation: PlanForecast) -> list[str]:
    experiment = plan.experiment
    notes = [
        (
            f"{count(simulation.replications)} campaigns were simulated, with your learning method,"
            " minimum share, waves and waiting time. The range is the middle 90 % of them: luck as"
            " you may meet it."
        )
    ]
    answers, waits = plan.answers, duration_text(experiment.reward.maturity)
    shares = answers.shares(np.array(answers.medians), answers.maturity)
    least, most = (percent(share, 0) for share in (shares.min(), shares.max()))
    by_then = least if least == most else f"{least} to {most}"
    notes.append(
        f"Results are simulated to come late: half of them {_half_text(plan)} after the email, and"
        f" {by_then} of them before silence counts, {waits} after it."
    )
    if experiment.make_policy().statistic.contextual:
        notes.append(
            "Recipients are simulated alike: what choosing by recipient adds comes on top, and"
            " depends on how much they differ."
        )
    if not plan.has_rate_per_version:
        dealt = "Which version is the best is dealt anew each time; the others lie between."
        if len(experiment.slots) > 1:
            dealt += " Versions with parts in common are alike: the parts mostly add up."
        notes.append(dealt)
    if experiment.forgetting is not None:
        notes.append("Tastes are simulated as they are, without forgetting.")
    if experiment.holdout:
        notes.append(
            f"The control group of {percent(experiment.holdout, 0)} is left out of both sides."
        )
    if not is_binary(experiment.reward):
        notes.append("What a success brings is simulated to vary as order values do.")
    return notes


def _half_text(plan: Plan) -> str:
    first, last = (duration_text(round(f(plan.halves))) for f in (min, max))
    return first if first == last else f"{first} to {last}"


def _signed_count(value: float) -> str:
    shown = _short_count(value)
    return f"+{shown}" if value > 0 else shown


def _short_count(value: float) -> str:
    return count(value) if abs(value) >= 1 or value == 0 else amount(value)


def _is_fixed_split(plan: Plan) -> bool:
    return policies()[plan.experiment.policy.name].advised == "nothing in time"

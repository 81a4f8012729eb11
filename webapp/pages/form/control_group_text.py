"""Control group in words: the gain over it that a plan can show, before anything is sent."""

from bandits.experiment import Experiment
from bandits.inference.control_group import emails_to_show, smallest_gain_shown
from webapp.pages.form.field_readers import FieldErrors
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.plan import Plan, success_square
from webapp.pages.formatting import count, percent

_USUAL_RATE = 0.02  # of clicks, where nothing is said of the plan yet
_WORTH_SHOWING = 0.1  # a gain that is good news
_MILLION = 1_000_000
_MANY = 1_000_000_000  # emails: more than anybody plans


def plan_sentences(plan: Plan) -> list[str]:
    """Say what the control group of a plan can show; nothing without one."""
    holdout, rate = plan.experiment.holdout, plan.rates[0] if plan.rates[0] > 0 else _USUAL_RATE
    if holdout == 0:
        return []
    square, per_recipient = success_square(plan.experiment.reward), plan.emails_per_recipient
    smallest = smallest_gain_shown(plan.emails, rate, holdout, per_recipient, square)
    held_out = percent(holdout, 0)
    if smallest is None:
        sentences = [f"This plan is too small for its control group of {held_out} to show a gain."]
    else:
        sentences = [
            f"With {held_out} held out, this plan likely shows a gain of {percent(smallest, 0)}."
        ]
    if smallest is None or smallest > _WORTH_SHOWING:
        sentences.append(_needed(rate, holdout, per_recipient, square))
    if per_recipient > 1:
        sentences.append(
            f"A recipient gets about {per_recipient:.2g} emails, and what they do with them counts"
            " together."
        )
    return sentences


def usual_sentence(form: TypedDraft) -> str:
    """Say what a control group as typed can show at a usual rate; "" without a valid one."""
    errors = FieldErrors()
    holdout = errors.number("holdout", form.holdout, Experiment, "holdout", empty=0.0, scale=100)
    return "" if errors.faults or holdout == 0 else _needed(_USUAL_RATE, holdout, 1.0, 1.0)


def _needed(rate: float, holdout: float, per_recipient: float, square: float) -> str:
    emails = emails_to_show(_WORTH_SHOWING, rate, holdout, per_recipient, square)
    gain, held_out = percent(_WORTH_SHOWING, 0), percent(holdout, 0)
    if emails > _MANY:
        return f"No list is large enough for {held_out} held out to show a gain of {gain}."
    return (
        f"{held_out} held out needs about {_rounded(emails)} emails to show a gain of {gain} on a"
        f" success rate of {percent(rate, 0)}."
    )


def _rounded(emails: float) -> str:
    """Write a number of emails with two digits: 2 million, 870,000."""
    digits = float(f"{emails:.2g}")
    return f"{digits / _MILLION:,g} million" if digits >= _MILLION else count(digits)

"""Advice on the learning method, by the answers to three questions.

This module names no method: each declares in `bandits.registry.register` the situation for which it
is the first choice.
"""

from math import prod

from msgspec import Struct
from msgspec.structs import replace

from bandits.experiment import covers
from bandits.registry import policies
from webapp.pages.form.fields import parse_number
from webapp.pages.form.form_model import TypedDraft, TypedMetric

_FEW = 4  # arms that are learned as fast one by one as by their parts


class Advice(Struct, frozen=True):
    """A learning method, and the reasons for it."""

    policy: str
    label: str
    reasons: tuple[str, ...]


def advise(form: TypedDraft) -> Advice | None:
    """Return the method for the answers; None while one of the first two is missing."""
    answers = form.answers
    if not (answers.differ and answers.late):
        return None
    situation, reason = _situation(form)
    policy = next((p for p in policies().values() if p.advised == situation), None)
    if policy is None:
        return None
    reasons = [reason]
    if answers.differ == "yes" and not form.context:
        reasons.append(
            "You say that recipients differ, but nothing is declared that tells them apart: name"
            " it in step 3, such as how long ago they last bought, then ask again."
        )
    if answers.price == "yes":
        reasons.append(
            "With a price, recipients compare: the same recipient always sees the same one. And"
            " more orders at a lower price can earn less, so let step 2 count what orders bring"
            " in rather than clicks."
        )
    return Advice(policy.name, policy.label, tuple(reasons))


def with_advice(form: TypedDraft) -> TypedDraft:
    """Set the method of the advice, and one price for each recipient."""
    advice = advise(form)
    if advice is None:
        return form
    price = form.answers.price == "yes"
    assignment = "per_subject" if price else form.assignment
    return replace(form, policy=advice.policy, assignment=assignment)


def _situation(form: TypedDraft) -> tuple[str, str]:
    if form.answers.late == "after":
        return "nothing in time", (
            "When the results arrive, everything is sent: nothing can be learned on the way. An"
            " equal split measures every version equally well; send the winner next time, or"
            " spread the campaign over waves."
        )
    if form.answers.differ == "yes" and form.context:
        return "recipients", (
            "Recipients differ in what you know of them, so each gets what works for people like"
            " them, and new people are still tried on everything."
        )
    versions = prod(max(1, sum(not v.blank for v in s.variants)) for s in form.slots)
    if len(form.slots) > 1 and versions > _FEW:
        return "parts", (
            f"{versions} versions share parts, so each teaches something about the others. This"
            " learns what each part adds, and finds a version that is more than its parts."
        )
    rates = next((p for p in policies().values() if p.advised == "rates"), None)
    if rates is not None and covers(rates.support, _bounds(form)):
        return "rates", (
            "Success either happens or not, and everybody is alike: each version is sent as often"
            " as it may be the best. There is nothing to tune, and it copes with late results."
        )
    return "values", (
        "Success is worth more or less from email to email: this learns each version's average"
        " and how much it varies."
    )


def _bounds(form: TypedDraft) -> tuple[float, float]:
    """Return the bounds of an email's reward, as far as they can be read."""
    low = high = 0.0
    for metric in form.metrics:
        ends = _metric_bounds(metric)
        low, high = low + min(ends), high + max(ends)
    return low, high


def _metric_bounds(metric: TypedMetric) -> tuple[float, float]:
    try:
        weight = parse_number(metric.weight)
        return weight * parse_number(metric.low), weight * parse_number(metric.high)
    except ValueError:
        return 0.0, 0.0

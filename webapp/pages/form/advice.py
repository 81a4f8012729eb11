"""Three plain questions, and the learning method that the answers lead to.

No method is known by name here: each declares in `bandits.registry.register` what it is the first
choice for.
"""

from math import prod

from msgspec import Struct
from msgspec.structs import replace

from bandits.experiment import covers
from bandits.registry import policies
from webapp.pages.form.fields import number
from webapp.pages.form.form_model import TypedDraft, TypedMetric

_MANY = 12  # versions from which parts are better learned by themselves


class Advice(Struct, frozen=True):
    """A learning method, and why."""

    policy: str
    label: str
    reasons: tuple[str, ...]


def advise(form: TypedDraft) -> Advice | None:
    """Say which method the answers lead to; None while the first two are open."""
    answers = form.answers
    if not (answers.differ and answers.late):
        return None
    situation, reason = _situation(form)
    named = next((p for p in policies().values() if p.advised == situation), None)
    if named is None:
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
    return Advice(named.name, named.label, tuple(reasons))


def followed(form: TypedDraft) -> TypedDraft:
    """Take the advice: its method, and one price for each recipient."""
    given = advise(form)
    if given is None:
        return form
    price = form.answers.price == "yes"
    assignment = "per_subject" if price else form.assignment
    return replace(form, policy=given.policy, assignment=assignment)


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
    if len(form.slots) > 1 and versions > _MANY:
        return "parts", (
            f"{versions} versions are too many to learn one by one; this learns what each part"
            " adds, whatever it is combined with."
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
    """Return between what an email's success lies, as far as it can be read."""
    low = high = 0.0
    for metric in form.metrics:
        ends = _ends(metric)
        low, high = low + min(ends), high + max(ends)
    return low, high


def _ends(metric: TypedMetric) -> tuple[float, float]:
    try:
        weight = number(metric.weight)
        return weight * number(metric.low), weight * number(metric.high)
    except ValueError:
        return 0.0, 0.0

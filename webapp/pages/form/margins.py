"""Margins: the worth of an order by discount, from the margin and how its value is told."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from bandits.experiment import Slot
from bandits.rewards import Metric
from webapp.pages import pages
from webapp.pages.form.fields import parse_number, typed_text
from webapp.pages.form.form_model import TypedExperiment, TypedMetric, TypedSlot
from webapp.pages.formatting import amount, event_plural

Basis = Literal["paid", "list"]

WAYS: dict[Basis, str] = {
    "paid": "as paid, after the discount",
    "list": "at list price, before the discount",
}
_ORDER = 60.0  # of a worked example
_DIGITS = 12  # of a weight, so that a margin typed again gives the same one
_WHOLE = 100  # per cent


class MarginOrder(Struct, frozen=True):
    """Worked order at one discount: its weight, and what it earns, in a sentence."""

    discount: str
    weight: float
    sentence: str


class MarginQuestions(Struct, frozen=True):
    """Questions on the margin of a metric, and what follows from the answers.

    Attributes:
        events: the metric's events, "orders".
        orders: a worked order at each discount; none while the margin is missing or wrong.
        worth: the worth of one unit at full price, None likewise.
    """

    events: str
    orders: tuple[MarginOrder, ...]
    worth: float | None


def read_margin(typed: str) -> float:
    """Read a margin in per cent as a part of the list price.

    Raises:
        ValueError: it is no margin.
    """
    try:
        margin = parse_number(typed.replace("%", ""))
    except ValueError:
        margin = 0.0
    if margin == 0 or not -1000 <= margin <= _WHOLE:  # noqa: PLR2004 - goods of eleven times the price
        raise ValueError("enter a number up to 100 %, other than 0")
    return round(margin / _WHOLE, _DIGITS)


def value_basis(typed: str) -> Basis:
    """Return how values are told, as paid unless somebody says at list price."""
    return "list" if typed == "list" else "paid"


def margin_weight(margin: float, discount: float, basis: Basis) -> float:
    """Return what one unit of an order's value earns.

    Args:
        margin: part of the list price that is left once goods are paid.
        discount: part of the list price that is taken off, below 1 where values are told as paid.
        basis: how values are told.
    """
    weight = margin - discount if basis == "list" else 1 - (1 - margin) / (1 - discount)
    return round(weight, _DIGITS)


def weights_by_discount(slot: Slot, margin: float, basis: Basis) -> dict[str, dict[str, float]]:
    """Return the weight of each variant with a discount, as `Metric.by` takes them.

    Raises:
        ValueError: at 100 % off nothing is paid.
    """
    discounts = discounts_of(slot)
    if basis == "paid" and any(discount >= 1 for discount in discounts.values()):
        raise ValueError("an order at 100 % off is paid with nothing: tell values at list price")
    weights = {key: margin_weight(margin, part, basis) for key, part in discounts.items() if part}
    return {slot.key: weights} if weights else {}


def discounts_of(slot: Slot) -> dict[str, float]:
    """Return the part of the list price that each variant takes off; those without take nothing."""
    percents = {v.key: v.payload.get("percent") for v in slot.variants}
    return {
        key: percent / _WHOLE
        if isinstance(percent, int | float) and not isinstance(percent, bool)
        else 0.0
        for key, percent in percents.items()
    }


def recognised(metric: Metric, slots: Sequence[Slot]) -> tuple[str, Basis] | None:
    """Return the margin, as typed, and the way of telling that give exactly a metric's weights."""
    discounts = [slot for slot in slots if slot.kind == "discount"]
    if not metric.by or len(discounts) != 1:
        return None
    typed = typed_text(round(_WHOLE * metric.weight, _DIGITS - 2))
    for basis in WAYS:
        try:
            margin = read_margin(typed)
            weights = weights_by_discount(discounts[0], margin, basis)
        except ValueError:
            continue
        if (margin, weights) == (metric.weight, metric.by):
            return typed, basis
    return None


def weights_text(by: Mapping[str, Mapping[str, float]]) -> str:
    """Write weights as text of a field: a line "discount/d10 = 0.36" for each variant."""
    return "\n".join(
        f"{slot}/{variant} = {typed_text(weight)}"
        for slot, by_variant in by.items()
        for variant, weight in by_variant.items()
    )


def read_weights(typed: str) -> dict[str, dict[str, float]]:
    """Read the lines that `weights_text` writes.

    Raises:
        ValueError: a line is none of these.
    """
    by: dict[str, dict[str, float]] = {}
    for line in filter(None, map(str.strip, typed.splitlines())):
        place, _, weight = line.partition("=")
        slot, _, variant = place.strip().partition("/")
        try:
            by.setdefault(slot, {})[variant] = parse_number(weight)
        except ValueError:
            detail = f"write a line such as discount/d10 = 0.36, not {line!r}"
            raise ValueError(detail) from None
    if len(by) > 1:
        raise ValueError("name variants of one part only")
    return by


@pages.app_template_global()
def margin_questions(form: TypedExperiment, metric: TypedMetric) -> MarginQuestions | None:
    """Return the questions on the margin of a metric; None where it is judged by none.

    They are for amounts that add up, in an email with one discount part.
    """
    slots = [slot for slot in form.slots if slot.kind == "discount"]
    is_offered = metric.count == "sum" and metric.name != "refund" and len(slots) == 1
    if metric.by.strip() or not (is_offered or metric.margin.strip()):
        return None
    events = event_plural(metric.name.strip() or "order")
    try:
        margin, basis = read_margin(metric.margin), value_basis(metric.basis)
    except ValueError:
        return MarginQuestions(events, (), None)
    percents = _typed_percents(slots[0]) if len(slots) == 1 else [0.0]
    orders = tuple(_worked_order(margin, percent, basis) for percent in percents)
    return MarginQuestions(events, tuple(o for o in orders if o is not None), margin)


def _typed_percents(slot: TypedSlot) -> list[float]:
    percents = []
    for variant in slot.variants:
        try:
            percents.append(parse_number(variant.percent.replace("%", "")))
        except ValueError:
            continue
    return [percent for percent in dict.fromkeys(percents) if 0 <= percent <= _WHOLE]


def _worked_order(margin: float, percent: float, basis: Basis) -> MarginOrder | None:
    if basis == "paid" and percent == _WHOLE:
        return None
    weight = margin_weight(margin, percent / _WHOLE, basis)
    discount = f"{amount(percent)} % off"
    words = f"paid at {discount}" if basis == "paid" else f"at list price, sold at {discount},"
    if not percent:
        words = "at full price"
    earned = _ORDER * weight
    verb = "loses" if earned < 0 else "earns"
    sentence = f"An order of {amount(_ORDER)} {words} {verb} {amount(abs(round(earned, 2)))}."
    return MarginOrder(discount, weight, sentence)

"""Labels of an experiment on pages: its states, its reward, its slots, variants and arms."""

from collections.abc import Mapping
from math import ceil, floor, log10

from msgspec import Struct

from bandits.experiment import Experiment, Slot, Variant
from bandits.rewards import RewardRule
from webapp.pages.form.form_model import KINDS
from webapp.pages.formatting import amount, short_number

STATES = {
    "draft": "Draft",
    "running": "Running",
    "paused": "Paused",
    "stopped": "Stopped",
    "archived": "Archived",
}
_LONGEST = 36  # characters of a subject line that stand for it in tables and charts
_THOUSAND = 1000.0
_ROUNDING = 1e-9  # keeps 4.1, as a double a little more, from becoming 4.2


class Measure(Struct, frozen=True):
    """Names of the reward of an experiment, as a total, a mean, an amount and events.

    Attributes:
        is_rate: the mean is the share of emails with a success.
        total: name of the sum over emails: "Clicks", "Revenue", "Value".
        mean: name of the mean: "Click rate", "Revenue per email", "Score per email".
        amount: pattern of a quantity: "{} clicks", "{} of revenue", "{} clicks in value".
        events: name of the events, for sentences on events rather than on their reward.
        unit: unit of a total that its name does not tell: "in clicks"; mostly empty.
    """

    is_rate: bool
    total: str
    mean: str
    amount: str
    events: str
    unit: str = ""

    def quantity(self, number: str) -> str:
        """Write a number with the unit of the reward."""
        return self.amount.format(number)

    def at_most_per_thousand(self, value: float) -> str:
        """Write an upper bound, rounded up: "0.4 clicks per 1,000 emails"."""
        return f"{self.quantity(short_number(_round_up(_THOUSAND * value)))} per 1,000 emails"


def _round_up(value: float) -> float:
    """Round up to two leading digits: 13, 4.1, 0.42."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (floor(log10(value)) - 1)
    return float(f"{ceil(value / unit - _ROUNDING) * unit:.2g}")


def reward_measure(rule: RewardRule) -> Measure:
    """Name the reward: clicks and click rate where one binary metric is all that counts.

    Where several metrics count, each with its weight, the unit is a binary one of weight 1, such as
    a click, or the currency that all of them have; none where other amounts count, since money is
    no number of clicks.
    """
    (name, metric), *others = rule.metrics.items()
    word = name.replace("_", " ")
    if not others and metric.is_binary and not metric.by and rule.bounds == (0.0, 1.0):
        events = f"{word}s"
        label = events.capitalize()
        return Measure(
            is_rate=True,
            total=label,
            mean=f"{word.capitalize()} rate",
            amount=f"{{}} {events}",
            events=events,
        )
    if not others and metric.is_own_reward:
        label = word.capitalize()
        return Measure(
            is_rate=False,
            total=label,
            mean=f"{label} per email",
            amount=f"{{}} of {word}",
            events="results",
            unit=f"in {rule.currency}" if rule.currency else "",
        )
    return _score_measure(rule)


def _score_measure(rule: RewardRule) -> Measure:
    """Name the weighted sum of several metrics: an email's score, whose total is its value."""
    binary = all(metric.is_binary for metric in rule.metrics.values())
    units = [
        f"{name.replace('_', ' ')}s"
        for name, metric in rule.metrics.items()
        if binary and metric.is_own_reward
    ]
    if rule.currency:
        units = [rule.currency]
    unit = f"{units[0]} " if units else ""
    return Measure(
        is_rate=False,
        total="Value",
        mean="Score per email",
        amount=f"{{}} {unit}in value",
        events="results",
        unit=f"in {units[0]}" if units else "",
    )


def variant_name(variant: Variant) -> str:
    """Return the label of a variant: its name, or its subject line or discount, or its key."""
    text, percent_off = variant.payload.get("text"), variant.payload.get("percent")
    if variant.name:
        return variant.name
    # A payload is the sender's own JSON: it may hold anything under these names.
    if isinstance(text, str) and text.strip():
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"
    if isinstance(percent_off, int | float) and not isinstance(percent_off, bool):
        return f"{amount(percent_off)} % off"
    return variant.key


def slot_name(slot: Slot) -> str:
    """Return the label of a slot: its name, or its kind."""
    return slot.name or (slot.key if slot.kind == "other" else KINDS[slot.kind])


def arm_name(experiment: Experiment, variants: Mapping[str, str]) -> str:
    """Return the label of an arm: those of its variants."""
    return " · ".join(variant_names(experiment, variants))


def variant_names(experiment: Experiment, variants: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels of an arm's variants, one a slot."""
    shown = [
        next(v for v in slot.variants if v.key == variants[slot.key]) for slot in experiment.slots
    ]
    return tuple(variant_name(variant) for variant in shown)

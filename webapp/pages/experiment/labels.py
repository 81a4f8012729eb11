"""What pages call an experiment's states, what it counts, its parts, variants and versions."""

from collections.abc import Mapping
from math import ceil, floor, log10

from msgspec import Struct

from bandits.experiment import Experiment, Slot, Variant
from bandits.rewards import RewardRule
from webapp.pages.form.form_model import KINDS
from webapp.pages.formatting import amount, brief

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
    """What the reward of an experiment is called, and whether it is a rate.

    Attributes:
        total: of many emails: "Clicks", "Revenue", "Worth in clicks".
        mean: of one: "Click rate", "Revenue per email", "Worth per email in clicks".
        amount: how so much of it is written: "{} clicks", "{} of revenue", "{} clicks' worth".
        events: what recipients do, for sentences on events rather than on what they earn.
    """

    is_rate: bool
    total: str
    mean: str
    amount: str
    events: str

    def of(self, number: str) -> str:
        """Write so much of it."""
        return self.amount.format(number)

    def at_most_per_thousand(self, value: float) -> str:
        """Write a bound as people imagine it, never too low: "0.4 clicks per 1,000 emails"."""
        return f"{self.of(brief(_rounded_up(_THOUSAND * value)))} per 1,000 emails"


def _rounded_up(value: float) -> float:
    """Keep the two digits that tell something, from above: 13, 4.1, 0.42."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (floor(log10(value)) - 1)
    return float(f"{ceil(value / unit - _ROUNDING) * unit:.2g}")


def measure(rule: RewardRule) -> Measure:
    """Name what is counted: clicks and click rate where that is all there is.

    Where several things count, each at its worth, the unit is one that is worth 1 and just happens:
    a click, say.
    """
    (name, metric), *others = rule.metrics.items()
    word = name.replace("_", " ")
    if not others and metric.is_binary and rule.bounds == (0.0, 1.0):
        events = f"{word}s"
        named = events.capitalize()
        return Measure(
            is_rate=True,
            total=named,
            mean=f"{word.capitalize()} rate",
            amount=f"{{}} {events}",
            events=events,
        )
    if not others and metric.weight == 1:
        named = word.capitalize()
        return Measure(
            is_rate=False,
            total=named,
            mean=f"{named} per email",
            amount=f"{{}} of {word}",
            events="results",
        )
    return _worth(rule)


def _worth(rule: RewardRule) -> Measure:
    units = [
        f"{name.replace('_', ' ')}s"
        for name, metric in rule.metrics.items()
        if metric.weight == 1 and metric.is_binary
    ]
    if not units:
        return Measure(
            is_rate=False,
            total="Worth",
            mean="Worth per email",
            amount="a worth of {}",
            events="results",
        )
    unit = units[0]
    return Measure(
        is_rate=False,
        total=f"Worth in {unit}",
        mean=f"Worth per email in {unit}",
        amount=f"{{}} {unit}’ worth",
        events="results",
    )


def called(variant: Variant) -> str:
    """Say what a variant is called: its name, or what recipients see of it, or its key."""
    text, percent_off = variant.payload.get("text"), variant.payload.get("percent")
    if variant.name:
        return variant.name
    # A payload is the sender's own JSON: it may hold anything under these names.
    if isinstance(text, str) and text.strip():
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"
    if isinstance(percent_off, int | float) and not isinstance(percent_off, bool):
        return f"{amount(percent_off)} % off"
    return variant.key


def titled(slot: Slot) -> str:
    """Say what a part of the email is called."""
    return slot.name or (slot.key if slot.kind == "other" else KINDS[slot.kind])


def named(experiment: Experiment, variants: Mapping[str, str]) -> str:
    """Say what an arm is called: its variants' names."""
    return " · ".join(names(experiment, variants))


def names(experiment: Experiment, variants: Mapping[str, str]) -> tuple[str, ...]:
    """Say what each of an arm's variants is called, part by part."""
    by_key = {(s.key, v.key): called(v) for s in experiment.slots for v in s.variants}
    return tuple(by_key[s.key, variants[s.key]] for s in experiment.slots)

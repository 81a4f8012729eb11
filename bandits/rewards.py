"""The reward rule: from the metric events of a decision to the one number it earned."""

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct

from bandits.array_types import FloatArray, IntArray
from bandits.errors import Fault
from bandits.identifiers import Key, pointer

Currency = Annotated[
    str, Meta(pattern=r"^[A-Z]{3}\Z", description="a currency's three letters, such as EUR")
]

_TEN_YEARS = 315_360_000
_MOST = 1e50  # of a reward, and of its inverse: the fourth power is summed over all decisions


class Metric(Struct, frozen=True, forbid_unknown_fields=True):
    """A metric: the events of one kind, and their worth.

    Attributes:
        weight: what one unit of it adds to the reward; below 0 for an unwanted event.
        count: ``once`` takes the largest value of a decision's events, ``sum`` adds them up to
            at most `high`; both are the same in whatever order events arrive.
        low: the smallest value of an event.
        high: the largest value of an event, and of their sum.
        latest: of a decision's events the value of the one with the largest (`as_of`, event id)
            counts, and no other; each must tell its `as_of`. Not with ``sum``.
        by: by one slot and its variants, the weight instead of `weight`, where an order at 30 % off
            earns less, say. It may be 0 or of the other sign. A variant that is not named has
            `weight`.
        currency: ISO 4217 code of its values, where they are amounts of money that add up (``sum``
            or `latest`); for display.
    """

    weight: Annotated[float, Meta(description="what one unit adds to the reward")] = 1.0
    count: Literal["once", "sum"] = "once"
    low: Annotated[float, Meta(description="the smallest value of an event")] = 0.0
    high: Annotated[float, Meta(description="the largest value of an event")] = 1.0
    latest: bool = False
    by: Annotated[
        dict[Key, dict[Key, float]],
        Meta(max_length=1, description="by one slot and its variants, the weight there"),
    ] = {}
    currency: Currency | None = None

    @property
    def weights(self) -> frozenset[float]:
        """Every weight that it can have."""
        return frozenset(
            {self.weight, *(w for by_variant in self.by.values() for w in by_variant.values())}
        )

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest that it can add to a reward, whatever the variant."""
        ends = [weight * end for weight in self.weights for end in (self.low, self.high, 0.0)]
        return min(ends), max(ends)

    def weight_with(self, variants: Mapping[str, str]) -> float:
        """Return what one unit of it adds to the reward of an arm, by the variant of each slot."""
        for slot, by_variant in self.by.items():
            return by_variant.get(variants[slot], self.weight)
        return self.weight

    @property
    def is_own_reward(self) -> bool:
        """True where what it adds to a reward is its value: weight 1, whatever the variant."""
        return self.weight == 1 and not self.by

    @property
    def is_binary(self) -> bool:
        """True where it happens or not, like a click: it counts once, from 0 to 1."""
        return self.count == "once" and (self.low, self.high) == (0.0, 1.0)

    def faults(self, place: str) -> list[Fault]:
        """List what is wrong with the declaration, which stands at a place."""
        faults = []
        if not isfinite(self.weight) or self.weight == 0:
            faults.append(Fault(f"{place}/weight", "must be a finite number other than 0"))
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            faults.append(Fault(f"{place}/high", "must be a finite number above low"))
        if self.latest and self.count == "sum":
            faults.append(Fault(f"{place}/latest", "must not be true beside the count 'sum'"))
        for slot, by_variant in self.by.items():
            at = place + pointer("by", slot)
            if not by_variant:
                faults.append(Fault(at, "must name at least one variant"))
            for variant, weight in by_variant.items():
                if not isfinite(weight):
                    faults.append(Fault(at + pointer(variant), "must be a finite number"))
        if self.currency is not None and not (self.latest or self.count == "sum"):
            detail = "is for amounts of money that add up: use the count 'sum', or latest"
            faults.append(Fault(f"{place}/currency", detail))
        return faults

    def aggregate(self, rows: IntArray, values: FloatArray, n: int) -> FloatArray:
        """Aggregate events, each of one of n decisions (`rows`), to (n,); 0 without an event.

        Where the latest counts, they come in the order of (`as_of`, event id).
        """
        out = np.zeros(n)
        if self.latest:
            out[rows] = values  # of a row that comes more than once, the last one stays
            return out
        if self.count == "sum":
            np.add.at(out, rows, values)
            return np.clip(out, min(self.low, 0.0), max(self.high, 0.0))
        top = np.full(n, -np.inf)
        np.maximum.at(top, rows, values)
        return np.where(np.isneginf(top), 0.0, top)


_ONCE = Metric()  # happened or not, however often it is reported
_MONEY = Metric(count="sum", high=1e9)

# Events that every experiment takes by name beside its declared metrics, and never learns from.
LISTED_EVENTS: dict[str, Metric] = {
    "open": _ONCE,
    "click": _ONCE,
    "order": _MONEY,
    "reply": _ONCE,
    "unsubscribe": _ONCE,
    "complaint": _ONCE,
    "bounce": _ONCE,
    "refund": _MONEY,
    "delivered": _ONCE,
    "machine_open": _ONCE,
}
UNWANTED_EVENTS = frozenset({"unsubscribe", "complaint", "bounce", "refund"})


class RewardRule(Struct, frozen=True, forbid_unknown_fields=True):
    """Rule that builds the reward of a decision from its events.

    Attributes:
        metrics: by name; an event of any other metric is refused.
        window_seconds: how long after a decision an event still counts.
        maturity_seconds: how long to wait until silence counts as zero.
        goal: maximise, or minimise (unsubscribes, complaints).
        costs: by slot and variant, what sending that variant costs, in units of the reward. It is
            taken off the reward, or added to it where less is better.
    """

    metrics: Annotated[dict[Key, Metric], Meta(min_length=1, max_length=20)]
    window_seconds: Annotated[float, Meta(ge=0, le=_TEN_YEARS)] = 604_800.0
    maturity_seconds: Annotated[float, Meta(ge=0, le=_TEN_YEARS)] | None = None
    goal: Literal["maximise", "minimise"] = "maximise"
    costs: dict[Key, dict[Key, float]] = {}

    @property
    def maturity(self) -> float:
        """Seconds to wait until silence counts as zero: the whole window unless declared."""
        return self.window_seconds if self.maturity_seconds is None else self.maturity_seconds

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest reward that a decision can earn."""
        ends = [m.bounds for m in self.metrics.values()]
        low, high = sum(low for low, _ in ends), sum(high for _, high in ends)
        least = sum(min([0.0, *by_variant.values()]) for by_variant in self.costs.values())
        most = sum(max([0.0, *by_variant.values()]) for by_variant in self.costs.values())
        if self.goal == "minimise":
            return low + least, high + most
        return low - most, high - least

    def cost(self, variants: Mapping[str, str]) -> float:
        """Return what sending an arm adds to its reward, by the variant of each slot."""
        total = sum(
            self.costs.get(slot, {}).get(variant, 0.0) for slot, variant in variants.items()
        )
        return total if self.goal == "minimise" else -total

    def weights(self, variants: Mapping[str, str]) -> dict[str, float]:
        """Return what one unit of each metric adds to an arm's reward, in the order of `names`."""
        return {name: self.metrics[name].weight_with(variants) for name in self.names}

    @property
    def has_weights_by_variant(self) -> bool:
        """True where the weight of some metric depends on a variant."""
        return any(metric.by for metric in self.metrics.values())

    @property
    def currency(self) -> str | None:
        """Currency of rewards: that of every metric; None where some metric has none."""
        currencies = {metric.currency for metric in self.metrics.values()}
        return currencies.pop() if len(currencies) == 1 else None

    @property
    def is_single_answer(self) -> bool:
        """True where a reward is one event that happens or not, and nothing else."""
        metrics = list(self.metrics.values())
        return (
            len(metrics) == 1
            and metrics[0] == Metric()
            and self.goal == "maximise"
            and not any(cost for by_variant in self.costs.values() for cost in by_variant.values())
            and self.window_seconds > 0
        )

    def as_maximised(self, rewards: FloatArray) -> FloatArray:
        """Turn rewards (n,) so that more is better: where less is, mirrored within the bounds."""
        if self.goal == "maximise":
            return rewards
        low, high = self.bounds
        return low + high - rewards

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics in alphabetical order: arrays by metric keep it however a rule is written."""
        return tuple(sorted(self.metrics))

    @property
    def event_names(self) -> tuple[str, ...]:
        """The metrics as `names` has them, and behind them the listed events that are none."""
        return (*self.names, *(name for name in LISTED_EVENTS if name not in self.metrics))

    def event(self, name: str) -> Metric:
        """Return how events of a name are counted, declared or listed.

        Raises:
            KeyError: it is neither.
        """
        return self.metrics.get(name) or LISTED_EVENTS[name]

    def needs_as_of(self, name: str) -> bool:
        """Return true for an event that must tell its `as_of`: the latest of its metric counts."""
        metric = self.metrics.get(name)
        return metric is not None and metric.latest

    @property
    def has_latest(self) -> bool:
        """True where the latest value of some metric counts."""
        return any(metric.latest for metric in self.metrics.values())

    def less_is_better(self, name: str) -> bool:
        """Return true for an event that is unwanted: by its weight where it is declared."""
        metric = self.metrics.get(name)
        if metric is None:
            return name in UNWANTED_EVENTS
        return (metric.weight < 0) == (self.goal == "maximise")

    def faults(self) -> list[Fault]:
        """List what is wrong with the declaration."""
        faults: list[Fault] = []
        currency: str | None = None
        for name, metric in self.metrics.items():
            faults += metric.faults(pointer("metrics", name))
            currency = currency or metric.currency
            if metric.currency not in (None, currency):
                detail = f"must be {currency} as of the other metrics: a rule has one currency"
                faults.append(Fault(pointer("metrics", name, "currency"), detail))
        for slot, by_variant in self.costs.items():
            if not by_variant:
                faults.append(Fault(pointer("costs", slot), "must name at least one variant"))
            for variant, cost in by_variant.items():
                if not isfinite(cost):
                    faults.append(Fault(pointer("costs", slot, variant), "must be a finite number"))
        low, high = self.bounds
        if not (faults or (-_MOST <= low < high <= _MOST and high - low >= 1 / _MOST)):
            detail = f"must add up to at least {1 / _MOST:g}, and at most {_MOST:g} either way"
            faults.append(Fault("/metrics", detail))
        if self.maturity > self.window_seconds:
            faults.append(Fault("/maturity_seconds", "must not be longer than window_seconds"))
        return faults

    def measure(
        self,
        rows: IntArray,
        metrics: IntArray,
        values: FloatArray,
        n: int,
        weights: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Turn events into rewards.

        Args:
            rows: (e,) which of the n decisions each event is of. Those of a metric of which the
                latest counts come in the order of (`as_of`, event id).
            metrics: (e,) the position of its metric in `names`; listed events, whose positions
                are behind these, earn nothing.
            values: (e,) its value.
            n: how many decisions there are.
            weights: (M, n) of each metric with the variants of each decision, as `weights` has
                them; None where none depends on variants.

        Returns:
            Rewards (n,) before costs, and the aggregated value of each metric (M, n).
        """
        parts = np.zeros((len(self.metrics), n))
        declared = [self.metrics[name] for name in self.names]
        for i, metric in enumerate(declared):
            of_metric = metrics == i
            if of_metric.any():
                parts[i] = metric.aggregate(rows[of_metric], values[of_metric], n)
        if weights is not None:
            return np.einsum("mn,mn->n", weights, parts), parts
        return np.array([m.weight for m in declared]) @ parts, parts


AS_OF_REQUIRED = "is required: of this metric the value of the latest as_of counts"


def refuse_value(rule: RewardRule, metric: str, value: float) -> str | None:
    """Return why an event does not fit the rule, or None; listed events fit every rule."""
    declared = rule.metrics.get(metric) or LISTED_EVENTS.get(metric)
    if declared is None:
        names, listed = ", ".join(rule.names), ", ".join(rule.event_names[len(rule.metrics) :])
        return f"unknown metric {metric!r}; known are {names}, and without reward {listed}"
    if not isfinite(value):
        return "must be a finite number"
    if not declared.low <= value <= declared.high:
        return f"must lie in [{declared.low:g}, {declared.high:g}]"
    return None

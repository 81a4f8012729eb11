"""Events by name: how many emails of each arm have them, and differences from the control."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from msgspec import structs

from bandits.array_types import FloatArray
from bandits.engine.analysis.findings import Analysis
from bandits.inference.aipw_sums import AipwSums
from bandits.inference.estimates import constant_rates, contrasts, values
from bandits.inference.event_sums import EventSums
from bandits.inference.intervals import RESUMMING, Family, Finding, NotYet
from bandits.results import ArmEvents, EventGroup, EventResult
from bandits.rewards import LISTED_EVENTS, RewardRule

F = TypeVar("F")

_ALONE = Family("values")
_NONE_CLOSED = NotYet(
    "No email's results are final yet.", "no decision that counts has closed its window"
)


def event_results(analysis: Analysis) -> list[EventResult]:
    """Find the declared metrics and the listed events that came, by arm.

    Declared ones come first, in the order of their declaration, then the others as they are listed.
    Of sums that are being made anew nothing is shown.
    """
    rule, events = analysis.active.experiment.reward, analysis.inference.events
    if analysis.resumming:
        events = EventSums.zeros(analysis.active.problem.n_arms)
    came = [name for name in LISTED_EVENTS if name in events.names]
    names = list(dict.fromkeys([*rule.metrics, *came]))
    rates = _EventFindings(analysis, names, events.rate_sums(names, analysis.inference.arms))
    valued = [name for name in names if not rule.event(name).is_binary]
    sums = events.value_sums(valued, analysis.inference.arms)
    return [
        EventResult(
            name,
            rule.metrics[name].weight if name in rule.metrics else None,
            rule.less_is_better(name),
            arms,
            control_group if analysis.active.experiment.holdout > 0 else None,
            analysis.arm_family if name == rates.score else rates.family,
            rule.metrics[name].by if name in rule.metrics else {},
            rule.metrics[name].currency if name in rule.metrics else None,
        )
        for name, arms, control_group in _rows(
            events, rates, _EventFindings(analysis, valued, sums)
        )
    ]


class _EventFindings:
    """Findings on E events: the mean of each arm, and its difference from the control's.

    Differences of all events, those that have not come yet included, hold together, so that a
    further event changes none of them; each mean stands by itself. An event that is the whole score
    has the lifts of the score, so that a page says one thing of it.

    Attributes:
        score: the name of that event, None where the score is made otherwise.
    """

    def __init__(self, analysis: Analysis, names: Sequence[str], sums: AipwSums) -> None:
        """Read `sums`, whose leading axis is `names`."""
        self.names = names
        self.family = _family(analysis.active.experiment.reward, sums.n_arms)
        self._sums = sums
        self._control = analysis.active.control
        self._nothing = RESUMMING if analysis.resumming else _NONE_CLOSED
        self._any = bool(names) and bool(analysis.closed.any()) and not analysis.resumming
        self._facts = analysis.facts
        self.score = _score(analysis)
        self._lifts = analysis.lifts

    def means(self, *, rates: bool) -> dict[str, list[Finding]]:
        """Find the mean of each arm, by name."""
        low, high = (0.0, 1.0) if rates else (-np.inf, np.inf)
        facts = structs.replace(self._facts, low=low, high=high)
        if self._any and constant_rates(facts, self._sums):
            sums = self._sums
            columns = zip(self.names, sums.moments, sums.earning, strict=True)
            return {
                name: values(facts, AipwSums(sums.eligible, moments, earning), _ALONE)
                for name, moments, earning in columns
            }
        units = np.eye(self._sums.n_arms)
        return self._by_name([self._contrasts(unit, _ALONE) for unit in units])

    def differences(self) -> dict[str, list[Finding | None]]:
        """Find the difference of each arm from the control, None for the control, by name."""
        units = np.eye(self._sums.n_arms)
        findings = [
            None
            if k == self._control
            else self._contrasts(unit - units[self._control], self.family)
            for k, unit in enumerate(units)
        ]
        by_name = self._by_name([[None] * len(self.names) if f is None else f for f in findings])
        if self.score in by_name and self._any:
            by_name[self.score] = [self._lifts.get(k) for k in range(len(units))]
        return by_name

    def _contrasts(self, weights: FloatArray, family: Family) -> list[Finding]:
        if not self._any:
            return [self._nothing] * len(self.names)
        return contrasts(self._facts, self._sums, weights, family)

    def _by_name(self, by_arm: Sequence[Sequence[F]]) -> dict[str, list[F]]:
        return {name: [row[e] for row in by_arm] for e, name in enumerate(self.names)}


def _score(analysis: Analysis) -> str | None:
    """Return the event that is the whole score: one binary metric of weight 1, without costs."""
    rule = analysis.active.experiment.reward
    if len(rule.metrics) > 1 or analysis.active.configuration.costs.any():
        return None
    [(name, metric)] = rule.metrics.items()
    return name if metric.is_binary and metric.is_own_reward else None


def _family(rule: RewardRule, n_arms: int) -> Family:
    """Make the family of all differences that may be shown: rates and values of all events."""
    claims = sum(1 if rule.event(name).is_binary else 2 for name in rule.event_names)
    return Family("differences of events from the control", max(1, claims * (n_arms - 1)))


def _rows(
    events: EventSums, rates: _EventFindings, amounts: _EventFindings
) -> Iterator[tuple[str, list[ArmEvents], EventGroup]]:
    """Yield each event's name, its figures by arm, and those of the control group."""
    rate, rate_difference = rates.means(rates=True), rates.differences()
    amount, amount_difference = amounts.means(rates=False), amounts.differences()
    so_far, closed = events.counts(rates.names)
    for e, name in enumerate(rates.names):
        *groups, control_group = _groups(events, so_far[e], closed[e], valued=name in amounts.names)
        nothing: list[None] = [None] * len(groups)
        findings = zip(
            rate[name],
            rate_difference[name],
            amount.get(name, nothing),
            amount_difference.get(name, nothing),
            strict=True,
        )
        arms = [
            ArmEvents(
                **structs.asdict(group),
                closed_rate=mean,
                difference=difference,
                closed_value=value,
                value_difference=value_difference,
            )
            for group, (mean, difference, value, value_difference) in zip(
                groups, findings, strict=True
            )
        ]
        yield name, arms, control_group


def _groups(
    events: EventSums, so_far: FloatArray, closed: FloatArray, *, valued: bool
) -> list[EventGroup]:
    """Summarise the events of one name, (4, K + 1) each, by arm and of the control group."""
    columns = zip(events.sent.tolist(), events.over.tolist(), so_far.T, closed.T, strict=True)
    return [
        EventGroup(
            round(sent),
            1 - over / sent if sent else None,
            round(counts[0]),
            round(counts[1]),
            float(counts[0] / sent) if sent else None,
            float(counts[2]) if valued else None,
            round(over),
            round(closed_counts[0]),
        )
        for sent, over, counts, closed_counts in columns
    ]

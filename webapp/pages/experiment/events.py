"""Events on the campaign page: the rate of each by version, beside the score and its recipe."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from bandits.inference.estimates import BURN_IN_CONVERSIONS
from bandits.inference.intervals import Finding
from bandits.results import ArmEvents, ArmResult, EventGroup, EventResult, Results, SetAside
from bandits.rewards import Metric, RewardRule
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle, arm_styles
from webapp.pages.experiment.labels import Measure, arm_name, reward_measure, variant_names
from webapp.pages.experiment.results_view import BarScale, first_rows, missing_reasons
from webapp.pages.formatting import amount, event_plural, heading, phrase

_MOST_ROWS = 12  # versions on the page; the file has all
_MOST_COLUMNS = 6  # side by side; with more, each version is a block of figures


class EventCell(Struct, frozen=True):
    """One event of one version.

    Attributes:
        so_far: its rate, or its value per email, among all sent emails.
        final: the same among emails whose results can no longer change.
        difference: how much more that is than the control's; None for the control itself.
        verdict: whether the difference is good news, where it is no matter of chance.
    """

    so_far: float | None
    final: Finding
    difference: Finding | None
    verdict: Literal["better", "worse", ""]


class EventColumn(Struct, frozen=True):
    """One event: its rate by version, or its value per email.

    Attributes:
        title: "Clicks", or "Order per email".
        recipe: what it counts for in the score, "1 ×"; empty where it counts for nothing.
        cells: one for each version shown, by its number.
        control_group: its figure so far in the control group, None without one.
    """

    title: str
    recipe: str
    less_is_better: bool
    measure: Measure
    cells: dict[int, EventCell]
    control_group: float | None
    scale: BarScale | None
    reference: float | None


class EventVersion(Struct, frozen=True):
    """One version's row."""

    style: ArmStyle
    names: tuple[str, ...]
    result: ArmResult


class EventsView(Struct, frozen=True):
    """Events of a campaign as its page shows them.

    Attributes:
        first: versions shown at once.
        others: versions that are a click away.
        came: some event was reported.
        recipe: how the score adds up, "1 × click + 0.5 × order"; empty where one event is all that
            counts, so that its column says it.
        open: share of sent emails whose results can still change, None before the first.
        hidden: versions that only the file has.
        set_aside: judged events that do not count, by name: ("Clicks", 310).
        waiting: some comparison has too few events yet,
        missing: and why others, or intervals, cannot be there.
    """

    first: tuple[EventVersion, ...]
    others: tuple[EventVersion, ...]
    columns: tuple[EventColumn, ...]
    came: bool
    recipe: str
    score: Measure
    score_scale: BarScale | None
    score_reference: float | None
    open: float | None
    hidden: int
    set_aside: tuple[tuple[str, int], ...]
    waiting: bool
    missing: tuple[str, ...]
    family: str
    needed: int = BURN_IN_CONVERSIONS

    @property
    def is_wide(self) -> bool:
        """True where columns would not fit side by side."""
        return len(self.columns) + bool(self.recipe) > _MOST_COLUMNS


def events_view(
    record: ExperimentRecord, results: Results, order: Sequence[int], aside: SetAside | None = None
) -> EventsView:
    """Build the panel's rows and columns.

    Args:
        record: the experiment.
        results: its results.
        order: numbers of arms, as their rows follow each other.
        aside: what was set aside, where machines are left out.
    """
    experiment = record.configuration.experiment
    control = next(arm.index for arm in results.arms if arm.control)
    labels = [arm_name(experiment, arm.variants) for arm in results.arms]
    styles = arm_styles(labels, control)
    first = first_rows(order, control)
    shown = [*first, *(k for k in order if k not in first)][:_MOST_ROWS]
    rows = tuple(
        EventVersion(
            styles[k], variant_names(experiment, results.arms[k].variants), results.arms[k]
        )
        for k in shown
    )
    columns = tuple(
        column for event in results.events for column in _columns(event, shown, control)
    )
    score = results.arms[control].value
    cells = [cell for column in columns for cell in column.cells.values()]
    reasons = missing_reasons([f for cell in cells for f in (cell.final, cell.difference)])
    missing = [reason for reason in reasons if not reason.startswith("Not enough yet")]
    return EventsView(
        rows[: len(first)],
        rows[len(first) :],
        columns,
        any(arm.emails for event in results.events for arm in _groups(event)),
        recipe_text(experiment.reward),
        reward_measure(experiment.reward),
        BarScale.from_findings([row.result.value for row in rows]),
        score.estimate if score.measurable else None,
        _open_share(results.events[0]),
        len(order) - len(shown),
        tuple((e.name, e.set_aside) for e in (aside.events if aside else ()) if e.set_aside),
        len(missing) < len(reasons),
        tuple(missing),
        results.events[0].family.sentence,
    )


def recipe_text(rule: RewardRule) -> str:
    """Write how a score adds up: "1 × click + 0.5 × order − 3 × unsubscribe"."""
    (first, *_) = metrics = list(rule.metrics.items())
    if len(metrics) == 1 and first[1].is_own_reward and not rule.costs:
        return ""
    text = "".join(
        f" {'−' if metric.weight < 0 else '+'} {amount(abs(metric.weight))} × {phrase(name)}"
        f"{_exceptions(metric)}"
        for name, metric in metrics
    )
    text = f"−{text[3:]}" if first[1].weight < 0 else text[3:]
    sign = "+" if rule.goal == "minimise" else "−"
    return f"{text} {sign} cost of the version" if rule.costs else text


def _exceptions(metric: Metric) -> str:
    """Write the weights of variants: " (0.36 × with d10, −0.2 × with d60)"."""
    terms = [
        f"{amount(weight)} × with {variant}"
        for by_variant in metric.by.values()
        for variant, weight in by_variant.items()
    ]
    return f" ({', '.join(terms)})" if terms else ""


def _open_share(event: EventResult) -> float | None:
    groups = _groups(event)
    sent = sum(group.sent for group in groups)
    return 1 - sum(group.closed for group in groups) / sent if sent else None


def _groups(event: EventResult) -> list[EventGroup]:
    return [*event.arms, *([event.holdout] if event.holdout else [])]


def _columns(event: EventResult, shown: Sequence[int], control: int) -> list[EventColumn]:
    """Make the column of an event's rate and, where it has a value, that of its value."""
    word = event_plural(event.name)
    recipe = "" if event.weight is None else f"{amount(event.weight)} ×"
    if event.weight_by:
        recipe = "by version"
    valued = event.arms[0].closed_value is not None
    rate = Measure(is_rate=True, total="", mean=heading(word), amount="", events=word)
    columns = [_column(event, rate, "" if valued else recipe, shown, control)]
    if valued:
        title = f"{heading(event.name)} value per email"
        title += f", {event.currency}" if event.currency else ""
        value = Measure(is_rate=False, total="", mean=title, amount="", events=word)
        columns.append(_column(event, value, recipe, shown, control))
    return columns


def _column(
    event: EventResult, measure: Measure, recipe: str, shown: Sequence[int], control: int
) -> EventColumn:
    def final(arm: ArmEvents) -> Finding:
        value = arm.closed_rate if measure.is_rate else arm.closed_value
        return arm.closed_rate if value is None else value

    def so_far(group: EventGroup) -> float | None:
        return group.rate if measure.is_rate or not group.sent else (group.value or 0) / group.sent

    arms = [event.arms[k] for k in shown]
    differences = [a.difference if measure.is_rate else a.value_difference for a in arms]
    cells = {
        k: EventCell(
            so_far(arm), final(arm), difference, _verdict(difference, less=event.less_is_better)
        )
        for k, arm, difference in zip(shown, arms, differences, strict=True)
    }
    reference = final(event.arms[control])
    return EventColumn(
        measure.mean,
        recipe,
        event.less_is_better,
        measure,
        cells,
        None if event.holdout is None else so_far(event.holdout),
        BarScale.from_findings([cell.final for cell in cells.values()]),
        reference.estimate if reference.measurable else None,
    )


def _verdict(difference: Finding | None, *, less: bool) -> Literal["better", "worse", ""]:
    if difference is None or not difference.measurable or difference.contains(0):
        return ""
    return "better" if (difference.estimate < 0) == less else "worse"

"""How an experiment stands, in the words and rows that its page shows."""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct

from bandits.experiment import Experiment, Slot, Variant
from bandits.results import ArmResult, Results
from bandits.rewards import RewardRule
from bandits.store import Record
from webapp.figures import Look, looks
from webapp.pages.durations import say
from webapp.pages.filters import amount, count, percent, plural
from webapp.pages.form.typed import KINDS

STATES = {
    "draft": "Draft",
    "running": "Running",
    "paused": "Paused",
    "stopped": "Stopped",
    "archived": "Archived",
}
_LONGEST = 36  # characters of a subject line that stand for it in tables and charts
_AHEAD = 1.25  # how many equal shares an arm must get to be called ahead


class Measure(Struct, frozen=True):
    """What the reward of an experiment is called, and whether it is a rate."""

    is_rate: bool
    total: str
    mean: str


class ArmRow(Struct, frozen=True):
    """One arm's row: its look, its variants' names by slot, and its figures."""

    look: Look
    names: tuple[str, ...]
    result: ArmResult


class VariantRow(Struct, frozen=True):
    """One variant's row: everything that was sent with it, whatever the other parts were."""

    position: int
    variant: Variant
    control: bool
    sent: int
    complete: int
    reward: float
    share_now: float | None

    @property
    def mean(self) -> float | None:
        """Reward per complete result."""
        return self.reward / self.complete if self.complete else None


class PartRows(Struct, frozen=True):
    """One part of the email and its variants' rows."""

    position: int
    slot: Slot
    rows: tuple[VariantRow, ...]


class Standing(Struct, frozen=True):
    """Everything that the experiment's page shows of its results."""

    headline: str
    advice: str
    measure: Measure
    arms: tuple[ArmRow, ...]
    parts: tuple[PartRows, ...]
    sent: int
    complete: int
    results: Results


def stand(record: Record, results: Results) -> Standing:
    """Put the page's rows and sentences together."""
    experiment = record.configuration.experiment
    labels = [named(experiment, a.variants) for a in results.arms]
    control = next(a.index for a in results.arms if a.control)
    arms = tuple(
        ArmRow(look, _names(experiment, result.variants), result)
        for look, result in zip(looks(labels, control), results.arms, strict=True)
    )
    held = results.holdout
    sent = sum(a.sent for a in results.arms) + (held.sent if held else 0)
    complete = sum(a.complete for a in results.arms) + (held.complete if held else 0)
    headline, advice = _words(record, arms, sent, complete)
    parts = tuple(_part(i, s, experiment, results.arms) for i, s in enumerate(experiment.slots))
    rule = experiment.reward
    return Standing(headline, advice, measure(rule), arms, parts, sent, complete, results)


def measure(rule: RewardRule) -> Measure:
    """Name what is counted: clicks and click rate where that is all there is."""
    low, high = rule.bounds
    if len(rule.metrics) > 1:
        return Measure(is_rate=False, total="Reward", mean="Reward per email")
    (name, metric), *_ = rule.metrics.items()
    word = name.replace("_", " ").capitalize()
    if (low, high) == (0.0, 1.0) and metric.weight == 1 and metric.count == "once":
        return Measure(is_rate=True, total=f"{word}s", mean=f"{word} rate")
    if metric.weight == 1:
        return Measure(is_rate=False, total=word, mean=f"{word} per email")
    return Measure(is_rate=False, total="Reward", mean="Reward per email")


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
    return " · ".join(_names(experiment, variants))


def _names(experiment: Experiment, variants: Mapping[str, str]) -> tuple[str, ...]:
    by_key = {(s.key, v.key): called(v) for s in experiment.slots for v in s.variants}
    return tuple(by_key[s.key, variants[s.key]] for s in experiment.slots)


def _part(position: int, slot: Slot, experiment: Experiment, arms: Sequence[ArmResult]) -> PartRows:
    control = experiment.control_variants()[position]
    rows = []
    for i, variant in enumerate(slot.variants):
        mine = [a for a in arms if a.variants[slot.key] == variant.key]
        shares = [a.share_now for a in mine if a.share_now is not None]
        rows.append(
            VariantRow(
                i,
                variant,
                variant.key == control,
                sum(a.sent for a in mine),
                sum(a.complete for a in mine),
                sum(a.reward for a in mine),
                float(np.sum(shares)) if len(shares) == len(mine) else None,
            )
        )
    return PartRows(position, slot, tuple(rows))


def _words(record: Record, arms: Sequence[ArmRow], sent: int, complete: int) -> tuple[str, str]:
    """Say in a sentence how it stands, and what comes next."""
    experiment = record.configuration.experiment
    versions = plural(len(arms), "version")
    match record.state:
        case "draft":
            return (
                "Not started: nothing is chosen yet.",
                (
                    f"It will choose between {versions} of the email. Look through the set-up, then"
                    " start; emails are chosen once your sender asks for them."
                ),
            )
        case "paused":
            return (
                "Paused: your sender's requests are refused until you resume.",
                "Results of emails already sent go on being counted.",
            )
        case "stopped" | "archived":
            return (
                f"Stopped after {plural(sent, 'email')}.",
                (
                    "Results still arriving are counted for"
                    f" {say(experiment.reward.window_seconds)} after each send."
                ),
            )
    if sent == 0:
        return (
            "Running, and waiting for your sender to ask for the first email.",
            f"It chooses between {versions}. Setup shows what your developers need.",
        )
    if complete == 0:
        return (
            f"{plural(sent, 'email')} sent; no result is complete yet.",
            (
                f"A result is complete {say(experiment.reward.maturity)} after its email was sent."
                " Until then nothing has been learned."
            ),
        )
    return _lead(arms, sent, complete)


def _lead(arms: Sequence[ArmRow], sent: int, complete: int) -> tuple[str, str]:
    done = f"{percent(complete / sent, 0)} of {plural(sent, 'email')} have a complete result."
    caution = (
        "The rates below are raw: a lead, above all an early one, can be luck. Keep it running"
        " over a whole week, since weekdays and weekends differ."
    )
    known = [a for a in arms if a.result.share_now is not None]
    if not known:
        return done, caution
    top = max(known, key=lambda a: a.result.share_now or 0.0)
    share = top.result.share_now or 0.0
    if share * len(arms) < _AHEAD:
        return f"All {count(len(arms))} versions get about the same share of sends. {done}", caution
    return f"{top.look.label} now gets the most sends: {percent(share, 0)}. {done}", caution

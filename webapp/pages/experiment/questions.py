"""Questions that people ask of a campaign, each with a measured answer or "cannot be told yet"."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from msgspec import Struct

from bandits.inference.intervals import Finding, Interval
from bandits.results import Interaction, Results
from bandits.store.values import ExperimentRecord
from simulations.planning.forecast import SHARES
from simulations.planning.wave_simulation import CampaignPlan, simulate_test
from webapp.pages.experiment.labels import (
    Measure,
    arm_name,
    reward_measure,
    slot_name,
    variant_name,
)
from webapp.pages.form.prior_campaigns import shrink_rates
from webapp.pages.formatting import count, gain, percent, short_number

_REPLICATIONS = 300  # of a simulated A/B test
_FEW = 3  # versions that are named one by one
_PER_THOUSAND = 1000.0
_OPEN = "Cannot be told yet."

AnswerKind = Literal["measured", "simulated", "open"]


class Answer(Struct, frozen=True):
    """A question and its answer.

    Attributes:
        kind: ``measured`` with a guarantee, ``simulated``, or ``open`` where it cannot be told.
    """

    question: str
    answer: str
    kind: AnswerKind


class QuestionContext(Struct, frozen=True):
    """Results with the names that answers need."""

    record: ExperimentRecord
    results: Results
    measure: Measure
    labels: Sequence[str]

    @property
    def minimised(self) -> bool:
        """True where less of the reward is better."""
        return self.results.goal == "minimise"

    @property
    def personal(self) -> bool:
        """True where versions are chosen by recipient."""
        return self.results.verdict.against == "policy"

    def total(self, value: float) -> str:
        """Write a total of the reward, without its sign."""
        return self.measure.quantity(self._number(value))

    def range(self, low: float, high: float) -> str:
        """Write a range of gains with their signs."""
        ends = (f"{'−' if v < 0 else ''}{self._number(v)}" for v in (low, high))
        return "between {} and {}".format(*ends)

    def _number(self, value: float) -> str:
        return gain(abs(value), whole=self.measure.is_rate).removeprefix("+")


def answer_questions(record: ExperimentRecord, results: Results) -> tuple[Answer, ...]:
    """Answer every question; none before results are final, or where they cannot be trusted."""
    if not results.closed or results.verdict.action == "check_health":
        return ()
    experiment = record.configuration.experiment
    labels = [f"“{arm_name(experiment, a.variants)}”" for a in results.arms]
    context = QuestionContext(record, results, reward_measure(experiment.reward), labels)
    gain = results.gain
    answers = [
        _gain(
            "Did it earn more than sending every version equally?", gain.over_equal_split, context
        ),
        _control_group(context),
        _ab_test(context),
        *_dependencies(context),
        _droppable(context),
    ]
    return tuple(answers)


def _gain(question: str, gain: Finding, context: QuestionContext) -> Answer:
    if not isinstance(gain, Interval):
        return Answer(question, f"{_OPEN} {gain.reason}", "open")
    sure = f"({context.range(gain.low, gain.high)}, {_sure(gain)})"
    if gain.contains(0):
        return Answer(question, f"{_OPEN} The difference is {sure[1:-1]}.", "open")
    fewer = "fewer" if context.measure.is_rate else "less"
    word = fewer if context.minimised == (gain.estimate > 0) else "more"
    yes = "Yes" if gain.estimate > 0 else "No"
    return Answer(question, f"{yes}: {context.total(gain.estimate)} {word} {sure}.", "measured")


def _sure(finding: Interval) -> str:
    return f"{percent(1 - finding.family.alpha, 0)} sure"


def _control_group(context: QuestionContext) -> Answer:
    question = "Did it earn more than sending everyone the control?"
    over_control = context.results.gain.over_control_group
    if over_control is None:
        return Answer(question, "Cannot be told: this campaign has no control group.", "open")
    return _gain(question, over_control, context)


def _ab_test(context: QuestionContext) -> Answer:
    """Compare with an A/B test of the same emails, by simulation at the rates measured here."""
    question = "Did it earn more than an A/B test would have?"
    results, gain = context.results, context.results.gain.over_equal_split
    if not context.measure.is_rate:
        return Answer(question, "Cannot be told: only rates are simulated.", "open")
    rates = _measured_rates(results)
    if rates is None or not isinstance(gain, Interval):
        return Answer(question, _OPEN, "open")
    test = _simulated_test(results.closed, rates, context.minimised)
    verdict = "Too close to call."
    if gain.low > test.high:
        verdict = "Probably yes."
    elif gain.high < test.low:
        verdict = "Probably not."
    words = (
        f"{verdict} This campaign gained {context.total(gain.estimate)}. By simulation, an A/B test"
        f" on {percent(test.share, 0)} of these emails gains about {context.total(test.mean)}"
        f" ({context.range(test.low, test.high)} in nine of ten)."
        " Both compare with sending every version equally, at the rates measured here."
    )
    return Answer(question, words, "simulated")


class MeasuredRates(Struct, frozen=True):
    """Rates of arms, shrunk towards each other, and how uncertain each still is; hashable."""

    means: tuple[float, ...]
    sds: tuple[float, ...]


class SimulatedTest(Struct, frozen=True):
    """Gain over an equal split of the A/B test that does best, with 90 % of its range."""

    share: float
    mean: float
    low: float
    high: float


def _measured_rates(results: Results) -> MeasuredRates | None:
    """Estimate the rates of the arms that have one; None where they are not told apart."""
    sizes = results.health.effective_sample_size
    pairs = [
        (size, a.value.estimate)
        for size, a in zip(sizes, results.arms, strict=True)
        if isinstance(a.value, Interval)
    ]
    shrunk = shrink_rates(*map(np.array, zip(*pairs, strict=True))) if len(pairs) > 1 else None
    if shrunk is None or not shrunk[1].any():  # without a spread, nothing could be won
        return None
    return MeasuredRates(*(tuple(row.round(6).tolist()) for row in shrunk))


@lru_cache(maxsize=256)
def _simulated_test(
    emails: int,
    rates: MeasuredRates,
    minimised: bool,  # noqa: FBT001 - a key of the cache
) -> SimulatedTest:
    """Simulate A/B tests of different sizes, each with rates drawn as uncertain as they are."""
    rng = np.random.default_rng(0)
    n_arms = len(rates.means)
    drawn = np.clip(rng.normal(rates.means, rates.sds, (_REPLICATIONS, n_arms)), 0.0, 1.0)
    truth = 1 - drawn if minimised else drawn
    levels = tuple((k,) for k in range(n_arms))
    plan = CampaignPlan((emails,), 0, rates.means, None, 0.0, 1.0, levels, shuffled=False)
    tests = []
    for share in SHARES:
        extra = simulate_test(plan, share, _REPLICATIONS, rng, truth).extra[:, -1]
        low, high = np.quantile(extra, [0.05, 0.95]).tolist()
        tests.append(SimulatedTest(share, float(extra.mean()), low, high))
    return max(tests, key=lambda test: test.mean)


def _dependencies(context: QuestionContext) -> list[Answer]:
    """Answer for every two parts whether the best variant of one depends on the other."""
    results, slots = context.results, context.record.configuration.experiment.slots
    if results.interactions is None:
        return []
    by_pair: dict[tuple[str, str], list[Interaction]] = {}
    for interaction in results.interactions.interactions:
        pair = (interaction.slot, interaction.other_slot)
        by_pair.setdefault(pair, []).append(interaction)
    names = {s.key: slot_name(s).lower() for s in slots}
    return [
        _dependency(f"Does the best {names[s]} depend on the {names[t]}?", pairs, context)
        for (s, t), pairs in by_pair.items()
    ]


def _dependency(
    question: str, interactions: Sequence[Interaction], context: QuestionContext
) -> Answer:
    shown = [i for i in interactions if isinstance(i.lift, Interval) and not i.lift.contains(0)]
    if shown:
        largest = max(shown, key=lambda i: abs(i.lift.estimate) if i.lift.measurable else 0.0)
        return Answer(question, _largest_dependency(largest, context), "measured")
    bounds = [max(abs(i.lift.low), abs(i.lift.high)) for i in interactions if i.lift.measurable]
    if len(bounds) < len(interactions):
        return Answer(question, f"{_OPEN} There are not enough final results yet.", "open")
    most = context.measure.at_most_per_thousand(max(bounds))
    family = context.results.interactions.family if context.results.interactions else None
    sure = "" if family is None else f" ({percent(1 - family.alpha, 0)} sure)"
    return Answer(question, f"Not shown. If it does, by at most about {most}{sure}.", "measured")


def _largest_dependency(interaction: Interaction, context: QuestionContext) -> str:
    lift = interaction.lift
    if not isinstance(lift, Interval):
        return _OPEN
    experiment = context.record.configuration.experiment
    names = {(s.key, v.key): f"“{variant_name(v)}”" for s in experiment.slots for v in s.variants}
    pairs = zip(experiment.slots, experiment.control_variants(), strict=True)
    controls = {slot.key: variant for slot, variant in pairs}
    variant = names[interaction.slot, interaction.variant]
    other = names[interaction.other_slot, interaction.other_variant]
    standard = names[interaction.other_slot, controls[interaction.other_slot]]
    control = names[interaction.slot, controls[interaction.slot]]
    low, high = sorted(_PER_THOUSAND * abs(b) for b in (lift.low, lift.high))
    by = context.measure.quantity(short_number(_PER_THOUSAND * abs(lift.estimate)))
    word = "more" if lift.estimate > 0 else "less"
    return (
        f"Yes. With {other}, {variant} gains {by} per 1,000 emails {word} over {control} than with"
        f" {standard} (between {short_number(low)} and {short_number(high)}, {_sure(lift)})."
    )


def _droppable(context: QuestionContext) -> Answer:
    question = "Which versions can be dropped?"
    verdict, arms = context.results.verdict, context.results.arms
    if context.personal:
        return Answer(
            question,
            "Cannot be told: a version that does worse on average may be best for some recipients.",
            "open",
        )
    moving = verdict.lifts_move or verdict.recent == "contradicts"
    if verdict.arm is None or verdict.at_most is None or moving:
        return Answer(question, _OPEN, "open")
    kept = {verdict.arm, *verdict.rivals, *verdict.uncompared}
    worse = [a.index for a in arms if a.index not in kept and not a.paused]
    if not worse:
        return Answer(question, "None yet: each could still be the best.", "measured")
    names, did = (
        _names(context, worse),
        "did worse than" if context.minimised else "earned less than",
    )
    family = verdict.family
    sure = "" if family is None else f" ({percent(1 - family.alpha, 0)} sure)"
    leader = context.labels[verdict.arm]
    return Answer(question, f"{names} {did} {leader}{sure}.", "measured")


def _names(context: QuestionContext, arms: Sequence[int]) -> str:
    if len(arms) > _FEW:
        return f"{count(len(arms))} versions: {', '.join(context.labels[k] for k in arms)}"
    *first, last = (context.labels[k] for k in arms)
    return f"{', '.join(first)} and {last}" if first else last

"""Results of an experiment: the answer of `Engine.results`, of the API and of the pages.

Every estimate is a `Finding`: an interval with its level, family and promise, or `NotYet` with the
reason. The promise of an interval and its conditions are in `Results.guarantees`.
Findings rest on *closed* decisions only: activated, not cancelled, not a fallback, their reward
window over; they never forget.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from bandits.inference.estimates import Lead
from bandits.inference.intervals import Family, Finding, Guarantee, Promise
from bandits.inference.sender_checks import SenderAlarm
from bandits.verdict import Statement, StatementsReset, Verdict


class ArmResult(Struct, frozen=True):
    """Results of one arm.

    Attributes:
        sent: decisions whose clocks have started, not cancelled.
        complete: of these, the matured ones.
        reward: Σ over the complete ones.
        mean: reward per complete decision, None before the first.
        share_now: the probability it is sent with now, see `Results.share_basis`.
        metrics: by metric, Σ over the complete ones.
        closed: of the complete ones, those that findings rest on.
        value: the mean reward per decision.
        lift: how much more reward per decision than the control; None for the control itself.
        chance_best: the chance that no other arm is better, see `Results.outlook`.
        expected_loss: reward per decision that sending only this arm is expected to give up.
    """

    index: int
    variants: dict[str, str]
    label: str
    control: bool
    paused: bool
    sent: int
    complete: int
    reward: float
    mean: float | None
    share_now: float | None
    metrics: dict[str, float]
    closed: int
    value: Finding
    lift: Finding | None
    chance_best: float | None
    expected_loss: float | None


class VariantResult(Struct, frozen=True):
    """Results of one variant of a slot, over all variants of the other slots.

    Attributes:
        sent: as of arms, summed over those with this variant; so are `complete` and `reward`.
        mean: reward per complete decision: raw, so the other slots are mixed in.
        value: the mean reward per decision under an equal mix of the other slots.
        lift: how much more than the control's variant, under an equal mix of the other slots; None
            for the control's variant itself.
        chance_best: the chance that the best arm has it, see `Results.outlook`.
        expected_loss: reward per decision that the best arm with it is expected to give up.
    """

    variant: str
    control: bool
    paused: bool
    sent: int
    complete: int
    reward: float
    mean: float | None
    share_now: float | None
    closed: int
    value: Finding
    lift: Finding | None
    chance_best: float | None
    expected_loss: float | None


class SlotResult(Struct, frozen=True):
    """A slot's variants; `family` holds the lifts of all slots together."""

    slot: str
    variants: list[VariantResult]
    family: Family


class GroupResult(Struct, frozen=True):
    """Results of the held-out subjects, who all got the control."""

    sent: int
    complete: int
    reward: float
    mean: float | None


class BayesNote(Struct, frozen=True):
    """Note on the Bayes numbers: chances and expected losses.

    Attributes:
        shown: true where there are any.
        note: the limits of their promise; where there are none, the reason.
    """

    shown: bool
    note: str


class Gain(Struct, frozen=True):
    """Gain of the experiment over two alternatives, over all closed decisions.

    More is better here: where a reward is to be minimised, it is the reward avoided.

    Attributes:
        over_equal_split: more than by equal shares of the arms that each recipient could get.
        over_control_group: more than if all subjects had got the control; None without a
            control group.
    """

    over_equal_split: Finding
    over_control_group: Finding | None


class SegmentLift(Struct, frozen=True):
    """A variant against the control's variant of its slot, within one segment."""

    slot: str
    variant: str
    lift: Finding


class EventGroup(Struct, frozen=True):
    """Events of one name among the emails of an arm, or of the control group.

    Attributes:
        sent: decisions whose clocks have started, not cancelled.
        open: share of them whose reward window is still open, so that their events can still
            come; None before the first.
        emails: those of `sent` with at least one such event so far.
        events: how many events they have.
        rate: `emails` of `sent`: so far, never final while some are open.
        value: Σ of the events' values, where they have one, such as money.
        closed: decisions whose window is over.
        closed_emails: those of them with at least one such event.
    """

    sent: int
    open: float | None
    emails: int
    events: int
    rate: float | None
    value: float | None
    closed: int
    closed_emails: int


class ArmEvents(EventGroup, frozen=True):
    """Events of one name among the emails of an arm, and what closed decisions say of them.

    Attributes:
        closed_rate: the rate of emails with the event.
        difference: how much higher that is than the control's; None for the control itself.
        closed_value: the mean value per email, None where events have none.
        value_difference: how much higher that is than the control's; None as the two above.
    """

    closed_rate: Finding
    difference: Finding | None
    closed_value: Finding | None
    value_difference: Finding | None


class EventResult(Struct, frozen=True):
    """Events of one name, by arm: a declared metric, or a listed event that came.

    Attributes:
        weight: what one unit of it adds to the reward; None where it is not declared, and so
            earns nothing.
        less_is_better: the event is unwanted, as an unsubscribe is.
        holdout: None without a control group.
        family: the differences, of all events and arms, that hold together.
        weight_by: by slot and variant, the weight instead of `weight`.
        currency: ISO 4217 code of its values, null where they are no money or nobody said.
    """

    name: str
    weight: float | None
    less_is_better: bool
    arms: list[ArmEvents]
    holdout: EventGroup | None
    family: Family
    weight_by: dict[str, dict[str, float]] = {}
    currency: str | None = None


class Segment(Struct, frozen=True):
    """The decisions of one value, or one band of values, of a feature.

    Attributes:
        label: the value; a band as "0 to 6"; None for no listed value.
        closed: decisions that `lifts` rest on.
        mean: reward per closed decision: raw.
        better: by slot, of the variants shown to be better than the control's here, the one that
            does best so far; a slot without any is not in it.
    """

    label: str | None
    closed: int
    mean: float | None
    lifts: list[SegmentLift]
    better: dict[str, str]


class FeatureResult(Struct, frozen=True):
    """A declared feature: the lifts of variants within each of its segments.

    Attributes:
        family: all lifts of all segments of all features that are shown hold together.
    """

    feature: str
    segments: list[Segment]
    family: Family


class Interaction(Struct, frozen=True):
    """Dependency of a variant's lift on the variant of another slot.

    Attributes:
        slot: of the variant whose lift it is.
        other_slot: the slot that the lift may depend on.
        other_variant: its variant.
        lift: over the control's variant with `other_variant`, less the same with the control's
            variant there, under an equal mix of further slots.
    """

    slot: str
    variant: str
    other_slot: str
    other_variant: str
    lift: Finding


class InteractionResult(Struct, frozen=True):
    """Interactions of every two slots; `family` holds all of them together."""

    interactions: list[Interaction]
    family: Family


class Split(Struct, frozen=True):
    """Sends of each arm beside its probabilities: lists by arm.

    Attributes:
        sent: drawn decisions whose clocks have started, whose probabilities could be derived again.
        expected: Σ of the probability of each arm over them.
        p_values: two-sided, of each arm; they hold however often one looks.
        alarmed: arms whose p-value is below `level`.
        level: by arm, so that any arm of a sound experiment ever alarms in less than 1 %.
    """

    sent: list[int]
    expected: list[float]
    p_values: list[float]
    alarmed: list[int]
    level: float


class LateRewards(Struct, frozen=True):
    """Reward that was reported only after its decision had matured.

    Attributes:
        share: of the reward of each arm's closed decisions, None where it has none.
        overall: of the reward of all closed decisions.
        differs: arms answer at different speeds, more than chance explains, so that learning at
            maturity favours the quick ones.
        p_value: of "all arms answer at one speed".
        warn: `differs`, or `overall` is above `limit`, or `so_far` is beyond chance.
        so_far: of all reward of matured decisions, open ones too: it grows until they close.
    """

    share: list[float | None]
    overall: float | None
    differs: bool
    p_value: float
    warn: bool
    limit: float
    so_far: float | None = None


class Drift(Struct, frozen=True):
    """Test of what moved while the experiment ran: the arms' levels, or their lifts.

    Attributes:
        p_value: of "nothing moved", however often one looks; 1 on too little data.
        found: it is low enough.
        periods: how many were compared: of levels days, four weeks at a time after eight weeks; of
            lifts whole weeks.
    """

    p_value: float
    found: bool
    periods: int


class EligibleSetCount(Struct, frozen=True):
    """Number of different eligible sets that one actor was the first to ask for.

    Attributes:
        actor: the API key (``key:3``), person or connection; None where that was not noted yet.
        share: part of those that results are kept for.
    """

    actor: str | None
    sets: int
    share: float


class Health(Struct, frozen=True):
    """Checks of the data, to look at before the results.

    Attributes:
        floor: the least probability of an eligible arm now.
        least_floor: the same, or the floor of a counted decision, if that was less.
        effective_sample_size: of each arm, (Σ 1/π)² / Σ 1/π² over its closed decisions: the
            number of decisions at equal probabilities that are worth as much.
        clipped: context values outside their range, since the start; cut to it.
        unknown: categories that are not listed.
        missing: values that took their default.
        repeated: events that were there before; counted once.
        late: events after their window; never counted.
        skewed: events from the future by a sender's clock; they count as of their report.
        early: events before their decision was made or activated; not kept.
        cancelled: events after their decision was cancelled; they do not count.
        maturing: share of sent decisions that have not matured, None before the first.
        open: share of sent decisions whose window is still open, None before the first.
        drift: the same as `levels`, by its earlier name.
        levels: of each arm's mean reward; where it was found to move, intervals for constant rates
            and chances to be best are not shown.
        lifts: of each arm's lift over the control, beyond what moves all arms alike.
        resummed: share of sent decisions that are in sums being made anew, after an upgrade to a
            version that keeps more; until all are, what rests on these is not shown. None where
            nothing is being summed.
        left_out: closed decisions that such sums lack, since retention had removed their rows.
        voided: decisions that are void, and so in none of the figures.
        senders: API keys whose emails are not what their draws, or the other keys, would make.
        eligible_sets: by who asked for them first; what one actor uses, others lack.
        excluded_bounces: decisions that connections took out since their address bounced. Where the
            content decides what bounces, comparisons are biased by it.
    """

    split: Split
    floor: float
    least_floor: float
    effective_sample_size: list[float]
    clipped: int
    unknown: int
    missing: int
    repeated: int
    late: int
    skewed: int
    early: int
    late_rewards: LateRewards
    drift: Drift
    maturing: float | None
    open: float | None
    levels: Drift
    lifts: Drift
    resummed: float | None = None
    left_out: int = 0
    voided: int = 0
    senders: list[SenderAlarm] = []
    eligible_sets: list[EligibleSetCount] = []
    cancelled: int = 0
    excluded_bounces: int = 0


class GuardedVersion(Struct, frozen=True):
    """Figures of a guardrail for one version, or for one variant, since it began to count.

    Attributes:
        variants: a variant of every slot, or of one where the guardrail's scope is that.
        emails: sent and not cancelled, the control group left out.
        events: those of them with the event.
        control_emails: of the control, or with its variant; likewise.
        control_events: those of them with the event.
        state: what the guardrail did to it, and nobody undid.
    """

    variants: dict[str, str]
    emails: int
    events: int
    control_emails: int
    control_events: int
    state: Literal["watched", "alerted", "paused"]


class GuardrailResult(Struct, frozen=True):
    """A declared guardrail, and what it watches."""

    event: str
    limit: float | None
    worse_than_control: float | None
    action: Literal["alert", "pause"]
    scope: Literal["arm", "variant"]
    versions: list[GuardedVersion]


class GuardrailActResult(Struct, frozen=True):
    """Act of a guardrail: what it alerted of or paused, and the figures that it acted on.

    Attributes:
        number: of the act in this experiment, from 0 for the oldest; to undo it.
        undone: somebody has undone it since.
    """

    number: int
    at: datetime
    event: str
    limit: float | None
    worse_than_control: float | None
    action: Literal["alert", "pause"]
    variants: dict[str, str]
    emails: int
    events: int
    control_emails: int
    control_events: int
    undone: bool


class GuardrailReport(Struct, frozen=True):
    """Guardrails of an experiment, and what they did so far, the oldest first."""

    watched: list[GuardrailResult] = []
    acts: list[GuardrailActResult] = []


class HistoryPoint(Struct, frozen=True):
    """Cumulative figures at one snapshot, by arm: lists of K."""

    version: int
    at: datetime
    sent: list[int]
    complete: list[int]
    reward: list[float]


class Results(Struct, frozen=True):
    """Results of an experiment, as of its newest snapshot.

    Attributes:
        goal: the better direction of the reward; values and lifts are of the reward as it is.
        share_basis: ``exact`` where the shares are the same for everybody, ``recent`` where they
            depend on the context and are those of recent sends.
        closed: decisions that findings rest on, the control group left out.
        lead: the arm that does best among those that can still be sent, None before any is closed.
        lift_family: the comparisons of arms with the control.
        features: declared ones, the first few of them.
        guarantees: the promises of intervals, by `Interval.promise`.
        events: declared metrics, and listed events that came, from the first on; by name.
        history: snapshots spread over time, the oldest first.
        verdict: the next step, one for all who ask.
        statements: claims that held when they were made and do not hold now, the oldest first.
        statements_reset: since when there are any, and why not from earlier; None from the start.
        interactions: of every two slots; None with one slot, or where they would be too many.
        guardrails: their figures, also while nothing happened.
    """

    experiment: str
    state: str
    policy: str
    goal: Literal["maximise", "minimise"]
    version: int
    at: datetime | None
    share_basis: str
    closed: int
    arms: list[ArmResult]
    slots: list[SlotResult]
    holdout: GroupResult | None
    lead: Lead | None
    gain: Gain
    outlook: BayesNote
    lift_family: Family
    features: list[FeatureResult]
    health: Health
    guarantees: dict[Promise, Guarantee]
    history: list[HistoryPoint]
    verdict: Verdict
    statements: list[Statement]
    statements_reset: StatementsReset | None
    interactions: InteractionResult | None
    events: list[EventResult]
    guardrails: GuardrailReport


class SetAsideReason(Struct, frozen=True):
    """Events that one rule sets aside.

    Attributes:
        reason: its name, such as ``sweep``.
        words: the same as a sentence.
        verdict: ``unsure`` where it may have been a person.
        events: by name of the event.
        total: of them all.
        arms: K numbers, by arm,
        control_group: and those of held-out recipients.
    """

    reason: str
    words: str
    verdict: Literal["machine", "unsure"]
    events: dict[str, int]
    total: int
    arms: list[int]
    control_group: int


class JudgedEvents(Struct, frozen=True):
    """Judged events of one kind: those of one name, or to one class of mailboxes.

    Attributes:
        name: of the event, or the class's.
        words: the same for people.
        persons: events that count,
        set_aside: and those that do not.
        not_judged: events that count, and that were reported without the request behind them; None
            of mailboxes.
    """

    name: str
    words: str
    persons: int
    set_aside: int
    not_judged: int | None = None


class ArmJudgedEvents(Struct, frozen=True):
    """Judged events of one arm, by slot and variant; of the control group without."""

    variants: dict[str, str] | None
    persons: int
    set_aside: int


class SetAside(Struct, frozen=True):
    """Opens and clicks that were set aside, as of the newest snapshot.

    Attributes:
        rules: the version that the configuration names; None where all events count.
        in_force: the version that emails are judged by.
        rescored: the part of the emails that are judged by the configuration's version so far; None
            where all are.
        left: emails that stay as they were judged before a change of the version, since they had
            been removed from the log.
        final: the result is final, so that a change of the version changes nothing.
        reasons: those that occurred, the most frequent first.
        events: by name.
        mailboxes: by class; the address is known only where it was reported.
        arms: by arm, the control group last where there is one.
    """

    experiment: str
    version: int
    at: datetime | None
    rules: int | None
    in_force: int | None
    rescored: float | None
    left: int
    final: bool
    reasons: list[SetAsideReason]
    events: list[JudgedEvents]
    mailboxes: list[JudgedEvents]
    arms: list[ArmJudgedEvents]

    @property
    def persons(self) -> int:
        """Judged events that count."""
        return sum(event.persons for event in self.events)

    @property
    def total(self) -> int:
        """Events that are set aside."""
        return sum(reason.total for reason in self.reasons)

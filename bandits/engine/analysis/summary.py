"""Summary: the results of an experiment, from snapshots alone however long the log."""

from collections.abc import Sequence

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.conclusions import conclude, past
from bandits.engine.analysis.event_findings import event_results
from bandits.engine.analysis.findings import Analysis
from bandits.engine.analysis.health import examine
from bandits.engine.analysis.interactions import interactions
from bandits.engine.analysis.receipts import label, moment
from bandits.engine.arm_counts import ArmCounts
from bandits.experiment import Slot
from bandits.inference.intervals import guarantees
from bandits.inference.sender_checks import SenderAlarm
from bandits.inference.state import InferenceState
from bandits.results import (
    ArmResult,
    EligibleSetCount,
    GroupResult,
    GuardrailReport,
    HistoryPoint,
    Results,
    SlotResult,
    VariantResult,
)
from bandits.store.values import ExperimentRecord, SnapshotPoint
from bandits.verdict import Statements


def summarise(  # noqa: PLR0913 - what results are made of, each from a source of its own
    record: ExperimentRecord,
    active: ActivePolicy,
    inference: InferenceState,
    points: Sequence[SnapshotPoint],
    statements: Statements,
    *,
    resummed: float | None = None,
    senders: Sequence[SenderAlarm] = (),
    eligible_sets: Sequence[EligibleSetCount] = (),
    excluded_bounces: int = 0,
    guardrails: GuardrailReport = GuardrailReport(),  # noqa: B008 - frozen, and never filled
) -> Results:
    """Assemble results of the newest sums, the shares, the findings and the history.

    Of sums that are being made anew, with `resummed` as in `Health`, nothing is shown.
    """
    history = [(p, ArmCounts.load(p.arm_counts).padded(active.problem.n_arms)) for p in points]
    shares, basis = _shares(active, [counts for _, counts in history])
    analysis = Analysis(active, inference, resumming=resummed is not None)
    return Results(
        record.key,
        record.state,
        active.experiment.policy.name,
        active.experiment.reward.goal,
        active.version,
        moment(points[-1].at) if points else None,
        basis,
        round(analysis.closed.sum()),
        [_arm(analysis, arm, shares) for arm in range(active.problem.n_arms)],
        [_slot(analysis, i, slot, shares) for i, slot in enumerate(active.experiment.slots)],
        _group(active.counts) if active.experiment.holdout > 0 else None,
        analysis.lead,
        analysis.gain,
        analysis.outlook[0],
        analysis.arm_family,
        analysis.segments,
        examine(
            active,
            inference,
            record,
            resummed,
            levels=analysis.levels_drift,
            lifts=analysis.lifts_drift,
            senders=list(senders),
            eligible_sets=eligible_sets,
            excluded_bounces=excluded_bounces,
        ),
        guarantees(per_subject=active.experiment.assignment == "per_subject"),
        [_point(point, counts) for point, counts in history],
        conclude(record, analysis, points[-1].at if points else None, senders),
        past(statements.statements, analysis),
        statements.reset,
        interactions(analysis),
        event_results(analysis),
        guardrails,
    )


def _shares(active: ActivePolicy, history: Sequence[ArmCounts]) -> tuple[FloatArray | None, str]:
    """Return the share of each arm now (K,), and what it is based on."""
    if not active.policy.statistic.contextual:
        arms = active.unrestricted_arms
        out = np.zeros(active.problem.n_arms)
        shares = active.probabilities_or_none(arms, np.ones((1, active.problem.n_features)))
        if shares is None:
            out[active.fallback_arm(arms)] = 1.0
        else:
            out[arms] = shares
        return out, "exact"
    if not history:
        return None, "recent"
    newest = history[-1].sent[:-1]
    for earlier in (*reversed(history[:-1]), ArmCounts.zeros(active.problem.n_arms, 0)):
        recent = newest - earlier.sent[:-1]
        if np.all(recent >= 0) and recent.sum() > 0:
            return recent / recent.sum(), "recent"
    return None, "recent"


def _arm(analysis: Analysis, arm: int, shares: FloatArray | None) -> ArmResult:
    active = analysis.active
    counts, slots = active.counts, active.experiment.slots
    variants = active.configuration.arms[arm].variants
    chosen = {s.key: v for s, v in zip(slots, variants, strict=True)}
    chance, loss = analysis.outlook[1].get(arm, (None, None))
    return ArmResult(
        arm,
        chosen,
        label(active.configuration, arm),
        control=arm == active.control,
        paused=active.experiment.is_paused(chosen),
        sent=round(counts.sent[arm]),
        complete=round(counts.complete[arm]),
        reward=float(counts.reward[arm]),
        mean=_mean(counts.reward[arm], counts.complete[arm]),
        share_now=None if shares is None else float(shares[arm]),
        metrics={
            name: float(counts.metrics[i, arm])
            for i, name in enumerate(active.experiment.reward.names)
        },
        closed=round(analysis.closed[arm]),
        value=analysis.values[arm],
        lift=analysis.lifts.get(arm),
        chance_best=chance,
        expected_loss=loss,
    )


def _slot(analysis: Analysis, position: int, slot: Slot, shares: FloatArray | None) -> SlotResult:
    level = analysis.levels[:, position]
    variants = [
        _variant(analysis, (position, v), slot, np.flatnonzero(level == v), shares)
        for v in range(len(slot.variants))
    ]
    return SlotResult(slot.key, variants, analysis.slot_family)


def _variant(
    analysis: Analysis,
    place: tuple[int, int],
    slot: Slot,
    arms: IntArray,
    shares: FloatArray | None,
) -> VariantResult:
    """Summarise the variant at (slot, position in it), which `arms` show."""
    counts, variant = analysis.active.counts, slot.variants[place[1]]
    sent, complete, reward = (a[arms].sum() for a in (counts.sent, counts.complete, counts.reward))
    outlooks = [analysis.outlook[1][k] for k in arms.tolist() if k in analysis.outlook[1]]
    return VariantResult(
        variant.key,
        control=place[1] == int(analysis.control[place[0]]),
        paused=variant.paused,
        sent=round(sent),
        complete=round(complete),
        reward=float(reward),
        mean=_mean(reward, complete),
        share_now=None if shares is None else float(shares[arms].sum()),
        closed=round(analysis.closed[arms].sum()),
        value=analysis.variant_value(*place),
        lift=analysis.variant_lift(*place),
        chance_best=sum(chance for chance, _ in outlooks) if outlooks else None,
        expected_loss=min(loss for _, loss in outlooks) if outlooks else None,
    )


def _group(counts: ArmCounts) -> GroupResult:
    sent, complete, reward = (float(a[-1]) for a in (counts.sent, counts.complete, counts.reward))
    return GroupResult(round(sent), round(complete), reward, _mean(reward, complete))


def _mean(reward: float, complete: float) -> float | None:
    return float(reward / complete) if complete > 0 else None


def _point(point: SnapshotPoint, counts: ArmCounts) -> HistoryPoint:
    return HistoryPoint(
        point.version,
        moment(point.at),
        [round(n) for n in counts.sent[:-1].tolist()],
        [round(n) for n in counts.complete[:-1].tolist()],
        counts.reward[:-1].tolist(),
    )

"""How an experiment is doing: from snapshots alone, so it costs the same however long the log."""

from collections.abc import Sequence

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.engine.analysis.findings import Analysis
from bandits.engine.analysis.health import examine
from bandits.engine.analysis.receipts import label, moment
from bandits.engine.arm_counts import ArmCounts
from bandits.experiment import Slot
from bandits.inference.guarantees import guarantees
from bandits.inference.state import InferenceState
from bandits.results import ArmResult, GroupResult, HistoryPoint, Results, SlotResult, VariantResult
from bandits.store.values import ExperimentRecord, SnapshotPoint


def summarise(
    record: ExperimentRecord,
    live: ActivePolicy,
    grounds: InferenceState,
    points: Sequence[SnapshotPoint],
) -> Results:
    """Put together an experiment's newest sums, its shares, what they prove, and its history."""
    history = [(p, ArmCounts.load(p.arm_counts).padded(live.problem.n_arms)) for p in points]
    shares, basis = _shares(live, [tally for _, tally in history])
    judgement = Analysis(live, grounds)
    return Results(
        record.key,
        record.state,
        live.experiment.policy.name,
        live.experiment.reward.goal,
        live.version,
        moment(points[-1].at) if points else None,
        basis,
        round(judgement.closed.sum()),
        [_arm(judgement, arm, shares) for arm in range(live.problem.n_arms)],
        [_slot(judgement, i, slot, shares) for i, slot in enumerate(live.experiment.slots)],
        _group(live.tally) if live.experiment.holdout > 0 else None,
        judgement.lead,
        judgement.gain,
        judgement.outlook[0],
        judgement.arm_family,
        judgement.segments,
        examine(live, grounds, record.data_quality),
        guarantees(per_subject=live.experiment.assignment == "per_subject"),
        [_point(point, tally) for point, tally in history],
    )


def _shares(live: ActivePolicy, tallies: Sequence[ArmCounts]) -> tuple[FloatArray | None, str]:
    """Return the share of each arm now (K,), and what it is based on."""
    if not live.policy.statistic.contextual:
        arms = live.everything
        out = np.zeros(live.problem.n_arms)
        shares = live.tried(arms, np.ones((1, live.problem.n_features)))
        if shares is None:
            out[live.stand_in(arms)] = 1.0
        else:
            out[arms] = shares
        return out, "exact"
    if not tallies:
        return None, "recent"
    newest = tallies[-1].sent[:-1]
    for earlier in (*reversed(tallies[:-1]), ArmCounts.zeros(live.problem.n_arms, 0)):
        recent = newest - earlier.sent[:-1]
        if np.all(recent >= 0) and recent.sum() > 0:
            return recent / recent.sum(), "recent"
    return None, "recent"


def _arm(judgement: Analysis, arm: int, shares: FloatArray | None) -> ArmResult:
    live = judgement.live
    tally, slots = live.tally, live.experiment.slots
    variants = live.configuration.arms[arm].variants
    paused = {(s.key, v.key) for s in slots for v in s.variants if v.paused}
    chosen = {s.key: v for s, v in zip(slots, variants, strict=True)}
    chance, loss = judgement.outlook[1].get(arm, (None, None))
    return ArmResult(
        arm,
        chosen,
        label(live.configuration, arm),
        control=arm == live.control,
        paused=any(pair in paused for pair in chosen.items()),
        sent=round(tally.sent[arm]),
        complete=round(tally.complete[arm]),
        reward=float(tally.reward[arm]),
        mean=_mean(tally.reward[arm], tally.complete[arm]),
        share_now=None if shares is None else float(shares[arm]),
        metrics={
            name: float(tally.metrics[i, arm])
            for i, name in enumerate(live.experiment.reward.names)
        },
        closed=round(judgement.closed[arm]),
        value=judgement.values[arm],
        lift=judgement.lifts.get(arm),
        chance_best=chance,
        expected_loss=loss,
    )


def _slot(judgement: Analysis, position: int, slot: Slot, shares: FloatArray | None) -> SlotResult:
    level = judgement.levels[:, position]
    variants = [
        _variant(judgement, (position, v), slot, np.flatnonzero(level == v), shares)
        for v in range(len(slot.variants))
    ]
    return SlotResult(slot.key, variants, judgement.slot_family)


def _variant(
    judgement: Analysis,
    place: tuple[int, int],
    slot: Slot,
    arms: IntArray,
    shares: FloatArray | None,
) -> VariantResult:
    """Tell of the variant at (slot, position in it), which `arms` show."""
    tally, variant = judgement.live.tally, slot.variants[place[1]]
    sent, complete, reward = (a[arms].sum() for a in (tally.sent, tally.complete, tally.reward))
    outlooks = [judgement.outlook[1][k] for k in arms.tolist() if k in judgement.outlook[1]]
    return VariantResult(
        variant.key,
        control=place[1] == int(judgement.control[place[0]]),
        paused=variant.paused,
        sent=round(sent),
        complete=round(complete),
        reward=float(reward),
        mean=_mean(reward, complete),
        share_now=None if shares is None else float(shares[arms].sum()),
        closed=round(judgement.closed[arms].sum()),
        value=judgement.variant_value(*place),
        lift=judgement.variant_lift(*place),
        chance_best=sum(chance for chance, _ in outlooks) if outlooks else None,
        expected_loss=min(loss for _, loss in outlooks) if outlooks else None,
    )


def _group(tally: ArmCounts) -> GroupResult:
    sent, complete, reward = (float(a[-1]) for a in (tally.sent, tally.complete, tally.reward))
    return GroupResult(round(sent), round(complete), reward, _mean(reward, complete))


def _mean(reward: float, complete: float) -> float | None:
    return float(reward / complete) if complete > 0 else None


def _point(point: SnapshotPoint, tally: ArmCounts) -> HistoryPoint:
    return HistoryPoint(
        point.version,
        moment(point.at),
        [round(n) for n in tally.sent[:-1].tolist()],
        [round(n) for n in tally.complete[:-1].tolist()],
        tally.reward[:-1].tolist(),
    )

"""How an experiment is doing: from snapshots alone, so it costs the same however long the log."""

from collections.abc import Sequence

import numpy as np

from bandits.arrays import FloatArray
from bandits.engine.explaining import label, moment
from bandits.engine.live import Live
from bandits.engine.tally import Tally
from bandits.messages import ArmResult, GroupResult, HistoryPoint, Results
from bandits.store import Point, Record


def summarise(record: Record, live: Live, points: Sequence[Point]) -> Results:
    """Put an experiment's newest tally, its shares and its history together."""
    history = [(p, Tally.load(p.tally).padded(live.problem.n_arms)) for p in points]
    shares, basis = _shares(live, [tally for _, tally in history])
    held = _group(live.tally) if live.experiment.holdout > 0 else None
    return Results(
        record.key,
        record.state,
        live.experiment.policy.name,
        live.version,
        moment(points[-1].at) if points else None,
        basis,
        [_arm(live, arm, shares) for arm in range(live.problem.n_arms)],
        held,
        [_point(point, tally) for point, tally in history],
    )


def _shares(live: Live, tallies: Sequence[Tally]) -> tuple[FloatArray | None, str]:
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
    for earlier in (*reversed(tallies[:-1]), Tally.zeros(live.problem.n_arms, 0)):
        recent = newest - earlier.sent[:-1]
        if np.all(recent >= 0) and recent.sum() > 0:
            return recent / recent.sum(), "recent"
    return None, "recent"


def _arm(live: Live, arm: int, shares: FloatArray | None) -> ArmResult:
    tally, slots = live.tally, live.experiment.slots
    variants = live.configuration.arms[arm].variants
    paused = {(s.key, v.key) for s in slots for v in s.variants if v.paused}
    chosen = {s.key: v for s, v in zip(slots, variants, strict=True)}
    return ArmResult(
        arm,
        chosen,
        label(live.configuration, arm),
        control=arm == live.control,
        paused=any(pair in paused for pair in chosen.items()),
        sent=round(tally.sent[arm]),
        complete=round(tally.complete[arm]),
        reward=float(tally.reward[arm]),
        mean=_mean(tally, arm),
        share_now=None if shares is None else float(shares[arm]),
        metrics={
            name: float(tally.metrics[i, arm])
            for i, name in enumerate(live.experiment.reward.names)
        },
    )


def _group(tally: Tally) -> GroupResult:
    return GroupResult(
        round(tally.sent[-1]), round(tally.complete[-1]), float(tally.reward[-1]), _mean(tally, -1)
    )


def _mean(tally: Tally, group: int) -> float | None:
    complete = tally.complete[group]
    return float(tally.reward[group] / complete) if complete > 0 else None


def _point(point: Point, tally: Tally) -> HistoryPoint:
    return HistoryPoint(
        point.version,
        moment(point.at),
        [round(n) for n in tally.sent[:-1].tolist()],
        [round(n) for n in tally.complete[:-1].tolist()],
        tally.reward[:-1].tolist(),
    )

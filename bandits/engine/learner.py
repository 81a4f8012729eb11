"""Folding what is due into what is learned, and rebuilding it from the log."""

from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np

from bandits.arrays import FloatArray
from bandits.engine.tally import Tally
from bandits.experiment import Configuration
from bandits.inference.grounds import Grounds
from bandits.segments import Segmentation
from bandits.statistics import Statistic, dump, load
from bandits.store import Audit, Decided, Due, Fold, Snapshot, Store


class Summing:
    """Sum decisions into a statistic and a tally, under one configuration at one moment.

    Forgetting is a weight on the observation, taken at the reference time `at`: it is the same
    whether an observation is added, corrected or rebuilt, so that all three agree.
    """

    def __init__(self, configuration: Configuration, at: float) -> None:
        """Prepare to sum as of `at`, seconds since 1970."""
        self.experiment = configuration.experiment
        self.rule = self.experiment.reward
        self.family: type[Statistic] = self.experiment.make_policy().statistic
        self.problem = configuration.problem
        self.costs = configuration.costs
        self.at = at

    @property
    def n_arms(self) -> int:
        """K."""
        return self.problem.n_arms

    def weights(self, started_at: FloatArray) -> FloatArray:
        """Return what observations started at these times (n,) weigh now, (n,)."""
        forgetting = self.experiment.forgetting
        if forgetting is None:
            return np.ones(len(started_at))
        if forgetting.window_seconds is not None:  # compared just as `Due.expired` is
            return (started_at >= self.at - forgetting.window_seconds).astype(np.float64)
        age = np.maximum(self.at - started_at, 0.0)
        return np.exp2(-age / (forgetting.half_life_seconds or np.inf))

    def fade(self, known: Statistic, since: float) -> Statistic:
        """Let a half-life act on what was learned as of `since`."""
        forgetting = self.experiment.forgetting
        if forgetting is None or forgetting.half_life_seconds is None:
            return known
        return known.decayed(2.0 ** (-max(self.at - since, 0.0) / forgetting.half_life_seconds))

    def rewards(self, decided: Decided) -> tuple[FloatArray, FloatArray]:
        """Return rewards (n,), costs included, and metrics (M, n) as far as their events tell."""
        rewards, metrics = self.rule.measure(
            decided.event_rows, decided.event_metrics, decided.event_values, len(decided)
        )
        return rewards + self.costs[decided.arms], metrics

    def observed(self, decided: Decided, weights: FloatArray | None = None) -> Statistic:
        """Sum decisions as learned; held-out ones are left out."""
        weights = self.weights(decided.started_at) if weights is None else weights
        kept = ~decided.holdout & (weights > 0)
        rewards, _ = self.rewards(decided)
        return self.family.of(
            self.problem,
            decided.arms[kept],
            self.rule.learned(rewards[kept]),
            decided.contexts[kept],
            weights[kept],
        )

    def waiting(self, decided: Decided) -> Statistic:
        """Sum decisions as pending; held-out ones are left out."""
        kept = ~decided.holdout
        ones = np.ones(int(np.count_nonzero(kept)))
        return self.family.waiting(self.problem, decided.arms[kept], decided.contexts[kept], ones)

    def sent(self, decided: Decided) -> Tally:
        """Count decisions as sent."""
        return Tally.of_sent(self.n_arms, len(self.rule.metrics), decided.arms, decided.holdout)

    def complete(self, decided: Decided) -> Tally:
        """Count decisions as complete."""
        rewards, metrics = self.rewards(decided)
        return Tally.of_complete(self.n_arms, decided.arms, decided.holdout, rewards, metrics)


def _no_pause() -> None:
    """Go on at once."""


def fold(
    store: Store, key: str, *, now: float, between: Callable[[], object] = _no_pause
) -> Snapshot | None:
    """Take in what is due by `now`, exactly once; the newest snapshot, None where nothing changed.

    A long queue is taken in several folds; `between` is called between them, to let others write.

    Raises:
        NotFound: there is no experiment of this key.
        Unavailable: the store cannot record; nothing changed.
    """
    newest: Snapshot | None = None
    while True:
        with store.fold(key, now=now) as folding:
            newest = take_in(folding, now) or newest
            more = folding.more
        if not more:
            return newest
        between()


def take_in(folding: Fold, now: float) -> Snapshot | None:
    """Take in what a fold found due, and save it; None where nothing changed."""
    if folding.due is None:
        return None
    snapshot = _next_snapshot(folding, folding.due, now)
    folding.save(snapshot)
    return snapshot


def _next_snapshot(folding: Fold, due: Due, now: float) -> Snapshot:
    record, previous = folding.record, folding.previous
    at = now if previous is None else max(now, previous.at)  # a clock may step back
    summing = Summing(record.configuration, at)
    statistic, tally = known(record.configuration, previous)
    if summing.family.invertible:
        since = at if previous is None else previous.at
        statistic = _moved_on(summing, statistic, due, since)
    else:
        statistic = _total(summing, folding.learned())
    version = 1 if previous is None else previous.version + 1
    upcoming = len(due.entered) + len(due.entered_due)
    if upcoming == 0 and previous is not None:
        upcoming = previous.upcoming
    return Snapshot(
        version,
        record.configuration.version,
        at,
        _seed(record.salt, version),
        max(1, upcoming),
        dump(statistic),
        _counted_on(summing, tally, due).dump(),
    )


def _moved_on(summing: Summing, known: Statistic, due: Due, since: float) -> Statistic:
    """Move what is known from `since` to the summing's moment and take in what is due."""
    earlier = np.ones(len(due.expired))  # a window's observations weigh 1 until they leave it
    out = known - summing.observed(due.expired, earlier)
    out = summing.fade(out, since)
    out = out - summing.observed(due.before) + summing.observed(due.after)
    out = out - summing.waiting(due.matured) - summing.waiting(due.withdrawn)
    out = out + summing.waiting(due.entered)
    return out + summing.observed(due.matured) + summing.observed(due.entered_due)


def _counted_on(summing: Summing, tally: Tally, due: Due) -> Tally:
    out = tally + summing.sent(due.entered) + summing.sent(due.entered_due)
    out = out - summing.sent(due.withdrawn) - summing.sent(due.before) + summing.sent(due.after)
    out = out - summing.complete(due.before) + summing.complete(due.after)
    return out + summing.complete(due.matured) + summing.complete(due.entered_due)


def known(configuration: Configuration, snapshot: Snapshot | None) -> tuple[Statistic, Tally]:
    """Read a snapshot's statistic and tally, with room for arms that joined since.

    Raises:
        ValueError: the statistic is of another family than the configuration's policy.
    """
    summing = Summing(configuration, 0.0)
    if snapshot is None:
        metrics = len(summing.rule.metrics)
        return summing.family.zeros(summing.problem), Tally.zeros(summing.n_arms, metrics)
    statistic: Statistic = load(summing.family, snapshot.statistic)
    return statistic.padded(summing.problem), Tally.load(snapshot.tally).padded(summing.n_arms)


def known_grounds(configuration: Configuration, snapshot: Snapshot | None) -> Grounds:
    """Read what a snapshot's results rest on, with room for arms that joined since."""
    n_arms = len(configuration.arms)
    if snapshot is None or not snapshot.grounds:
        return Grounds.zeros(n_arms, Segmentation(configuration.experiment.context).size)
    return Grounds.load(snapshot.grounds).padded(n_arms)


def rebuild(audit: Audit) -> tuple[Statistic, Tally]:
    """Sum the whole log anew, as of the newest snapshot's reference time."""
    at = 0.0 if audit.snapshot is None else audit.snapshot.at
    summing = Summing(audit.record.configuration, at)
    tally = Tally.zeros(summing.n_arms, len(summing.rule.metrics))
    learned: list[Decided] = []
    statistic = summing.family.zeros(summing.problem)
    for decided in audit.learned:
        tally = tally + summing.sent(decided) + summing.complete(decided)
        if summing.family.invertible:
            statistic = statistic + summing.observed(decided)
        else:
            learned.append(decided)
    if not summing.family.invertible:
        statistic = _total(summing, learned)
    for decided in audit.pending:
        tally = tally + summing.sent(decided)
        if summing.family.invertible:
            statistic = statistic + summing.waiting(decided)
    return statistic, tally


def _total(summing: Summing, portions: Iterable[Decided]) -> Statistic:
    """Learn everything at once, for a family that cannot subtract; it knows no pending."""
    every = list(portions)
    if not every:
        return summing.family.zeros(summing.problem)
    offsets = np.cumsum([0, *(len(d) for d in every[:-1])])
    return summing.observed(
        Decided(
            np.concatenate([d.arms for d in every]),
            np.concatenate([d.contexts for d in every]),
            np.concatenate([d.holdout for d in every]),
            np.concatenate([d.started_at for d in every]),
            np.concatenate([d.event_rows + o for d, o in zip(every, offsets, strict=True)]),
            np.concatenate([d.event_metrics for d in every]),
            np.concatenate([d.event_values for d in every]),
        )
    )


def _seed(salt: bytes, version: int) -> int:
    digest = blake2b(version.to_bytes(8, "big"), digest_size=8, key=salt).digest()
    return int.from_bytes(digest, "big") >> 1  # a signed 64-bit column holds it

"""What a server has done, counted for Prometheus: decisions, rewards, folds."""

import multiprocessing
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from threading import Lock

from bandits.schemas import Decision, RewardReceipt
from webapp.metrics import BOUNDS, family, histogram

_FAILED, _SECONDS = len(BOUNDS) + 1, len(BOUNDS) + 2  # places after those of the buckets


class FoldMetrics:
    """How often the learner learned something, and how long it took.

    It runs in the launcher and workers are asked, so the numbers lie in memory that they share.
    One thread writes and each number is one word, so nobody needs a lock.
    """

    def __init__(self) -> None:
        """Start at zero."""
        context = multiprocessing.get_context("spawn")  # as the workers are started
        self._numbers = context.RawArray("d", len(BOUNDS) + 3)

    def count(self, seconds: float) -> None:
        """Count what was learned of one experiment at its turn."""
        self._numbers[bisect_left(BOUNDS, seconds)] += 1
        self._numbers[_SECONDS] += seconds

    def fail(self) -> None:
        """Count a turn that failed."""
        self._numbers[_FAILED] += 1

    def lines(self) -> list[str]:
        """Write them down."""
        numbers = list(self._numbers)
        meaning = "Time to learn what was new of one experiment."
        failed = "Times that learning failed; it is tried again."
        return [
            *histogram("bandits_fold_seconds", meaning, [({}, numbers[:_FAILED], numbers[-1])]),
            *family("bandits_fold_failures_total", "counter", failed, [({}, int(numbers[-2]))]),
        ]


class DecisionMetrics:
    """What one worker answered through the API since it started."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._rewards = Counter(accepted=0, repeated=0, late=0, unknown=0, early=0)
        self._skewed = 0

    def decided(self, experiment: str, decisions: Sequence[Decision]) -> None:
        """Count decisions that were recorded, or had been before."""
        found = Counter([_outcome(d) for d in decisions]) if len(decisions) > 1 else None
        with self._lock:
            if found is None:  # as most calls are, and a counter of one costs more than to count
                for decision in decisions:
                    self._decisions[experiment, _outcome(decision)] += 1
            else:
                for outcome, n in found.items():
                    self._decisions[experiment, outcome] += n

    def rewarded(self, receipt: RewardReceipt) -> None:
        """Count what became of rewards."""
        with self._lock:
            self._rewards["accepted"] += receipt.accepted
            self._rewards["repeated"] += receipt.repeated
            self._rewards["late"] += receipt.late
            self._rewards["unknown"] += len(receipt.unknown)
            self._rewards["early"] += len(receipt.early)
            self._skewed += receipt.skewed

    def lines(self) -> list[str]:
        """Write them down."""
        with self._lock:
            decisions, rewards = sorted(self._decisions.items()), list(self._rewards.items())
            skewed = self._skewed
        process = {"process": str(os.getpid())}
        return [
            *family(
                "bandits_decisions_total",
                "counter",
                "Decisions answered through the API.",
                (({"experiment": e, "outcome": o, **process}, n) for (e, o), n in decisions),
            ),
            *family(
                "bandits_rewards_total",
                "counter",
                "Rewards reported through the API, by what became of them.",
                (({"outcome": o, **process}, n) for o, n in rewards),
            ),
            *family(
                "bandits_rewards_skewed_total",
                "counter",
                "Rewards told from more than five minutes in the future.",
                [(process, skewed)],
            ),
        ]


def _outcome(decision: Decision) -> str:
    if decision.repeat:
        return "repeated"
    if decision.fallback:
        return "fallback"
    if decision.holdout:
        return "held_out"
    return "shipped" if decision.shipped else "new"

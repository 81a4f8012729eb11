"""Prometheus metrics: requests, decisions, rewards and folds, in text format version 0.0.4."""

import multiprocessing
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

from bandits.schemas import Decision, RewardReceipt

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = {"\\": r"\\", '"': r"\"", "\n": r"\n"}

Labels = Mapping[str, str]


class HttpMetrics:
    """How many requests of each route there were, how they ended, and how long they took."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self._ended: Counter[tuple[str, str, int]] = Counter()
        self._taken: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._ended[route, method, status] += 1
            self._taken.setdefault(route, [0] * (len(BOUNDS) + 1))[bucket] += 1
            self._seconds[route] += seconds

    def lines(self) -> list[str]:
        """Write them down."""
        with self._lock:
            ended = dict(self._ended)
            taken = {route: list(buckets) for route, buckets in self._taken.items()}
            seconds = dict(self._seconds)
        process = {"process": str(os.getpid())}
        return [
            *family(
                "bandits_requests_total",
                "counter",
                "Requests answered.",
                (
                    ({"route": r, "method": m, "status": str(s), **process}, n)
                    for (r, m, s), n in sorted(ended.items())
                ),
            ),
            *histogram(
                "bandits_request_seconds",
                "Time to answer.",
                (({"route": r, **process}, taken[r], seconds[r]) for r in sorted(taken)),
            ),
        ]


def family(
    name: str, kind: str, meaning: str, samples: Iterable[tuple[Labels, float]]
) -> list[str]:
    """Write one metric family: its description and its samples."""
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    return lines + [_sample(name, labels, value) for labels, value in samples]


def histogram(
    name: str, meaning: str, samples: Iterable[tuple[Labels, Sequence[float], float]]
) -> list[str]:
    """Write a histogram: of each sample the labels, how many fell in each bucket, and the sum.

    The buckets are those of `BOUNDS`, and one for what is longer.
    """
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} histogram"]
    for labels, buckets, seconds in samples:
        total = 0
        for bound, n in zip((*BOUNDS, "+Inf"), buckets, strict=True):
            total += int(n)
            lines.append(_sample(f"{name}_bucket", {**labels, "le": str(bound)}, total))
        lines.append(_sample(f"{name}_sum", labels, seconds))
        lines.append(_sample(f"{name}_count", labels, total))
    return lines


def _sample(name: str, labels: Labels, value: float) -> str:
    written = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
    return f"{name}{{{written}}} {value!r}" if labels else f"{name} {value!r}"


def _escaped(value: str) -> str:
    return "".join(_LABELS.get(c, c) for c in value)


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

"""Prometheus metrics: requests, decisions, rewards and folds, in text format version 0.0.4."""

import multiprocessing
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

from bandits.schemas import Decision, RewardReceipt

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKET_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = {"\\": r"\\", '"': r"\"", "\n": r"\n"}

Labels = Mapping[str, str]


class RequestMetrics:
    """Counts of the requests, decisions and rewards that one process has answered since its start.

    Pages are requests too; decisions and rewards are those of the API.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._rewards = Counter(accepted=0, repeated=0, late=0, unknown=0, early=0)
        self._skewed = 0

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered with `status` after `seconds`."""
        bucket = bisect_left(BUCKET_SECONDS, seconds)
        with self._lock:
            self._requests[route, method, status] += 1
            self._buckets.setdefault(route, [0] * (len(BUCKET_SECONDS) + 1))[bucket] += 1
            self._seconds[route] += seconds

    def count_decisions(self, experiment: str, decisions: Sequence[Decision]) -> None:
        """Count decisions that were recorded now, or by an earlier request."""
        counts = Counter([_outcome(d) for d in decisions]) if len(decisions) > 1 else None
        with self._lock:
            if counts is None:  # most calls are for one decision, for which a Counter costs more
                for decision in decisions:
                    self._decisions[experiment, _outcome(decision)] += 1
            else:
                for outcome, n in counts.items():
                    self._decisions[experiment, outcome] += n

    def count_rewards(self, receipt: RewardReceipt) -> None:
        """Count the outcomes of reported rewards."""
        with self._lock:
            self._rewards["accepted"] += receipt.accepted
            self._rewards["repeated"] += receipt.repeated
            self._rewards["late"] += receipt.late
            self._rewards["unknown"] += len(receipt.unknown)
            self._rewards["early"] += len(receipt.early)
            self._rewards["unattributed"] += len(receipt.unattributed)
            self._rewards["cancelled"] += receipt.cancelled
            self._skewed += receipt.skewed

    def lines(self) -> list[str]:
        """Write the counts in the text format, labelled with this process."""
        process = {"process": str(os.getpid())}
        return [*self._request_lines(process), *self._decision_lines(process)]

    def _request_lines(self, process: Labels) -> list[str]:
        with self._lock:
            requests = sorted(self._requests.items())
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
            seconds = dict(self._seconds)
        return [
            *family(
                "bandits_requests_total",
                "counter",
                "Requests answered.",
                (
                    ({"route": r, "method": m, "status": str(s), **process}, n)
                    for (r, m, s), n in requests
                ),
            ),
            *histogram(
                "bandits_request_seconds",
                "Time to answer.",
                (({"route": r, **process}, buckets[r], seconds[r]) for r in sorted(buckets)),
            ),
        ]

    def _decision_lines(self, process: Labels) -> list[str]:
        with self._lock:
            decisions, rewards = sorted(self._decisions.items()), list(self._rewards.items())
            skewed = self._skewed
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


_FAILED, _SECONDS = len(BUCKET_SECONDS) + 1, len(BUCKET_SECONDS) + 2  # places after the buckets


class FoldMetrics:
    """Number, duration and failures of the folds of one server, in memory that processes share.

    The fold worker runs in the launcher and Prometheus asks the workers. One thread writes and each
    number is one word, so there is no lock.
    """

    def __init__(self) -> None:
        """Start at zero."""
        context = multiprocessing.get_context("spawn")  # as the workers are started
        self._numbers = context.RawArray("d", len(BUCKET_SECONDS) + 3)

    def count(self, seconds: float) -> None:
        """Count a turn of an experiment that made a snapshot."""
        self._numbers[bisect_left(BUCKET_SECONDS, seconds)] += 1
        self._numbers[_SECONDS] += seconds

    def count_failure(self) -> None:
        """Count a turn that failed."""
        self._numbers[_FAILED] += 1

    def lines(self) -> list[str]:
        """Write the numbers in the text format."""
        numbers = list(self._numbers)
        meaning = "Time to learn what was new of one experiment."
        failures = "Times that learning failed; it is tried again."
        return [
            *histogram("bandits_fold_seconds", meaning, [({}, numbers[:_FAILED], numbers[-1])]),
            *family("bandits_fold_failures_total", "counter", failures, [({}, int(numbers[-2]))]),
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
    """Write a histogram; a sample is its labels, its count in each bucket, and its sum in seconds.

    The buckets are those of `BUCKET_SECONDS`, and one for longer times.
    """
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} histogram"]
    for labels, buckets, seconds in samples:
        total = 0
        for bound, n in zip((*BUCKET_SECONDS, "+Inf"), buckets, strict=True):
            total += int(n)
            lines.append(_sample(f"{name}_bucket", {**labels, "le": str(bound)}, total))
        lines.append(_sample(f"{name}_sum", labels, seconds))
        lines.append(_sample(f"{name}_count", labels, total))
    return lines


def _sample(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
    return f"{name}{{{pairs}}} {value!r}" if labels else f"{name} {value!r}"


def _escaped(value: str) -> str:
    return "".join(_LABELS.get(c, c) for c in value)

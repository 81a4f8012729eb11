"""Counts of requests for Prometheus, in its text format (version 0.0.4).

Written by hand: the official client keeps its numbers in a global registry, and for several workers
in files that they share. Here each worker counts for itself and says which one it is.
"""

import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock

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

"""How a benchmark measures: ours and a reference in turn, medians of rates and of ratios."""

import resource
import time
from collections.abc import Callable
from statistics import median

from msgspec import Struct


class Row(Struct, frozen=True):
    """One line of the table.

    Attributes:
        what: what was measured.
        unit: what is counted in a second.
        rate: the median over rounds.
        goal: the least rate that is wanted; None where only the ratio tells something.
        beside: the peer or the physical limit that was measured in the same rounds.
        ratio: the median over rounds of our rate divided by the reference's.
        peak_mb: the process's peak of resident memory after our rounds, in megabytes.
        least_ratio: the least ratio that is wanted; None where the rate is what matters.
    """

    what: str
    unit: str
    rate: float
    goal: float | None
    beside: str
    beside_rate: float
    ratio: float
    peak_mb: float
    least_ratio: float | None = None


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return how long one call takes by a clock."""
    start = clock()
    work()
    return clock() - start


def peak_mb() -> float:
    """Return this process's peak of resident memory in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(  # noqa: PLR0913 - one for each column
    what: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    n: int,
    unit: str,
    beside: str,
    rounds: int,
    goal: float | None = None,
    reference_n: int | None = None,
    least_ratio: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Time both in turn, `rounds` times after a warm-up; `n` units of work in a call.

    `clock` is a stopwatch; `time.process_time` counts what all threads of this process compute, and
    not what others do meanwhile.
    """
    ours()
    peak = peak_mb()
    reference()
    rates, others = [], []
    for _ in range(rounds):
        rates.append(n / seconds(ours, clock))
        others.append((reference_n or n) / seconds(reference, clock))
    ratio = median(a / b for a, b in zip(rates, others, strict=True))
    return Row(what, unit, median(rates), goal, beside, median(others), ratio, peak, least_ratio)

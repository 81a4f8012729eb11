"""Score intervals: for the mean of scores, by betting, and for ratios of sums, by the bootstrap."""

from math import log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray

_MOST_BET = 0.75  # of what a bet could lose at most
_BISECTIONS = 40
_PRIOR_VARIANCE = 0.25  # of scores, counted as one of them
_MOST_BLOCKS = 2000  # that a bootstrap draws from; more rows are drawn in blocks


class Bounds(NamedTuple):
    """Least and greatest value that a score can take, (n,) each, known before it is."""

    low: FloatArray
    high: FloatArray


def betting_interval(scores: FloatArray, bounds: Bounds, level: float) -> tuple[float, float]:
    """Bound the mean of the conditional means of n scores; valid for every n, however adaptive.

    Two gamblers start with 1 and bet against each candidate: that the mean is smaller, and that it
    is larger. Under the true mean both capitals are martingales that stay above 0, so either passes
    2/α with probability α/2 at most (Ville). Stakes follow the variance of earlier scores.

    Where conditional means move from round to round the statement is on each constant mean; for
    the average of moving ones it holds as far as stakes do not follow their moves.

    Args:
        scores: (n,), in units in which rewards lie in [0, 1], in the order of the rounds.
        bounds: of each score.
        level: of confidence, such as .95.

    Returns:
        The least and the greatest mean that is not refuted, within [0, 1].

    Source: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by
    betting, section 4.4 and appendix B.
    """
    n = len(scores)
    target = log(2 / (1 - level))
    stakes = np.sqrt(2 * target / (earlier_variances(scores) * n))
    rise = np.minimum(stakes, _MOST_BET / np.maximum(1 - bounds.low, 1.0))
    fall = np.minimum(stakes, _MOST_BET / np.maximum(bounds.high, 1.0))

    def too_low(mean: float) -> bool:
        return float(np.log1p(rise * (scores - mean)).sum()) >= target

    def too_high(mean: float) -> bool:
        return float(np.log1p(fall * (mean - scores)).sum()) >= target

    low, high = 0.0, 1.0
    if too_low(0.0):
        least, most = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (least + most) / 2
            least, most = (middle, most) if too_low(middle) else (least, middle)
        low = least
    if too_high(1.0):
        least, most = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (least + most) / 2
            least, most = (least, middle) if too_high(middle) else (middle, most)
        high = most
    return low, max(low, high)


def earlier_variances(scores: FloatArray) -> FloatArray:
    """Estimate the variance before each score (n,) from those before it, never 0."""
    counts = np.arange(1, len(scores) + 1)
    means = (0.5 + np.cumsum(scores)) / (counts + 1)
    squares = _PRIOR_VARIANCE + np.cumsum((scores - means) ** 2)
    variances = squares / (counts + 1)
    return np.concatenate([[_PRIOR_VARIANCE], variances[:-1]])


def sum_blocks(columns: FloatArray) -> FloatArray:
    """Sum columns (n, c) over blocks of neighbours, 2,000 where there are more rows."""
    n = len(columns)
    if n <= _MOST_BLOCKS:
        return columns
    return np.add.reduceat(columns, np.arange(_MOST_BLOCKS) * n // _MOST_BLOCKS, axis=0)


def bootstrap_totals(blocks: FloatArray, rng: Generator, resamples: int) -> FloatArray:
    """Sum columns (b, c) over resampled blocks: (resamples, c), each taken by Poisson's law.

    Source: Chamandy, Muralidharan, Najmi and Naidu (2012), Estimating uncertainty for massive data
    streams.
    """
    return rng.poisson(1.0, (resamples, len(blocks))).astype(np.float64) @ blocks


def studentized_interval(
    value: float, error: float, resampled: tuple[FloatArray, FloatArray], level: float
) -> tuple[float, float]:
    """Bound a value by how far resampled ones fall from it, in their own standard errors.

    Weights make estimates skew: percentiles of the values themselves miss on one side.

    Args:
        value: the estimate.
        error: its standard error.
        resampled: estimates and standard errors (m,) of resampled rounds.
        level: of confidence.

    Source: Hall (1992), The bootstrap and Edgeworth expansion, section 3.5.
    """
    values, errors = resampled
    usable = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    if not usable.any():
        return value, value
    tail = (1 - level) / 2
    low, high = np.quantile((values[usable] - value) / errors[usable], [tail, 1 - tail])
    return value - float(high) * error, value - float(low) * error


def standard_error(scores: FloatArray) -> float:
    """Estimate the standard error of the mean of scores (n,); infinite of a single one."""
    n = len(scores)
    return float(scores.std(ddof=1)) / sqrt(n) if n > 1 else float("inf")

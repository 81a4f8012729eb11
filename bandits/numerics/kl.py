"""The largest rate that results do not rule out, by the Kullback-Leibler divergence."""

import numpy as np
from scipy.special import entr, rel_entr

from bandits.array_types import FloatArray

_SMALLEST = 1e-200  # in place of 1 - mean where that is 0, so that it can be divided by
_NEWTON_STEPS = 7  # from above, where it comes down monotonically; exact to 1e-12 after 6


def largest_rate(mean: FloatArray, divergence: FloatArray) -> FloatArray:
    """Return the largest q in [mean, 1] with kl(mean, q) at most `divergence`, above 0.

    kl is convex in q, so that Newton's method comes down from any point above the answer. kl is the
    integral of (s - mean) / (s (1 - s)) up to q; putting q, 1 - mean or 1/4 for s (1 - s) makes it
    smaller, and so does leaving q < 1 out of mean · ln(mean / q): four points above the answer.
    """
    rest = np.maximum(1 - mean, _SMALLEST)
    far = -np.expm1(-(divergence + entr(mean) + entr(rest)) / rest)
    small = divergence + np.sqrt(divergence * (divergence + 2 * mean))
    near = np.minimum(small, np.sqrt(2 * divergence * np.minimum(rest, 0.25)))
    q = np.minimum(mean + near, far)
    for _ in range(_NEWTON_STEPS):
        q = np.minimum(q, 1 - 1e-16)
        excess = rel_entr(mean, q) + rel_entr(1 - mean, 1 - q) - divergence
        slope = (q - mean) / (q * (1 - q))
        q = q - np.divide(excess, slope, out=np.zeros_like(q), where=slope > 0)
    return np.clip(q, mean, 1)

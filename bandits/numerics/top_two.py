"""The best arm, or the one most likely to be better: top-two Thompson sampling's choices."""

import numpy as np
from numpy.random import Generator

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.posterior import BetaState, many
from bandits.numerics.quadrature import beta_chances
from bandits.policy import draw_each, per_arm
from bandits.sampling import draw

_TRIES = 8  # draws in which most rivals turn up


def top_two(chances: FloatArray, leader_share: float) -> FloatArray:
    """Return ψ_k = π_k (β + (1 - β) Σ_{j≠k} π_j / (1 - π_j)), from π and to (*lead, K)."""
    if chances.shape[-1] == 1:
        return chances
    rivals = (chances[..., None, :] @ _rivals(chances))[..., 0, :]
    return leader_share * chances + (1 - leader_share) * rivals


def drawn_top_two(
    posterior: BetaState, leader_share: float, contexts: FloatArray, rng: Generator
) -> IntArray:
    """Draw rates for each of contexts (*lead, *batch, d), and for a rival until another is best."""
    shape = per_arm(posterior.alpha, contexts)
    if shape[-1] == 1 or many(posterior.alpha, contexts):
        return draw_each(top_two(posterior.chances, leader_share), contexts, rng)
    leaders = posterior.drawn_best(contexts, rng)
    arms = leaders.copy()
    again = rng.random(leaders.shape) >= leader_share
    for _ in range(_TRIES):
        arms = np.where(again, posterior.drawn_best(contexts, rng), arms)
        again &= arms == leaders
    where = np.flatnonzero(again)  # what would take long to come by chance is integrated
    states = where // (leaders.size // (posterior.alpha.size // shape[-1]))
    alpha, beta = (a.reshape(-1, shape[-1])[states] for a in (posterior.alpha, posterior.beta))
    rivals = _rivals(beta_chances(alpha, beta, posterior.reach))
    found = draw(rivals[np.arange(len(where)), leaders.flat[where]], rng.random(len(where)))
    arms.flat[where] = found
    return arms


def _rivals(chances: FloatArray) -> FloatArray:
    """Return (*lead, K, K): by leader, the chance of each other arm to be the best but for it."""
    n_arms = chances.shape[-1]
    itself = np.eye(n_arms, dtype=np.bool_)
    others = np.where(itself, 0.0, chances[..., None, :])
    # 1 - π_j would round to 0 for a clear leader; the sum of the others does not.
    rest = others.sum(axis=-1, keepdims=True)
    return np.where(rest > 0, others / np.where(rest > 0, rest, 1.0), ~itself / (n_arms - 1))

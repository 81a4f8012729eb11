"""Slot weights: arms made of slots weigh less by their parts than as wholes.

Both kinds need the log's probability of every arm, and assume something of rewards in exchange for
weights that are far smaller where arms are many.
"""

from collections.abc import Sequence

import numpy as np

from bandits.array_types import FloatArray, IntArray
from bandits.errors import InvalidInput
from simulations.evaluation.targets import TargetView

_AT_ONCE = 4096  # rows whose matrices are inverted together
_RANK_TOLERANCE = 1e-9


def marginal_weights(view: TargetView, slots: Sequence[int]) -> FloatArray:
    """Weigh rounds by the variants of some slots alone: (n,).

    Unbiased where the reward does not depend on the other slots; with all slots it is the plain
    weight.

    Args:
        view: a target in n rounds with slots.
        slots: numbers of the slots that rewards depend on.

    Raises:
        InvalidInput: the log lacks slots or the probability of every arm; an unknown slot.

    Source: Saito and Joachims (2022), Off-policy evaluation for large action spaces via embeddings.
    """
    levels, logged, target = _parts(view)
    if not slots or not all(0 <= slot < levels.shape[1] for slot in slots):
        raise InvalidInput.at("/slots", f"must be some of 0 to {levels.shape[1] - 1}")
    _, codes = np.unique(levels[:, list(slots)], axis=0, return_inverse=True)
    marks = np.eye(int(codes.max()) + 1)[codes.ravel()]  # (K, E)
    rows, sent = np.arange(view.rounds.n), codes.ravel()[view.rounds.arms]
    return (target @ marks)[rows, sent] / (logged @ marks)[rows, sent]


def additive_weights(view: TargetView) -> FloatArray:
    """Weigh rounds for rewards that are a sum over slots: (n,); some may be below 0.

    Unbiased where each variant adds to the reward by itself, whatever the log's probabilities are,
    as long as it sent every variant that the target sends. Where slots were drawn independently,
    a weight is the sum of the slots' own weights, less their number, plus 1.

    Args:
        view: a target in n rounds with slots.

    Raises:
        InvalidInput: the log lacks slots or the probability of every arm.

    Source: Swaminathan, Krishnamurthy, Agarwal, Dudík, Langford, Jose and Zitouni (2017),
    Off-policy evaluation for slate recommendation.
    """
    levels, logged, target = _parts(view)
    marks = np.hstack([np.eye(int(column.max()) + 1)[column] for column in levels.T])  # (K, M)
    pairs = np.hstack([logged, target])
    distinct, places = np.unique(pairs, axis=0, return_inverse=True)
    n_arms = view.rounds.n_arms
    of_arms = np.empty((len(distinct), n_arms))
    for start in range(0, len(distinct), _AT_ONCE):
        part = distinct[start : start + _AT_ONCE]
        gram = np.einsum("nk,ki,kj->nij", part[:, :n_arms], marks, marks, optimize=True)
        inverse = np.linalg.pinv(gram, rcond=_RANK_TOLERANCE, hermitian=True)
        target_marks = part[:, n_arms:] @ marks
        of_arms[start : start + _AT_ONCE] = np.einsum(
            "ni,nij,kj->nk", target_marks, inverse, marks, optimize=True
        )
    return of_arms[places.ravel(), view.rounds.arms]


def _parts(view: TargetView) -> tuple[IntArray, FloatArray, FloatArray]:
    rounds = view.rounds
    if rounds.slot_levels is None:
        raise InvalidInput.at("/slot_levels", "are needed to weigh by slots")
    if rounds.probabilities is None or view.probabilities is None:
        raise InvalidInput.at("/probabilities", "of every arm are needed to weigh by slots")
    return rounds.slot_levels, rounds.probabilities, view.probabilities

"""Preview of a decision for a context; nothing of it is recorded."""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray
from bandits.engine.active_policy import ActivePolicy
from bandits.features import Scalar
from bandits.ids import time_ordered_ids


class Preview(Struct, frozen=True, eq=False):
    """Probability of each arm for a context, and one arm drawn by them.

    Attributes:
        probabilities: (K,), 0 for arms that may not be chosen.
        drawn: an arm, drawn anew each time.
        fallback: the policy failed, so that the control is sent.
        mended: values of the context that were clipped, unknown or missing.
    """

    probabilities: FloatArray
    drawn: int
    fallback: bool
    mended: tuple[int, int, int]


def preview_choice(active: ActivePolicy, context: Mapping[str, Scalar], now: float) -> Preview:
    """Compute the probabilities for a context of a subject that is not held out.

    Raises:
        InvalidInput: the context does not fit, and the experiment is strict about that.
    """
    encoded = active.encoder.encode([dict(context)])
    arms = active.unrestricted_arms
    chances = np.zeros(active.problem.n_arms)
    shares = active.probabilities_or_none(arms, encoded.contexts)
    if shares is None:
        chances[active.fallback_arm(arms)] = 1.0
    else:
        chances[arms] = np.reshape(shares, -1)
    u = active.uniforms(time_ordered_ids(1, now))
    (drawn,), _, fallback = active.choose(arms, encoded.contexts, u)
    counts = encoded.counts
    return Preview(chances, int(drawn), fallback, (counts.clipped, counts.unknown, counts.missing))

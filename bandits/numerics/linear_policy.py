"""What policies share that prepare a fit, and a number of how far beyond its means they look."""

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import LinearFit
from bandits.numerics.ridge_fit import contributions
from bandits.policy import Contributions

Reaching = tuple[LinearFit, float]  # a fit, and how many widths beyond its means a policy looks


def reached(prepared: Reaching, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return means, and how far beyond them the policy looks: (*lead, *batch, K) each."""
    fit, reach = prepared
    means, widths = fit.predicted(contexts)
    return means, reach * widths


def linear_parts(
    policy: object,  # noqa: ARG001 - a method of every policy that looks beyond the means
    prepared: Reaching,
    context: FloatArray,
) -> Contributions:
    """Tell what each feature adds to a recipient's prediction."""
    return contributions(prepared[0], context, prepared[1])


def linear_means(
    policy: object,  # noqa: ARG001 - a method of every policy that prepares a fit and a number
    prepared: Reaching,
    contexts: FloatArray,
) -> FloatArray:
    """Return the predictions (*lead, *batch, K)."""
    return prepared[0].means(contexts)


def linear_advance(
    policy: object,  # noqa: ARG001 - a method of every policy that prepares a fit and a number
    prepared: Reaching,
    arms: IntArray,
    rewards: FloatArray,
    contexts: FloatArray,
) -> Reaching:
    """Learn one observation in each state."""
    fit, number = prepared
    return fit.learned(arms, rewards, contexts), number

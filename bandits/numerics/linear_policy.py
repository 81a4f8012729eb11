"""Methods of linear policies, which prepare a fit and a multiplier of its widths."""

from bandits.array_types import FloatArray, IntArray
from bandits.numerics.linear_fit import LinearFit
from bandits.numerics.ridge_fit import contributions
from bandits.policy import Contributions

FitAndWidth = tuple[LinearFit, float]  # a fit, and the multiplier of its widths


def means_and_reach(prepared: FitAndWidth, contexts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return means, and the multiplied widths: (*lead, *batch, K) each."""
    fit, multiplier = prepared
    means, widths = fit.predict(contexts)
    return means, multiplier * widths


def linear_contributions(
    policy: object,  # noqa: ARG001 - a method of linear policies
    prepared: FitAndWidth,
    context: FloatArray,
) -> Contributions:
    """Split the prediction for one context (d,) by feature."""
    return contributions(prepared[0], context, prepared[1])


def linear_means(
    policy: object,  # noqa: ARG001 - a method of linear policies
    prepared: FitAndWidth,
    contexts: FloatArray,
) -> FloatArray:
    """Return the predictions (*lead, *batch, K)."""
    return prepared[0].means(contexts)


def linear_advance(
    policy: object,  # noqa: ARG001 - a method of linear policies
    prepared: FitAndWidth,
    arms: IntArray,
    rewards: FloatArray,
    contexts: FloatArray,
) -> FitAndWidth:
    """Learn one observation in each state."""
    fit, multiplier = prepared
    return fit.update(arms, rewards, contexts), multiplier

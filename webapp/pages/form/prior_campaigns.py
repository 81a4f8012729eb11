"""Expected rates of a plan, from the results of an earlier experiment."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from bandits.array_types import FloatArray
from bandits.store.values import ExperimentRecord
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.plan import is_binary
from webapp.services import services

_ENOUGH = 100  # complete results from which an arm's rate is used


def prior_campaigns() -> list[ExperimentRecord]:
    """List the experiments whose rates can be used again: started, with a binary reward."""
    records = services().engine.store.experiments.records()
    return [r for r in records if r.started and is_binary(r.configuration.experiment.reward)]


def with_prior_rates(form: TypedDraft) -> TypedDraft:
    """Fill in the rates of the experiment that the plan names; without one, change nothing."""
    if form.plan.earlier not in {r.key for r in prior_campaigns()}:
        return form
    arms = services().engine.results(form.plan.earlier).arms
    rates = shrunk_rates([arm.complete for arm in arms], [arm.reward for arm in arms])
    if rates is None:
        return form
    weakest, best = rates
    plan = replace(
        form.plan,
        base=f"{100 * weakest:.3g}",
        better=f"{100 * (best / weakest - 1):.2g}",
        rates=(),
    )
    return replace(form, plan=plan)


def shrunk_rates(complete: Sequence[int], reward: Sequence[float]) -> tuple[float, float] | None:
    """Estimate the rates of the worst and the best arm; None while there are too few results."""
    has_enough = np.array(complete) >= _ENOUGH
    n = np.array(complete, dtype=np.float64)[has_enough]
    shrunk = shrink_rates(n, np.array(reward)[has_enough] / n)
    return None if shrunk is None else (float(shrunk[0].min()), float(shrunk[0].max()))


def shrink_rates(n: FloatArray, rates: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Shrink rates (K,), of n results each (K,), towards their mean; None for fewer than two.

    Returned are the rates and the standard deviation that each is still uncertain by.

    The best of several measured rates is too high by chance, and the worst too low. So each is
    shrunk towards the mean of all by the share of the spread that is chance (James and Stein, 1961,
    in the form of DerSimonian and Laird, 1986).
    """
    if len(n) < 2:  # noqa: PLR2004 - a spread needs two
        return None
    mean = float((n * rates).sum() / n.sum())
    if not 0 < mean < 1:
        return None
    noise = mean * (1 - mean) / n
    weights = 1 / noise
    excess = float((weights * (rates - mean) ** 2).sum()) - (len(n) - 1)
    scale = float(weights.sum() - (weights**2).sum() / weights.sum())
    spread = max(0.0, excess / scale)
    kept = spread / (spread + noise)
    return mean + kept * (rates - mean), np.sqrt(kept * noise)

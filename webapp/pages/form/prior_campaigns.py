"""What an earlier campaign lets one expect of the next."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from bandits.store.values import ExperimentRecord
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.plan import plain
from webapp.services import services

_ENOUGH = 100  # complete results of a version, from which its rate says something


def candidates() -> list[ExperimentRecord]:
    """List the campaigns whose rates can be expected again: started, and of success or none."""
    records = services().engine.store.experiments.records()
    return [r for r in records if r.started and plain(r.configuration.experiment.reward)]


def expected(form: TypedDraft) -> TypedDraft:
    """Fill in the rates of the campaign that the plan names; as they are where there is none."""
    if form.plan.earlier not in {r.key for r in candidates()}:
        return form
    arms = services().engine.results(form.plan.earlier).arms
    rates = shrunk([arm.complete for arm in arms], [arm.reward for arm in arms])
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


def shrunk(complete: Sequence[int], reward: Sequence[float]) -> tuple[float, float] | None:
    """Estimate the rates of the weakest and the best version; None while there are too few results.

    The best of several measured rates is too good by its luck, and the weakest too bad. So each is
    drawn towards the mean of all by the share of the spread that is luck (James and Stein, 1961, in
    the form of DerSimonian and Laird, 1986).
    """
    enough = np.array(complete) >= _ENOUGH
    if enough.sum() < 2:  # noqa: PLR2004 - a spread needs two
        return None
    n = np.array(complete, dtype=np.float64)[enough]
    rates = np.array(reward)[enough] / n
    mean = float((n * rates).sum() / n.sum())
    if not 0 < mean < 1:
        return None
    luck = mean * (1 - mean) / n
    weights = 1 / luck
    excess = float((weights * (rates - mean) ** 2).sum()) - (len(n) - 1)
    scale = float(weights.sum() - (weights**2).sum() / weights.sum())
    spread = max(0.0, excess / scale)
    better = mean + spread / (spread + luck) * (rates - mean)
    return float(better.min()), float(better.max())

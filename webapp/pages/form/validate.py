"""Whether what was typed fits together, told at the names of its fields and in the page's words."""

from collections.abc import Iterable

import msgspec

from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment, covers
from bandits.validation import refusal
from webapp.pages.form.field_mapping import field_of
from webapp.pages.form.fields import methods
from webapp.pages.form.form_model import TypedExperiment


def whole_faults(form: TypedExperiment, experiment: Experiment) -> list[Fault]:
    """List what does not fit together, though each field by itself does."""
    declared = msgspec.to_builtins(experiment)
    try:
        msgspec.convert(declared, Experiment)
        if fault := _too_few(experiment) or _refused_rewards(experiment):
            return [fault]
        experiment.check()
    except msgspec.ValidationError:
        return placed(refusal(declared, Experiment).faults, form)
    except InvalidInput as error:
        return placed(error.faults, form)
    return []


def placed(faults: Iterable[Fault], form: TypedExperiment) -> list[Fault]:
    """Move the engine's faults to the names of their fields in `form`."""
    return [Fault(field_of(f.pointer, form), f.detail) for f in faults]


def _too_few(experiment: Experiment) -> Fault | None:
    if len(experiment.slots) == 1 and len(experiment.slots[0].variants) == 1:
        detail = "add a second variant: with one there is nothing to choose between"
        return Fault("slots/0/variants", detail)
    return None


def _refused_rewards(experiment: Experiment) -> Fault | None:
    """Say in the page's words that a method cannot learn from this reward rule."""
    if experiment.reward.faults():
        return None
    known = {m.name: m for m in methods()}
    chosen, bounds = known[experiment.policy.name], experiment.reward.bounds
    if covers(chosen.support, bounds):
        return None
    able = ", ".join(m.label for m in known.values() if covers(m.support, bounds))
    return Fault(
        "policy",
        f"{chosen.label} learns from results between {chosen.support[0]:g} and"
        f" {chosen.support[1]:g}; what you count as success gives {bounds[0]:g} to"
        f" {bounds[1]:g}. These can learn from it: {able}",
    )

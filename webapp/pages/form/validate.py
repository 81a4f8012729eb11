"""Checks across fields of the form, with faults at the names of its fields."""

from collections.abc import Iterable

import msgspec

from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment, covers
from bandits.validation import refusal
from webapp.pages.form.field_paths import field_of
from webapp.pages.form.fields import methods
from webapp.pages.form.form_model import TypedDraft, TypedExperiment


def cross_field_faults(form: TypedExperiment, experiment: Experiment) -> list[Fault]:
    """List the faults of fields that fit by themselves but not together."""
    declared = msgspec.to_builtins(experiment)
    try:
        msgspec.convert(declared, Experiment)
        if fault := _missing_variant_fault(form, experiment) or _reward_fault(experiment):
            return [fault]
        experiment.check()
    except msgspec.ValidationError:
        return map_faults(refusal(declared, Experiment).faults, form)
    except InvalidInput as error:
        return map_faults(error.faults, form)
    return []


def map_faults(faults: Iterable[Fault], form: TypedExperiment) -> list[Fault]:
    """Return the engine's faults at the names of their fields in `form`."""
    return [Fault(field_of(f.pointer, form), f.detail) for f in faults]


def _missing_variant_fault(form: TypedExperiment, experiment: Experiment) -> Fault | None:
    """Return the fault of a part with nothing to choose between.

    Beside other parts it may stand in a campaign that is edited, or typed on one page.
    """
    is_new = isinstance(form, TypedDraft) and not form.edits
    for i, slot in enumerate(experiment.slots):
        if len(slot.variants) == 1 and (is_new or len(experiment.slots) == 1):
            detail = "add a second variant: with one there is nothing to choose between"
            return Fault(f"slots/{i}/variants", detail)
    return None


def _reward_fault(experiment: Experiment) -> Fault | None:
    """Return the fault of a method that cannot learn from this reward rule."""
    if experiment.reward.faults():
        return None
    methods_by_name = {m.name: m for m in methods()}
    chosen, bounds = methods_by_name[experiment.policy.name], experiment.reward.bounds
    if chosen.timed and not experiment.reward.is_single_answer:
        return Fault(
            "policy",
            f"{chosen.label} learns how late one kind of result is: count one thing as success that"
            " happens or not, worth 1, without costs",
        )
    if covers(chosen.support, bounds):
        return None
    able = ", ".join(
        m.label for m in methods_by_name.values() if covers(m.support, bounds) and not m.timed
    )
    return Fault(
        "policy",
        f"{chosen.label} learns from results between {chosen.support[0]:g} and"
        f" {chosen.support[1]:g}; what you count as success gives {bounds[0]:g} to"
        f" {bounds[1]:g}. These can learn from it: {able}",
    )

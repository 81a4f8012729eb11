"""Page "Try it": the email for a recipient with the typed features; nothing is recorded."""

from collections.abc import Mapping

from flask import render_template, request
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.engine.analysis.preview import Preview
from bandits.errors import Fault, InvalidInput
from bandits.experiment import Experiment
from bandits.features import Scalar
from bandits.store.values import ExperimentRecord
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import arm_name
from webapp.pages.form.fields import parse_number
from webapp.services import services

_SHOWN = 12  # versions in the table, the likeliest first


class ArmChance(Struct, frozen=True):
    """Probability of one arm."""

    label: str
    probability: float


@pages.route("/experiments/<key:key>/try", methods=["GET", "POST"])
@needs("viewer")
def preview(key: str) -> ResponseReturnValue:
    """Show the email for the typed features, with the variants that are forced."""
    engine = services().engine
    record = engine.store.experiments.record(key)
    declared = record.configuration.experiment
    errors: dict[str, str] = {}
    trial = None
    try:
        trial = engine.preview(key, _context(declared))
    except InvalidInput as error:
        if request.method == "POST":  # before anything is typed, there is nothing to blame
            errors = {_field(declared, f): f.detail for f in error.faults}
    page = render_template(
        "experiment/preview.html",
        record=record,
        declared=declared,
        trial=trial,
        chances=[] if trial is None else _chances(record, trial),
        email=None if trial is None else _email(record, trial),
        errors=errors,
        tab="try",
        typed=request.form,
    )
    return page, 422 if errors else 200


def _context(declared: Experiment) -> dict[str, Scalar]:
    """Read the typed features; an empty field is a missing feature.

    Raises:
        InvalidInput: at ``context/{feature}``.
    """
    context: dict[str, Scalar] = {}
    faults = []
    for feature in declared.context:
        text = request.form.get(f"context/{feature.name}", "").strip()
        if not text:
            continue
        try:
            context[feature.name] = parse_number(text) if feature.numeric else text
        except ValueError:
            faults.append(Fault(f"context/{feature.name}", "must be a number"))
    if faults:
        raise InvalidInput(faults)
    return context


def _field(declared: Experiment, fault: Fault) -> str:
    """Find the field that a fault of the context is about."""
    names = [f.name for f in declared.context]
    last = fault.pointer.rsplit("/", 1)[-1]
    return f"context/{last}" if last in names else ""


def _chances(record: ExperimentRecord, trial: Preview) -> list[ArmChance]:
    arms = record.configuration.arms
    declared = record.configuration.experiment
    keys = [s.key for s in declared.slots]
    ranked = sorted(range(len(arms)), key=lambda arm: -trial.probabilities[arm])
    return [
        ArmChance(
            arm_name(declared, dict(zip(keys, arms[arm].variants, strict=True))),
            float(trial.probabilities[arm]),
        )
        for arm in ranked[:_SHOWN]
    ]


def _email(record: ExperimentRecord, trial: Preview) -> Mapping[str, int]:
    """Return the position of each slot's variant: the forced one, else the drawn one."""
    declared = record.configuration.experiment
    drawn = record.configuration.arms[trial.drawn].variants
    chosen = {}
    for slot, variant in zip(declared.slots, drawn, strict=True):
        keys = [v.key for v in slot.variants]
        forced = request.form.get(f"force/{slot.key}", "")
        chosen[slot.key] = keys.index(forced if forced in keys else variant)
    return chosen

"""Parser of the form: the experiment that it declares, or a fault for each wrong field."""

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Any, Literal

import msgspec

from bandits.errors import InvalidInput
from bandits.experiment import (
    Combination,
    Experiment,
    Forgetting,
    MachineRulesVersion,
    PolicyChoice,
    Slot,
    Variant,
)
from bandits.features import CategoryFeature, Feature, NumberFeature
from bandits.guardrails import Guardrail
from bandits.identifiers import letter_name
from bandits.registry import make
from bandits.rewards import Metric, RewardRule
from webapp.pages.form import margins
from webapp.pages.form.field_readers import MISSING, FieldErrors
from webapp.pages.form.fields import Method, methods, parse_number, read_field
from webapp.pages.form.form_model import (
    MAIN_FIELDS,
    TypedExclusion,
    TypedExperiment,
    TypedFeature,
    TypedGuardrail,
    TypedMetric,
    TypedSlot,
    TypedVariant,
    slot_kind,
)
from webapp.pages.form.slugs import slug, unused_key
from webapp.pages.form.validate import cross_field_faults


def parse_experiment(form: TypedExperiment) -> Experiment:
    """Parse a form without empty rows (`rows.without_empty_rows`).

    Raises:
        InvalidInput: each fault is at the name of its field.
    """
    errors = FieldErrors()
    if not form.slots:
        errors.add("slots", "add at least one part of the email")
    keys = _filled_keys([s.key for s in form.slots], lambda i: slug(form.slots[i].title, join="_"))
    slots = tuple(
        _slot(errors, f"slots/{i}", slot, key)
        for i, (slot, key) in enumerate(zip(form.slots, keys, strict=True))
    )
    experiment = Experiment(
        key=errors.key("key" if form.key.strip() else "name", form.key or slug(form.name)),
        name=errors.text("name", form.name, Experiment, "name"),
        slots=slots,
        policy=_policy(errors, form),
        reward=_reward(errors, form, slots),
        exclude=tuple(_exclusion(e, slots) for e in form.exclude),
        control=_control(form, slots),
        floor=errors.number("floor", form.floor, Experiment, "floor", empty=None, scale=100),
        holdout=errors.number("holdout", form.holdout, Experiment, "holdout", empty=0.0, scale=100),
        forgetting=_forgetting(errors, form),
        context=tuple(_feature(errors, f"context/{i}", f) for i, f in enumerate(form.context)),
        assignment="per_subject" if form.assignment == "per_subject" else "per_decision",
        learn_every_seconds=errors.seconds(
            "learn_every", form.learn_every, Experiment, "learn_every_seconds", empty=60.0
        ),
        await_activation=form.await_activation == "yes",
        send_within_seconds=errors.seconds(
            "send_within", form.send_within, Experiment, "send_within_seconds", empty=86_400.0
        ),
        strict=form.strict == "yes",
        starts_at=errors.moment("starts_at", form.starts_at),
        ends_at=errors.moment("ends_at", form.ends_at),
        retention_days=errors.whole_number(
            "retention_days", form.retention_days, Experiment, "retention_days"
        ),
        attribution=_attribution(form.attribution),
        machine_rules=_machine_rules(errors, form.machine_rules),
        guardrails=tuple(
            _guardrail(errors, f"guardrails/{i}", typed)
            for i, typed in enumerate(form.guardrails)
            if typed.on == "yes"
        ),
        paused=tuple(_exclusion(e, slots) for e in form.paused),
    )
    faults = errors.faults or cross_field_faults(form, experiment)
    if faults:
        raise InvalidInput(faults)
    return experiment


def _guardrail(errors: FieldErrors, place: str, typed: TypedGuardrail) -> Guardrail:
    amount = errors.required_number(f"{place}/amount", typed.amount.replace("%", ""))
    is_limit = typed.kind != "times"
    if is_limit and not 0 < amount < 100:  # noqa: PLR2004 - per cent
        errors.add(f"{place}/amount", "enter a number above 0 and below 100 %")
    return Guardrail(
        typed.event.strip(),
        limit=round(amount / 100, 12) if is_limit else None,
        worse_than_control=None if is_limit else amount,
        action="alert" if typed.action == "alert" else "pause",
        scope="variant" if typed.scope == "variant" else "arm",
    )


def _attribution(typed: str) -> Literal["last", "all"] | None:
    match typed:
        case "last" | "all":
            return typed
        case _:
            return None


def _machine_rules(errors: FieldErrors, typed: str) -> MachineRulesVersion | None:
    """Read the version of the rules against machines; empty for none."""
    if not typed:
        return None
    try:
        version: MachineRulesVersion = msgspec.convert(typed, MachineRulesVersion, strict=False)
    except msgspec.ValidationError:
        errors.add("machine_rules", "choose one of the list")
        return None
    return version


def _filled_keys(keys: Sequence[str], make_key: Callable[[int], str]) -> list[str]:
    """Return the keys, with new ones for empty fields, all different."""
    filled = [key.strip() for key in keys]
    for i, key in enumerate(filled):
        if not key:
            filled[i] = unused_key(make_key(i), filled)
    return filled


def _slot(errors: FieldErrors, place: str, typed: TypedSlot, key: str) -> Slot:
    if not typed.variants:
        errors.add(f"{place}/variants", "add at least one variant")
    keys = _filled_keys(
        [v.key for v in typed.variants], lambda i: _variant_key(typed.variants[i], i)
    )
    return Slot(
        key=errors.key(f"{place}/key", key),
        variants=tuple(
            _variant(errors, f"{place}/variants/{i}", typed.kind, variant, variant_key)
            for i, (variant, variant_key) in enumerate(zip(typed.variants, keys, strict=True))
        ),
        kind=slot_kind(typed.kind),
        name=errors.text(f"{place}/name", typed.name, Slot, "name"),
    )


def _variant_key(typed: TypedVariant, position: int) -> str:
    percent = slug(typed.percent)
    return slug(typed.name) or (f"d{percent}" if percent else letter_name(position))


def _variant(errors: FieldErrors, place: str, kind: str, typed: TypedVariant, key: str) -> Variant:
    payload = _further_fields(errors, f"{place}/more", typed.more)
    if typed.blank:
        errors.add(
            f"{place}/{MAIN_FIELDS[slot_kind(kind)]}", "fill in the control, or choose another"
        )
    match kind:
        case "subject_line":
            if not typed.text.strip():
                errors.add(f"{place}/text", "write the subject line")
            payload = {"text": typed.text.strip(), **payload}
        case "content" if typed.html.strip():
            payload = {"html": typed.html, **payload}
        case "discount":
            payload = {"percent": _percent(errors, f"{place}/percent", typed.percent), **payload}
    return Variant(
        key=errors.key(f"{place}/key", key),
        payload=payload,
        name=errors.text(f"{place}/name", typed.name, Variant, "name"),
        paused=typed.paused == "yes",
    )


def _percent(errors: FieldErrors, field: str, typed: str) -> float:
    def read() -> float:
        try:
            value = parse_number(typed.replace("%", ""))
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100:  # noqa: PLR2004 - per cent
            raise ValueError("must be a number from 0 to 100")
        return int(value) if value.is_integer() else value

    return errors.attempt(field, read, 0.0)


def _further_fields(errors: FieldErrors, field: str, typed: str) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        try:
            return msgspec.json.decode(typed, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ValueError(f'must be a JSON object such as {{"link": "…"}}: {error}') from None

    return errors.attempt(field, read, {}) if typed.strip() else {}


def _exclusion(typed: TypedExclusion, slots: Sequence[Slot]) -> Combination:
    return {
        slot.key: slot.variants[int(level)].key
        for slot, level in zip(slots, typed.levels, strict=False)
        if level.isdigit() and int(level) < len(slot.variants)
    }


def _control(form: TypedExperiment, slots: Sequence[Slot]) -> Combination:
    filled = {}
    for typed, slot in zip(form.slots, slots, strict=True):
        position = int(typed.control) if typed.control.isdigit() else 0
        if position < len(slot.variants):
            filled[slot.key] = slot.variants[position].key
    return filled


def _reward(errors: FieldErrors, form: TypedExperiment, slots: Sequence[Slot]) -> RewardRule:
    if not form.metrics:
        errors.add("metrics", "say what counts as success: add a click, say")
    metrics: dict[str, Metric] = {}
    for i, typed in enumerate(form.metrics):
        name = errors.key(f"metrics/{i}/name", typed.name)
        if name in metrics:
            errors.add(f"metrics/{i}/name", f"{name!r} is used twice")
        metrics[name] = _metric(errors, f"metrics/{i}", typed, slots)
    window = errors.seconds("window", form.window, RewardRule, "window_seconds", empty=None)
    if window is None:
        errors.add("window/amount", "say how long after a send a result still counts")
    maturity = errors.seconds("maturity", form.maturity, RewardRule, "maturity_seconds", empty=None)
    goal: Literal["maximise", "minimise"] = "minimise" if form.goal == "minimise" else "maximise"
    return RewardRule(metrics, window or 0.0, maturity, goal, _costs(errors, form, slots))


def _costs(
    errors: FieldErrors, form: TypedExperiment, slots: Sequence[Slot]
) -> dict[str, dict[str, float]]:
    """Read the costs of variants from the fields that are not empty."""
    costs: dict[str, dict[str, float]] = {}
    for i, (typed, slot) in enumerate(zip(form.slots, slots, strict=True)):
        for j, (row, variant) in enumerate(zip(typed.variants, slot.variants, strict=True)):
            if row.cost.strip():
                cost = errors.required_number(f"slots/{i}/variants/{j}/cost", row.cost)
                costs.setdefault(slot.key, {})[variant.key] = cost
    return costs


def _metric(errors: FieldErrors, place: str, typed: TypedMetric, slots: Sequence[Slot]) -> Metric:
    weight, by = _weights(errors, place, typed, slots)
    currency = typed.currency.strip().upper()
    return Metric(
        weight,
        "sum" if typed.count == "sum" else "once",
        errors.required_number(f"{place}/low", typed.low),
        errors.required_number(f"{place}/high", typed.high),
        typed.count == "latest",
        by,
        errors.text(f"{place}/currency", currency, Metric, "currency") if currency else None,
    )


def _weights(
    errors: FieldErrors, place: str, typed: TypedMetric, slots: Sequence[Slot]
) -> tuple[float, dict[str, dict[str, float]]]:
    """Read the weight of a metric, and those of variants."""
    if not typed.margin.strip():
        none: dict[str, dict[str, float]] = {}
        by = errors.attempt(f"{place}/by", partial(margins.read_weights, typed.by), none)
        return errors.required_number(f"{place}/weight", typed.weight), by
    margin = errors.attempt(f"{place}/margin", partial(margins.read_margin, typed.margin), MISSING)
    discounts = [slot for slot in slots if slot.kind == "discount"]
    if not isfinite(margin) or not discounts:
        return margin, {}
    if len(discounts) > 1:
        errors.add(f"{place}/margin", "works with one discount part: this email has several")
    basis = margins.value_basis(typed.basis)
    weigh = partial(margins.weights_by_discount, discounts[0], margin, basis)
    return margin, errors.attempt(f"{place}/basis", weigh, {})


def _feature(errors: FieldErrors, place: str, typed: TypedFeature) -> Feature:
    name = errors.key(f"{place}/name", typed.name)
    default = typed.default.strip()
    if typed.kind == "category":
        values = [v.strip() for line in typed.values.splitlines() for v in line.split(",")]
        listed = tuple(v for v in values if v)
        if not listed:
            errors.add(f"{place}/values", "list the values, separated by commas")
        return CategoryFeature(name, listed, default or None)
    return NumberFeature(
        name,
        errors.required_number(f"{place}/low", typed.low),
        errors.required_number(f"{place}/high", typed.high),
        errors.required_number(f"{place}/default", default) if default else None,
    )


def _forgetting(errors: FieldErrors, form: TypedExperiment) -> Forgetting | None:
    name = {"half_life": "half_life_seconds", "window": "window_seconds"}.get(form.forgetting)
    if name is None:
        return None
    seconds = errors.seconds("forgetting_time", form.forgetting_time, Forgetting, name, empty=None)
    if seconds is None:
        errors.add("forgetting_time/amount", "say after how long")
    return Forgetting(**{name: seconds})


def _policy(errors: FieldErrors, form: TypedExperiment) -> PolicyChoice:
    method = next((m for m in methods() if m.name == form.policy), None)
    if method is None:
        errors.add("policy", "choose how it should learn")
        return PolicyChoice(form.policy)
    params = _params(errors, method, form.parameters.get(method.name, {}))
    try:
        make(method.name, params)
    except InvalidInput as error:
        details = {
            f.pointer.removeprefix("/params/").partition("/")[0]: f.detail for f in error.faults
        }
        for field in method.fields:
            if field.name in details:
                detail = (
                    f"must be {field.requirement}" if field.requirement else details[field.name]
                )
                errors.add(f"parameters/{method.name}/{field.name}", detail)
    return PolicyChoice(method.name, params)


def _params(errors: FieldErrors, method: Method, typed: dict[str, str]) -> dict[str, Any]:
    """Read the fields that differ from their defaults."""
    params = {}
    for field in method.fields:
        text = typed.get(field.name, "" if field.kind == "boolean" else field.default)
        if field.kind != "boolean" and not text.strip():
            continue
        place = f"parameters/{method.name}/{field.name}"
        if text.strip() != field.default:
            params[field.name] = errors.attempt(place, partial(read_field, field, text), None)
    return params

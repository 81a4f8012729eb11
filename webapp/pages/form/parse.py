"""From what was typed to an experiment, or to a message beside every field that does not fit."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from bandits.errors import InvalidInput
from bandits.experiment import Combination, Experiment, Forgetting, PolicyChoice, Slot, Variant
from bandits.features import CategoryFeature, Feature, NumberFeature
from bandits.registry import make
from bandits.rewards import Metric, RewardRule
from webapp.pages.form.field_readers import FieldErrors
from webapp.pages.form.fields import Method, methods, number, read_field
from webapp.pages.form.form_model import (
    TypedExclusion,
    TypedExperiment,
    TypedFeature,
    TypedMetric,
    TypedSlot,
    TypedVariant,
    kind_of,
)
from webapp.pages.form.slugs import letter, slug, unused
from webapp.pages.form.validate import whole_faults


def declare(form: TypedExperiment) -> Experiment:
    """Make the experiment that a form without blank rows (`rows.compacted`) declares.

    Raises:
        InvalidInput: each fault is at the name of its field.
    """
    notes = FieldErrors()
    if not form.slots:
        notes.note("slots", "add at least one part of the email")
    keys = _filled([s.key for s in form.slots], lambda i: slug(form.slots[i].title, join="_"))
    slots = tuple(
        _slot(notes, f"slots/{i}", slot, key)
        for i, (slot, key) in enumerate(zip(form.slots, keys, strict=True))
    )
    experiment = Experiment(
        key=notes.key("key" if form.key.strip() else "name", form.key or slug(form.name)),
        name=notes.text("name", form.name, Experiment, "name"),
        slots=slots,
        policy=_policy(notes, form),
        reward=_reward(notes, form, slots),
        exclude=tuple(_exclusion(e, slots) for e in form.exclude),
        control=_control(form, slots),
        floor=notes.number("floor", form.floor, Experiment, "floor", empty=None, scale=100),
        holdout=notes.number("holdout", form.holdout, Experiment, "holdout", empty=0.0, scale=100),
        forgetting=_forgetting(notes, form),
        context=tuple(_feature(notes, f"context/{i}", f) for i, f in enumerate(form.context)),
        assignment="per_subject" if form.assignment == "per_subject" else "per_decision",
        learn_every_seconds=notes.seconds(
            "learn_every", form.learn_every, Experiment, "learn_every_seconds", empty=60.0
        ),
        await_activation=form.await_activation == "yes",
        strict=form.strict == "yes",
        starts_at=notes.moment("starts_at", form.starts_at),
        ends_at=notes.moment("ends_at", form.ends_at),
        retention_days=notes.whole(
            "retention_days", form.retention_days, Experiment, "retention_days"
        ),
    )
    faults = notes.faults or whole_faults(form, experiment)
    if faults:
        raise InvalidInput(faults)
    return experiment


def _filled(keys: Sequence[str], make_key: Callable[[int], str]) -> list[str]:
    """Make keys where none was typed, different from all others."""
    out = [key.strip() for key in keys]
    for i, key in enumerate(out):
        if not key:
            out[i] = unused(make_key(i), out)
    return out


def _slot(notes: FieldErrors, place: str, typed: TypedSlot, key: str) -> Slot:
    if not typed.variants:
        notes.note(f"{place}/variants", "add at least one variant")
    keys = _filled([v.key for v in typed.variants], lambda i: _variant_key(typed.variants[i], i))
    return Slot(
        key=notes.key(f"{place}/key", key),
        variants=tuple(
            _variant(notes, f"{place}/variants/{i}", typed.kind, variant, variant_key)
            for i, (variant, variant_key) in enumerate(zip(typed.variants, keys, strict=True))
        ),
        kind=kind_of(typed.kind),
        name=notes.text(f"{place}/name", typed.name, Slot, "name"),
    )


def _variant_key(typed: TypedVariant, position: int) -> str:
    percent = slug(typed.percent)
    return slug(typed.name) or (f"d{percent}" if percent else letter(position))


def _variant(notes: FieldErrors, place: str, kind: str, typed: TypedVariant, key: str) -> Variant:
    payload = _more(notes, f"{place}/more", typed.more)
    match kind:
        case "subject_line":
            if not typed.text.strip():
                notes.note(f"{place}/text", "write the subject line")
            payload = {"text": typed.text.strip(), **payload}
        case "content" if typed.html.strip():
            payload = {"html": typed.html, **payload}
        case "discount":
            payload = {"percent": _percent(notes, f"{place}/percent", typed.percent), **payload}
    return Variant(
        key=notes.key(f"{place}/key", key),
        payload=payload,
        name=notes.text(f"{place}/name", typed.name, Variant, "name"),
        paused=typed.paused == "yes",
    )


def _percent(notes: FieldErrors, field: str, typed: str) -> float:
    def read() -> float:
        try:
            value = number(typed.replace("%", ""))
        except ValueError:
            value = -1.0
        if not 0 <= value <= 100:  # noqa: PLR2004 - per cent
            raise ValueError("must be a number from 0 to 100")
        return int(value) if value.is_integer() else value

    return notes.attempt(field, read, 0.0)


def _more(notes: FieldErrors, field: str, typed: str) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        try:
            return msgspec.json.decode(typed, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ValueError(f'must be a JSON object such as {{"link": "…"}}: {error}') from None

    return notes.attempt(field, read, {}) if typed.strip() else {}


def _exclusion(typed: TypedExclusion, slots: Sequence[Slot]) -> Combination:
    return {
        slot.key: slot.variants[int(level)].key
        for slot, level in zip(slots, typed.levels, strict=False)
        if level.isdigit() and int(level) < len(slot.variants)
    }


def _control(form: TypedExperiment, slots: Sequence[Slot]) -> Combination:
    out = {}
    for typed, slot in zip(form.slots, slots, strict=True):
        position = int(typed.control) if typed.control.isdigit() else 0
        if position < len(slot.variants):
            out[slot.key] = slot.variants[position].key
    return out


def _reward(notes: FieldErrors, form: TypedExperiment, slots: Sequence[Slot]) -> RewardRule:
    if not form.metrics:
        notes.note("metrics", "say what counts as success: add a click, say")
    metrics: dict[str, Metric] = {}
    for i, typed in enumerate(form.metrics):
        name = notes.key(f"metrics/{i}/name", typed.name)
        if name in metrics:
            notes.note(f"metrics/{i}/name", f"{name!r} is used twice")
        metrics[name] = _metric(notes, f"metrics/{i}", typed)
    window = notes.seconds("window", form.window, RewardRule, "window_seconds", empty=None)
    if window is None:
        notes.note("window/amount", "say how long after a send a result still counts")
    maturity = notes.seconds("maturity", form.maturity, RewardRule, "maturity_seconds", empty=None)
    goal: Literal["maximise", "minimise"] = "minimise" if form.goal == "minimise" else "maximise"
    return RewardRule(metrics, window or 0.0, maturity, goal, _costs(notes, form, slots))


def _costs(
    notes: FieldErrors, form: TypedExperiment, slots: Sequence[Slot]
) -> dict[str, dict[str, float]]:
    """Read what sending each variant costs, where something was typed."""
    costs: dict[str, dict[str, float]] = {}
    for i, (typed, slot) in enumerate(zip(form.slots, slots, strict=True)):
        for j, (row, variant) in enumerate(zip(typed.variants, slot.variants, strict=True)):
            if row.cost.strip():
                cost = notes.needed(f"slots/{i}/variants/{j}/cost", row.cost)
                costs.setdefault(slot.key, {})[variant.key] = cost
    return costs


def _metric(notes: FieldErrors, place: str, typed: TypedMetric) -> Metric:
    return Metric(
        notes.needed(f"{place}/weight", typed.weight),
        "sum" if typed.count == "sum" else "once",
        notes.needed(f"{place}/low", typed.low),
        notes.needed(f"{place}/high", typed.high),
    )


def _feature(notes: FieldErrors, place: str, typed: TypedFeature) -> Feature:
    name = notes.key(f"{place}/name", typed.name)
    default = typed.default.strip()
    if typed.kind == "category":
        values = [v.strip() for line in typed.values.splitlines() for v in line.split(",")]
        listed = tuple(v for v in values if v)
        if not listed:
            notes.note(f"{place}/values", "list the values, separated by commas")
        return CategoryFeature(name, listed, default or None)
    return NumberFeature(
        name,
        notes.needed(f"{place}/low", typed.low),
        notes.needed(f"{place}/high", typed.high),
        notes.needed(f"{place}/default", default) if default else None,
    )


def _forgetting(notes: FieldErrors, form: TypedExperiment) -> Forgetting | None:
    name = {"half_life": "half_life_seconds", "window": "window_seconds"}.get(form.forgetting)
    if name is None:
        return None
    seconds = notes.seconds("forgetting_time", form.forgetting_time, Forgetting, name, empty=None)
    if seconds is None:
        notes.note("forgetting_time/amount", "say after how long")
    return Forgetting(**{name: seconds})


def _policy(notes: FieldErrors, form: TypedExperiment) -> PolicyChoice:
    method = next((m for m in methods() if m.name == form.policy), None)
    if method is None:
        notes.note("policy", "choose how it should learn")
        return PolicyChoice(form.policy)
    params = _params(notes, method, form.parameters.get(method.name, {}))
    try:
        make(method.name, params)
    except InvalidInput as error:
        found = {
            f.pointer.removeprefix("/params/").partition("/")[0]: f.detail for f in error.faults
        }
        for field in method.fields:
            if field.name in found:
                detail = f"must be {field.requirement}" if field.requirement else found[field.name]
                notes.note(f"parameters/{method.name}/{field.name}", detail)
    return PolicyChoice(method.name, params)


def _params(notes: FieldErrors, method: Method, typed: dict[str, str]) -> dict[str, Any]:
    """Read the fields that differ from their defaults."""
    params = {}
    for field in method.fields:
        text = typed.get(field.name, "" if field.kind == "boolean" else field.default)
        if field.kind != "boolean" and not text.strip():
            continue
        place = f"parameters/{method.name}/{field.name}"
        if text.strip() != field.default:
            params[field.name] = notes.attempt(place, partial(read_field, field, text), None)
    return params

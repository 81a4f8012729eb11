"""Rows of the form: added, removed and pasted by submit buttons, without script."""

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from bandits.errors import Fault, InvalidInput
from webapp.pages.form.form_model import (
    GUARDRAILS,
    MAIN_FIELDS,
    METRICS,
    TypedExclusion,
    TypedExperiment,
    TypedFeature,
    TypedSlot,
    TypedVariant,
    new_slot,
    slot_kind,
)

MAX_VARIANTS = 100
_TWO = (TypedVariant(), TypedVariant())

R = TypeVar("R")
F = TypeVar("F", bound=TypedExperiment)


def change_rows(form: F, action: str) -> tuple[F, tuple[Fault, ...]]:
    """Apply a row button such as ``add slots discount`` or ``remove slots/0/variants/1``.

    Returns:
        The form, changed unless there are faults, and the faults at the names of their fields.
    """
    try:
        return _apply_button(form, action), ()
    except InvalidInput as error:
        return form, error.faults


def _apply_button(form: F, action: str) -> F:  # noqa: C901, PLR0911 - one case for each button
    verb, _, rest = action.partition(" ")
    place, _, what = rest.partition(" ")
    try:
        match [verb, *place.split("/")]:
            case ["add", "slots"]:
                return _with_slot(form, what)
            case ["add", "slots", slot, "variants"]:
                return _in_slot(form, int(slot), _with_variant)
            case ["paste", "slots", slot]:
                return _with_pasted(form, int(slot))
            case ["show", "metrics"]:
                return form
            case ["add", "metrics"]:
                return replace(form, metrics=(*form.metrics, METRICS[what]))
            case ["add", "context"]:
                return replace(form, context=(*form.context, TypedFeature(what)))
            case ["add", "exclude"]:
                return replace(form, exclude=(*form.exclude, TypedExclusion()))
            case ["remove", "slots", slot]:
                return _without_slot(form, int(slot))
            case ["remove", "slots", slot, "variants", variant]:
                return without_variant(form, int(slot), int(variant))
            case ["remove", ("metrics" | "context" | "exclude" | "paused") as rows, row]:
                return replace(form, **{rows: _without(getattr(form, rows), int(row))})
    except (ValueError, KeyError, IndexError):
        pass
    raise InvalidInput.at("", f"no such row or action: {action}")


def without_empty_rows(form: F) -> F:
    """Drop empty rows, but a control's while others are filled: none takes its place."""
    for slot in range(len(form.slots)):
        form = _without_blanks(form, slot)
    return replace(
        form,
        metrics=tuple(m for m in form.metrics if m.name.strip() or m not in METRICS.values()),
        context=tuple(f for f in form.context if not f.blank),
        exclude=tuple(e for e in form.exclude if any(e.levels)),
        paused=tuple(e for e in form.paused if any(e.levels)),
    )


def with_empty_rows(form: F) -> F:
    """Add empty variants to a slot without any, and the guardrails that every form offers."""
    slots = tuple(s if s.variants else replace(s, variants=_TWO) for s in form.slots)
    events = {g.event for g in form.guardrails}
    offered = (g for g in GUARDRAILS if g.event not in events)
    return replace(form, slots=slots, guardrails=(*form.guardrails, *offered))


def without_variant(form: F, slot: int, variant: int) -> F:
    """Remove a variant; the control and rules of combinations name the same variants."""

    def remove(typed: TypedSlot) -> TypedSlot:
        control = _shifted(typed.control, variant)
        return replace(typed, variants=_without(typed.variants, variant), control=control or "0")

    def shifted(rules: tuple[TypedExclusion, ...]) -> tuple[TypedExclusion, ...]:
        return tuple(
            TypedExclusion(
                tuple(
                    _shifted(level, variant) if i == slot else level
                    for i, level in enumerate(rule.levels)
                )
            )
            for rule in rules
        )

    exclude, paused = shifted(form.exclude), shifted(form.paused)
    return replace(_in_slot(form, slot, remove), exclude=exclude, paused=paused)


def _shifted(position: str, removed: int) -> str:
    """Return the position of a variant without the one at `removed`, "" for that one itself."""
    if not position.isdigit() or int(position) < removed:
        return position
    return "" if int(position) == removed else str(int(position) - 1)


def _with_slot(form: F, kind: str) -> F:
    # A recipient with 20 % off today and 10 % tomorrow feels cheated.
    assignment = "per_subject" if kind == "discount" else form.assignment
    return replace(form, slots=(*form.slots, new_slot(kind)), assignment=assignment)


def _without_slot(form: F, slot: int) -> F:
    exclude = tuple(TypedExclusion(e.levels[:slot] + e.levels[slot + 1 :]) for e in form.exclude)
    paused = tuple(TypedExclusion(e.levels[:slot] + e.levels[slot + 1 :]) for e in form.paused)
    return replace(form, slots=_without(form.slots, slot), exclude=exclude, paused=paused)


def _in_slot(form: F, slot: int, change: Callable[[TypedSlot], TypedSlot]) -> F:
    slots = list(form.slots)
    slots[slot] = change(slots[slot])
    return replace(form, slots=tuple(slots))


def _with_variant(slot: TypedSlot) -> TypedSlot:
    return replace(slot, variants=(*slot.variants, TypedVariant()))


def _without_blanks(form: F, slot: int) -> F:
    typed = form.slots[slot]
    has_others = not all(v.blank for v in typed.variants)
    for j in reversed(range(len(typed.variants))):
        is_control = has_others and typed.control == str(j)
        if typed.variants[j].blank and not is_control:
            form = without_variant(form, slot, j)
    return form


def _with_pasted(form: F, position: int) -> F:
    """Turn each pasted line into a variant, in place of the empty rows."""
    lines = [line.strip() for line in form.slots[position].paste.splitlines() if line.strip()]
    form = _without_blanks(form, position)
    slot = form.slots[position]
    if len(slot.variants) + len(lines) > MAX_VARIANTS:
        detail = f"a part can have at most {MAX_VARIANTS} variants"
        raise InvalidInput.at(f"slots/{position}/paste", detail)
    field = MAIN_FIELDS[slot_kind(slot.kind)]
    added = tuple(replace(TypedVariant(), **{field: x}) for x in lines)
    return _in_slot(form, position, lambda s: replace(s, variants=s.variants + added, paste=""))


def _without(rows: tuple[R, ...], position: int) -> tuple[R, ...]:
    if not 0 <= position < len(rows):
        raise IndexError(position)
    return (*rows[:position], *rows[position + 1 :])

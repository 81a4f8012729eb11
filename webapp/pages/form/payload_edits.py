"""Edits of payloads of a started experiment: each a corrected typo or a new variant."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from webapp.pages.form.field_paths import PAYLOADS
from webapp.pages.form.form_model import TypedExperiment, TypedSlot, TypedVariant

_SEEN = ("text", "html", "percent", "more")


class PayloadChange(Struct, frozen=True):
    """A variant whose content was edited.

    Attributes:
        name: name of the field with the answer.
        title: labels of slot and variant.
        before: content that recipients got so far.
        after: content in the form.
        control: it is the control, which cannot be paused.
    """

    name: str
    title: str
    before: str
    after: str
    control: bool


def payload_changes(stored: TypedExperiment, form: TypedExperiment) -> list[PayloadChange]:
    """List the variants of a started experiment whose content was edited."""
    changes = []
    for i, (was, now) in enumerate(zip(stored.slots, form.slots, strict=False)):
        for j, (old, new) in enumerate(zip(was.variants, now.variants, strict=False)):
            if old.key != new.key or not _differ(old, new):
                continue
            title = f"{now.title}, {new.name.strip() or new.key}"
            main_field = PAYLOADS.get(was.kind, "more")
            name = main_field if getattr(old, main_field) != getattr(new, main_field) else "more"
            before, after = getattr(old, name), getattr(new, name)
            control = was.control == str(j)
            changes.append(PayloadChange(f"changed/{i}/{j}", title, before, after, control))
    return changes


def _differ(old: TypedVariant, new: TypedVariant) -> bool:
    return any(getattr(old, name).strip() != getattr(new, name).strip() for name in _SEEN)


def resolve_edits(
    stored: TypedExperiment, form: TypedExperiment, answers: Mapping[str, str]
) -> tuple[TypedExperiment, list[PayloadChange]]:
    """Apply the answers: a typo changes its variant, a new variant is added to the end of its slot.

    Returns:
        The form, and the edits that are not answered yet.
    """
    open_changes = []
    for edit in payload_changes(stored, form):
        match answers.get(edit.name, ""):
            case "typo":
                continue
            case "new" | "instead" as answer:
                _, slot, variant = edit.name.split("/")
                pause = answer == "instead" and not edit.control
                form = _with_new_variant(stored, form, int(slot), int(variant), pause=pause)
            case _:
                open_changes.append(edit)
    return form, open_changes


def _with_new_variant(
    stored: TypedExperiment, form: TypedExperiment, slot: int, variant: int, *, pause: bool
) -> TypedExperiment:
    """Give a variant its old content back, and add the new content as a variant of its own."""
    old, new = stored.slots[slot].variants[variant], form.slots[slot].variants[variant]
    previous = replace(old, paused="yes" if pause else new.paused, name=old.name, cost=new.cost)
    name = new.name if new.name != old.name else ""
    added = replace(new, key="", name=name, paused="", cost="")
    variants = [*form.slots[slot].variants, added]
    variants[variant] = previous
    slots: list[TypedSlot] = list(form.slots)
    slots[slot] = replace(slots[slot], variants=tuple(variants))
    return replace(form, slots=tuple(slots))

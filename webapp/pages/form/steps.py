"""The five steps of the form: their fields, and how the fields of one step are merged."""

from hashlib import blake2b
from types import MappingProxyType

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from webapp.pages.form.form_model import TypedDraft


class FormStep(Struct, frozen=True):
    """One step: its question, and its fields."""

    question: str
    fields: tuple[str, ...]


STEPS = MappingProxyType(
    {
        "parts": FormStep("What are we testing?", ("name", "key", "slots", "exclude", "paused")),
        "success": FormStep(
            "What counts as success?",
            (
                *("metrics", "goal", "window", "maturity", "machine_rules", "await_activation"),
                *("send_within", "attribution", "guardrails"),
            ),
        ),
        "audience": FormStep(
            "Audience and safety",
            (
                *("holdout", "floor", "assignment", "context", "strict", "starts_at", "ends_at"),
                "retention_days",
            ),
        ),
        "learning": FormStep(
            "How should it learn?",
            ("answers", "policy", "parameters", "learn_every", "forgetting", "forgetting_time"),
        ),
        "start": FormStep("Before you start", ("plan",)),
    }
)


def merge_step(stored: TypedDraft, typed: TypedDraft, step: str) -> TypedDraft:
    """Return the form with a step's fields from `typed`, and all others from `stored`."""
    fields = {name: getattr(typed, name) for name in STEPS[step].fields}
    if stored.edits:
        fields.pop("key", None)
    return replace(stored, **fields)


def mark_visited(form: TypedDraft, step: str) -> TypedDraft:
    """Mark a step as saved by a person who is done with it for now."""
    return form if step in form.seen else replace(form, seen=(*form.seen, step))


def step_digest(form: TypedDraft, step: str) -> str:
    """Return a digest of a step's fields: equal digests are equal texts."""
    values = [getattr(form, name) for name in STEPS[step].fields]
    return blake2b(msgspec.json.encode(values), digest_size=12).hexdigest()


def step_of(field: str) -> str:
    """Return the step of a field, such as ``slots/0/key``."""
    name = field.split("/", 1)[0]
    return next((step for step, form_step in STEPS.items() if name in form_step.fields), "parts")


def next_step(step: str) -> str:
    """Return the step after this one; the last returns itself."""
    names = list(STEPS)
    return names[min(names.index(step) + 1, len(names) - 1)]


def previous_step(step: str) -> str:
    """Return the step before this one, "" for the first."""
    names = list(STEPS)
    position = names.index(step)
    return names[position - 1] if position else ""

"""The five steps to an experiment: what each asks, and how what is typed there joins the rest."""

from hashlib import blake2b
from types import MappingProxyType

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from webapp.pages.form.form_model import TypedDraft


class FormStep(Struct, frozen=True):
    """One page on the way: its question, and the fields that it asks."""

    question: str
    fields: tuple[str, ...]


STEPS = MappingProxyType(
    {
        "parts": FormStep("What are we testing?", ("name", "key", "slots", "exclude")),
        "success": FormStep(
            "What counts as success?", ("metrics", "goal", "window", "maturity", "await_activation")
        ),
        "audience": FormStep(
            "Who, and how careful?",
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


def merged(stored: TypedDraft, typed: TypedDraft, step: str) -> TypedDraft:
    """Take the fields of a step as they were `typed`, all others as they are `stored`."""
    fields = {name: getattr(typed, name) for name in STEPS[step].fields}
    if stored.edits:
        fields.pop("key", None)
    return replace(stored, **fields)


def visited(form: TypedDraft, step: str) -> TypedDraft:
    """Note that a step was saved by a person who was done with it for now."""
    return form if step in form.seen else replace(form, seen=(*form.seen, step))


def digest(form: TypedDraft, step: str) -> str:
    """Name what a step says: two people who start from the same name start from the same text."""
    said = [getattr(form, name) for name in STEPS[step].fields]
    return blake2b(msgspec.json.encode(said), digest_size=12).hexdigest()


def step_of(field: str) -> str:
    """Return the step that asks a field, such as ``slots/0/key``."""
    name = field.split("/", 1)[0]
    return next((step for step, asked in STEPS.items() if name in asked.fields), "parts")


def after(step: str) -> str:
    """Return the step after this one; the last has none after it but itself."""
    names = list(STEPS)
    return names[min(names.index(step) + 1, len(names) - 1)]


def before(step: str) -> str:
    """Return the step before this one, "" for the first."""
    names = list(STEPS)
    position = names.index(step)
    return names[position - 1] if position else ""

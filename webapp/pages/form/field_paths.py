"""Paths of the form's fields: from the engine's pointers, their order, and their titles."""

from collections.abc import Iterable, Sequence

from webapp.pages.form.form_model import TypedExperiment
from webapp.pages.formatting import event_plural

PAYLOADS = {"subject_line": "text", "content": "html", "discount": "percent"}
_LABELS = {
    "name": "Name",
    "key": "Key",
    "text": "Subject line",
    "html": "HTML",
    "percent": "Percent off",
    "cost": "Cost",
    "more": "Further fields",
    "paste": "Paste many",
    "weight": "Worth",
    "low": "Smallest value",
    "high": "Largest value",
    "currency": "Currency",
    "margin": "Margin",
    "basis": "How values are told",
    "by": "Worth by option",
    "values": "Values",
    "default": "Where it is missing",
    "holdout": "Control group",
    "floor": "Minimum share",
    "policy": "Learning method",
    "window": "Results count for",
    "maturity": "Count as “no response” after",
    "send_within": "Unsent emails can be cancelled for",
    "attribution": "Events that name the customer alone",
    "learn_every": "Learn every",
    "forgetting_time": "Forgetting",
    "assignment": "Same recipient, same variant",
    "control": "Control",
    "metrics": "Success",
    "slots": "Parts of the email",
    "variants": "Variants",
    "starts_at": "Starts by itself",
    "ends_at": "Ends by itself",
    "retention_days": "Keep each recipient's data for",
    "machine_rules": "Opens and clicks of machines",
    "context": "What is known of recipients",
    "exclude": "Left-out combinations",
    "paused": "Paused combinations",
    "guardrails": "Guardrails",
    "on": "On",
    "amount": "Limit",
    "action": "What happens then",
    "scope": "What is watched",
}

_ORDER = [
    "text",
    "html",
    "percent",
    "name",
    "key",
    "slots",
    "variants",
    "more",
    "cost",
    "paste",
    "control",
    "metrics",
    "goal",
    "weight",
    "count",
    "low",
    "high",
    "currency",
    "margin",
    "basis",
    "by",
    "window",
    "maturity",
    "machine_rules",
    "await_activation",
    "send_within",
    "attribution",
    "guardrails",
    "exclude",
    "paused",
    "assignment",
    "holdout",
    "floor",
    "context",
    "strict",
    "starts_at",
    "ends_at",
    "retention_days",
    "policy",
    "parameters",
    "learn_every",
    "forgetting",
    "forgetting_time",
]


def field_of(pointer: str, form: TypedExperiment) -> str:  # noqa: C901, PLR0911, PLR0912 - one case for each place
    """Return the field of `form` for an engine's `pointer`."""
    parts = [p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:]]
    match parts:
        case ["slots", slot, "variants", variant, "payload", *_]:
            kind = form.slots[int(slot)].kind
            return f"slots/{slot}/variants/{variant}/{PAYLOADS.get(kind, 'more')}"
        case ["slots", slot, "variants", variant]:
            return f"slots/{slot}/variants/{variant}/key"
        case ["slots", slot]:
            return f"slots/{slot}/key"
        case ["control", *slot]:
            return f"slots/{_slot_index(form, slot)}/control"
        case [("exclude" | "paused") as rules, rule, *slot]:
            return f"{rules}/{rule}/levels/{_slot_index(form, slot)}"
        case ["guardrails", number, *leaf]:
            rows = [i for i, guardrail in enumerate(form.guardrails) if guardrail.on == "yes"]
            return f"guardrails/{rows[int(number)]}/{'on' if leaf == ['event'] else 'amount'}"
        case ["reward", "metrics", name, leaf, *_]:
            names = [m.name.strip() for m in form.metrics]
            if name not in names:
                return "metrics"
            by_margin = bool(form.metrics[names.index(name)].margin.strip())
            leaf = "margin" if by_margin and leaf in {"weight", "by"} else leaf
            return f"metrics/{names.index(name)}/{leaf}"
        case ["reward", ("window_seconds" | "maturity_seconds") as name]:
            return f"{name.removesuffix('_seconds')}/amount"
        case ["reward", *_]:
            return "metrics"
        case ["context", feature, leaf, *_]:
            return f"context/{feature}/{leaf}"
        case ["policy", "params", name, *_]:
            return f"parameters/{form.policy}/{name}"
        case ["policy", *_]:
            return "policy"
        case [("starts_at" | "ends_at") as name]:
            return f"{name}/local"
        case [("learn_every_seconds" | "send_within_seconds") as name]:
            return f"{name.removesuffix('_seconds')}/amount"
        case ["forgetting", *_]:
            return "forgetting_time/amount"
        case _:
            return "/".join(parts)


def in_order(fields: Iterable[str]) -> list[str]:
    """Sort fields as the form shows them."""
    return sorted(fields, key=lambda f: [_rank(part) for part in f.split("/")])


def _rank(part: str) -> tuple[int, int, str]:
    if part.isdigit():
        return 0, int(part), ""
    return 1, _ORDER.index(part) if part in _ORDER else len(_ORDER), part


def _slot_index(form: TypedExperiment, slot: Sequence[str]) -> int:
    keys = [s.key.strip() for s in form.slots]
    return keys.index(slot[0]) if slot and slot[0] in keys else 0


def title_of(field: str, form: TypedExperiment) -> str:
    """Write the title of a field: "Discount, variant 2: percent off"."""
    match field.split("/"):
        case ["slots", slot, "variants", variant, leaf]:
            place = f"{form.slots[int(slot)].title}, variant {int(variant) + 1}"
        case ["slots", slot, leaf]:
            place = form.slots[int(slot)].title
        case ["metrics", row, leaf]:
            place = form.metrics[int(row)].name.strip() or f"Success, row {int(row) + 1}"
        case ["context", row, leaf]:
            place = form.context[int(row)].name.strip() or f"Feature {int(row) + 1}"
        case ["exclude", row, *_]:
            return f"Left-out combination {int(row) + 1}"
        case ["paused", row, *_]:
            return f"Paused combination {int(row) + 1}"
        case ["guardrails", row, leaf]:
            place = f"Guardrail on {event_plural(form.guardrails[int(row)].event)}"
        case ["parameters", _, name]:
            return name.replace("_", " ").capitalize()
        case [name, *_]:
            return _LABELS.get(name, name.replace("_", " ").capitalize())
        case _:
            return ""
    return f"{place}: {_LABELS.get(leaf, leaf).lower()}"

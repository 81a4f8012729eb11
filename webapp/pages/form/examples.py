"""What success is worth, shown on emails that anybody can imagine."""

from msgspec import Struct

from webapp.pages.form.fields import number
from webapp.pages.form.form_model import TypedExperiment, TypedMetric
from webapp.pages.formatting import amount

_USUAL = 40.0  # of an order, say: small enough to reckon with in one's head


class ExamplePart(Struct, frozen=True):
    """One thing that a recipient does, and what it earns: "an order of 40", 40 × 1."""

    name: str
    said: str
    sum: str
    worth: float


def worked_example(form: TypedExperiment) -> list[str]:
    """Say what emails earn: each thing by itself, then together, then how the worths compare."""
    parts = [part for metric in form.metrics if (part := _part(metric)) is not None]
    lines = []
    good = [p for p in parts if p.worth > 0]
    bad = [p for p in parts if p.worth < 0]
    if len(good) > 1:
        lines.append(_together(good))
    if good and bad:
        lines.append(_together([good[0], bad[0]]))
    if not lines:
        lines = [f"An email that brings {p.said} earns {amount(p.worth)}." for p in parts]
    first = good[0] if good else None
    for part in parts if first else ():
        if first is not None and part is not first:
            lines.append(_compared(part, first))
    if form.goal == "minimise":
        lines.append("Less is better here: versions that earn less of this are sent more.")
    return lines


def _part(metric: TypedMetric) -> ExamplePart | None:
    name = metric.name.strip()
    try:
        weight, high = number(metric.weight), number(metric.high)
    except ValueError:
        return None
    if not name or not weight:
        return None
    article = "an" if name[0].lower() in "aeiou" else "a"
    if high <= 1:
        return ExamplePart(name, f"{article} {name}", amount(weight), weight)
    value = min(_USUAL, high)
    said = f"{article} {name} of {amount(value)}"
    return ExamplePart(name, said, amount(value * weight), value * weight)


def _together(parts: list[ExamplePart]) -> str:
    said = " and ".join(p.said for p in parts)
    first, *rest = parts
    reckoned = first.sum + "".join(
        f" − {amount(-p.worth)}" if p.worth < 0 else f" + {p.sum}" for p in rest
    )
    return f"An email that brings {said} earns {reckoned} = {amount(sum(p.worth for p in parts))}."


def _compared(part: ExamplePart, first: ExamplePart) -> str:
    times = abs(part.worth) / first.worth
    said = part.said[:1].upper() + part.said[1:]
    verb = "costs" if part.worth < 0 else "is worth"
    if times == 1:
        return f"{said} {verb} as much as {first.said}."
    many = f"{first.name}s" if first.said.endswith(first.name) else f"times {first.said}"
    return f"{said} {verb} as much as {amount(times)} {many}."

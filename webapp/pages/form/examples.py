"""Worked examples of the reward, on plain emails."""

from msgspec import Struct

from webapp.pages.form.fields import parse_number
from webapp.pages.form.form_model import TypedExperiment, TypedMetric
from webapp.pages.form.margins import read_margin
from webapp.pages.formatting import amount

_USUAL = 40.0  # of an order, say: small enough for mental arithmetic


class ExamplePart(Struct, frozen=True):
    """One event of an example and its reward: "an order of 40", 40 × 1."""

    name: str
    phrase: str
    sum: str
    worth: float


def worked_example(form: TypedExperiment) -> list[str]:
    """List sentences on the reward of emails: single events, events together, their ratios."""
    parts = [part for metric in form.metrics if (part := _part(metric)) is not None]
    lines = []
    good = [p for p in parts if p.worth > 0]
    bad = [p for p in parts if p.worth < 0]
    if len(good) > 1:
        lines.append(_sum_sentence(good))
    if good and bad:
        lines.append(_sum_sentence([good[0], bad[0]]))
    if not lines:
        lines = [f"An email that brings {p.phrase} earns {amount(p.worth)}." for p in parts]
    first = good[0] if good else None
    for part in parts if first else ():
        if first is not None and part is not first:
            lines.append(_ratio_sentence(part, first))
    if form.goal == "minimise":
        lines.append("Less is better here: versions that earn less of this are sent more.")
    return lines


def _part(metric: TypedMetric) -> ExamplePart | None:
    name = metric.name.strip()
    try:
        by_margin = bool(metric.margin.strip())
        weight = read_margin(metric.margin) if by_margin else parse_number(metric.weight)
        high = parse_number(metric.high)
    except ValueError:
        return None
    if not name or not weight:
        return None
    article = "an" if name[0].lower() in "aeiou" else "a"
    if high <= 1:
        return ExamplePart(name, f"{article} {name}", amount(weight), weight)
    value = min(_USUAL, high)
    phrase = f"{article} {name} of {amount(value)}"
    return ExamplePart(name, phrase, amount(value * weight), value * weight)


def _sum_sentence(parts: list[ExamplePart]) -> str:
    phrase = " and ".join(p.phrase for p in parts)
    first, *rest = parts
    terms = first.sum + "".join(
        f" − {amount(-p.worth)}" if p.worth < 0 else f" + {p.sum}" for p in rest
    )
    return f"An email that brings {phrase} earns {terms} = {amount(sum(p.worth for p in parts))}."


def _ratio_sentence(part: ExamplePart, first: ExamplePart) -> str:
    times = abs(part.worth) / first.worth
    phrase = part.phrase[:1].upper() + part.phrase[1:]
    verb = "costs" if part.worth < 0 else "is worth"
    if times == 1:
        return f"{phrase} {verb} as much as {first.phrase}."
    many = f"{first.name}s" if first.phrase.endswith(first.name) else f"times {first.phrase}"
    return f"{phrase} {verb} as much as {amount(times)} {many}."

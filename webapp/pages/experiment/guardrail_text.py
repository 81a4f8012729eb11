"""Guardrails in words: what each watches, and what it did, for pages and health checks."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from math import inf

from msgspec import Struct

from bandits.experiment import Experiment
from bandits.results import GuardedVersion, GuardrailActResult, GuardrailResult, Results
from webapp.pages.experiment.labels import variant_name
from webapp.pages.formatting import amount, count, event_plural, percent, phrase, share

_LED_TO = {"bounce": "bounced", "unsubscribe": "led to an unsubscribe", "order": "led to an order"}
FIRST_ROWS = 6  # of a table, the nearest to their limits first; the others are a click away


class GuardrailCell(Struct, frozen=True):
    """Figures of one guardrail for one version or option: its rate, counts and state, in words."""

    rate: str
    counts: str
    state: str
    acted: bool


class GuardrailRow(Struct, frozen=True):
    """One version or option, and a cell for each guardrail."""

    name: str
    cells: tuple[GuardrailCell, ...]


class GuardrailTable(Struct, frozen=True):
    """Guardrails of one scope: title and limit of each, and the rows that they watch.

    Attributes:
        watched: what a row is, "Version" or "Option".
        heads: (title, limit) of each guardrail.
    """

    watched: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[GuardrailRow, ...]

    @property
    def first(self) -> tuple[GuardrailRow, ...]:
        """The rows shown at once."""
        return self.rows[:FIRST_ROWS]

    @property
    def others(self) -> tuple[GuardrailRow, ...]:
        """The rows that are a click away."""
        return self.rows[FIRST_ROWS:]


class GuardrailNote(Struct, frozen=True):
    """An act of a guardrail: its number, its title and sentence, and the button that undoes it."""

    number: int
    title: str
    sentence: str
    button: str
    pauses: bool
    undone: bool


class GuardrailView(Struct, frozen=True):
    """Guardrails as the campaign page shows them."""

    tables: tuple[GuardrailTable, ...]
    notes: tuple[GuardrailNote, ...]

    @property
    def in_force(self) -> list[GuardrailNote]:
        """Acts that nobody has undone, the newest first."""
        return [note for note in reversed(self.notes) if not note.undone]

    @property
    def undone(self) -> list[GuardrailNote]:
        """Acts that somebody has undone, the newest first."""
        return [note for note in reversed(self.notes) if note.undone]

    @property
    def shown(self) -> bool:
        """True where there is anything to show."""
        return bool(self.tables or self.notes)


def guardrail_view(experiment: Experiment, results: Results) -> GuardrailView:
    """Put the guardrails of results into words."""
    report = results.guardrails
    by_scope = (
        (title, [g for g in report.watched if g.scope == scope])
        for scope, title in (("arm", "Version"), ("variant", "Option"))
    )
    return GuardrailView(
        tuple(
            _table(experiment, title, guardrails) for title, guardrails in by_scope if guardrails
        ),
        tuple(guardrail_note(experiment, act) for act in report.acts),
    )


def guarded_name(experiment: Experiment, variants: Mapping[str, str]) -> str:
    """Name what a guardrail watches: the options of its parts that can differ."""
    names = [
        variant_name(variant)
        for slot in experiment.slots
        for variant in slot.variants
        if variants.get(slot.key) == variant.key
        and (len(slot.variants) > 1 or len(experiment.slots) == 1)
    ]
    return f"“{' · '.join(names)}”"


def guardrail_note(experiment: Experiment, act: GuardrailActResult) -> GuardrailNote:
    """Put an act into words: "“C” was paused on 3 May 2026 14:05 UTC: 41 of 9,800 emails …"."""
    name = guarded_name(experiment, act.variants)
    at = act.at.astimezone(UTC)
    paused = act.action == "pause"
    what = "was paused" if paused else "passed its guardrail"
    figures = (
        f"{count(act.events)} of {count(act.emails)} emails {_led_to(act.event)};"
        f" {_allowed(act.limit, act.worse_than_control)}"
    )
    if act.limit is None:
        figures += f", which had {count(act.control_events)} of {count(act.control_emails)}"
    return GuardrailNote(
        act.number,
        f"{name} {what}",
        f"{name} {what} on {at.day} {at:%B %Y %H:%M} UTC: {figures}.",
        "Send it again" if paused else "Count anew",
        paused,
        act.undone,
    )


def _led_to(event: str) -> str:
    return _LED_TO.get(event, f"led to a {phrase(event)}")


def _allowed(limit: float | None, times: float | None) -> str:
    if limit is not None:
        return f"the limit is {share(limit)}"
    if times == 1:
        return "the limit is the rate of the control"
    return f"the limit is {amount(times)} times the rate of the control"


def _table(
    experiment: Experiment, watched: str, guardrails: Sequence[GuardrailResult]
) -> GuardrailTable:
    heads = tuple((event_plural(g.event).capitalize(), _head(g)) for g in guardrails)
    rows = [  # all of them watch the same
        list(zip(guardrails, versions, strict=True))
        for versions in zip(*(g.versions for g in guardrails), strict=True)
    ]
    nearest = sorted(rows, key=lambda row: max(_nearness(*cell) for cell in row), reverse=True)
    return GuardrailTable(
        watched,
        heads,
        tuple(
            GuardrailRow(
                guarded_name(experiment, row[0][1].variants), tuple(_cell(*cell) for cell in row)
            )
            for row in nearest
        ),
    )


def _head(guardrail: GuardrailResult) -> str:
    limit = _allowed(guardrail.limit, guardrail.worse_than_control).removeprefix("the limit is ")
    return f"at most {limit}, else {'paused' if guardrail.action == 'pause' else 'alert'}"


def _nearness(guardrail: GuardrailResult, version: GuardedVersion) -> float:
    """Return a version's rate as a multiple of what is allowed."""
    allowed = guardrail.limit
    if allowed is None:
        control = version.control_events / max(version.control_emails, 1)
        allowed = (guardrail.worse_than_control or 1.0) * control
    rate = version.events / max(version.emails, 1)
    return rate / allowed if allowed > 0 else inf * rate if rate else 0.0


def _cell(guardrail: GuardrailResult, version: GuardedVersion) -> GuardrailCell:
    counts = f"{count(version.events)} of {count(version.emails)}"
    if guardrail.limit is None:
        counts += f"; control {count(version.control_events)} of {count(version.control_emails)}"
    above = "above its limit, not certain yet" if _nearness(guardrail, version) > 1 else ""
    state = {"watched": above, "alerted": "passed", "paused": "paused"}[version.state]
    acted = version.state != "watched"
    return GuardrailCell(_rate(version.events, version.emails), counts, state, acted)


def _rate(events: int, emails: int) -> str:
    return percent(events / emails, 2) if emails else "–"

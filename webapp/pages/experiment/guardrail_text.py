"""Guardrails in words: what each watches, and what it did, for pages and health checks."""

from collections.abc import Mapping
from datetime import UTC

from msgspec import Struct

from bandits.experiment import Experiment
from bandits.results import GuardedVersion, GuardrailActResult, GuardrailResult, Results
from webapp.pages.experiment.labels import variant_name
from webapp.pages.formatting import amount, count, event_plural, percent, phrase, share

_LED_TO = {"bounce": "bounced", "unsubscribe": "led to an unsubscribe", "order": "led to an order"}
FIRST_ROWS = 3  # of a guardrail, the most frequent first; the others are a click away


class GuardrailRow(Struct, frozen=True):
    """Figures of a guardrail for one version or option, in words."""

    name: str
    emails: str
    events: str
    rate: str
    control: str
    state: str


class GuardrailTable(Struct, frozen=True):
    """One guardrail: its sentence, and what it watches, the most frequent first."""

    event: str
    sentence: str
    against_control: bool
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
    return GuardrailView(
        tuple(_table(experiment, guardrail) for guardrail in report.watched),
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


def _table(experiment: Experiment, guardrail: GuardrailResult) -> GuardrailTable:
    event = event_plural(guardrail.event)
    then = "then it is paused" if guardrail.action == "pause" else "then this page says so"
    watched = "version" if guardrail.scope == "arm" else "option"
    limit = _allowed(guardrail.limit, guardrail.worse_than_control).removeprefix("the limit is ")
    return GuardrailTable(
        event.capitalize(),
        f"{event.capitalize()}: at most {limit} for each {watched}, {then}.",
        guardrail.limit is None,
        tuple(
            GuardrailRow(
                guarded_name(experiment, version.variants),
                count(version.emails),
                count(version.events),
                _rate(version.events, version.emails),
                _rate(version.control_events, version.control_emails),
                {"watched": "within", "alerted": "passed", "paused": "paused"}[version.state],
            )
            for version in sorted(guardrail.versions, key=_frequency, reverse=True)
        ),
    )


def _frequency(version: GuardedVersion) -> float:
    return version.events / max(version.emails, 1)


def _rate(events: int, emails: int) -> str:
    return percent(events / emails, 2) if emails else "–"

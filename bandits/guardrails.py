"""Guardrails: events that have to stay rare, and what becomes of a version where they do not."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

from msgspec import Struct

from bandits.errors import Fault
from bandits.identifiers import Key, pointer
from bandits.rewards import UNWANTED_EVENTS, RewardRule

GUARD = "guardrail"  # the user in the audit log
MAX_GUARDRAILS = 10
_MOST_TIMES = 100.0


class Guardrail(Struct, frozen=True, forbid_unknown_fields=True):
    """Guardrail on one event: the part of emails that may have it, or may beside the control's.

    Attributes:
        event: a listed event that is unwanted, or a declared metric that lowers the score.
        limit: the part of a version's emails that may have it.
        worse_than_control: how many times the control's part a version's may be.
        action: ``alert`` says so, ``pause`` takes the version out of the sends as well.
        scope: each ``arm`` (a whole version) by itself, or each ``variant`` of a slot.
    """

    event: Key
    limit: float | None = None
    worse_than_control: float | None = None
    action: Literal["alert", "pause"] = "alert"
    scope: Literal["arm", "variant"] = "arm"

    @property
    def series(self) -> str:
        """Name of its sums; a guardrail with another limit counts emails anew."""
        if self.limit is not None:
            return f"{self.event}>{self.limit!r}"
        return f"{self.event}>{self.worse_than_control!r}x"

    def faults(self, rule: RewardRule) -> list[Fault]:
        """List what is wrong with it, under a reward rule."""
        faults = []
        if (self.limit is None) == (self.worse_than_control is None):
            detail = "must have exactly one of limit and worse_than_control"
            faults.append(Fault("", detail))
        if self.limit is not None and not 0 < self.limit < 1:
            faults.append(Fault("/limit", "must be a part of emails, above 0 and below 1"))
        times = self.worse_than_control
        if times is not None and not (isfinite(times) and 1 <= times <= _MOST_TIMES):
            detail = f"must be a number of times from 1 to {_MOST_TIMES:g}"
            faults.append(Fault("/worse_than_control", detail))
        names = guardable_events(rule)
        if self.event not in names:
            detail = f"must be an event that should stay rare; here these are {', '.join(names)}"
            faults.append(Fault("/event", detail))
        return faults


def guardable_events(rule: RewardRule) -> list[str]:
    """Name the events that a guardrail may be on: those that are not wanted more of."""
    sign = -1.0 if rule.goal == "minimise" else 1.0
    unwanted = [name for name, metric in rule.metrics.items() if sign * metric.weight < 0]
    listed = [name for name in UNWANTED_EVENTS if name not in rule.metrics]
    return sorted([*unwanted, *listed])


def guardrail_faults(guardrails: Sequence[Guardrail], rule: RewardRule) -> list[Fault]:
    """List what is wrong with guardrails, at their places."""
    faults: list[Fault] = []
    places: dict[str, int] = {}
    for i, guardrail in enumerate(guardrails):
        place = pointer("guardrails", i)
        faults += [Fault(place + f.pointer, f.detail) for f in guardrail.faults(rule)]
        if places.setdefault(f"{guardrail.series} {guardrail.scope}", i) != i:
            faults.append(Fault(f"{place}/event", "has the same guardrail twice"))
    return faults


class GuardrailAct(Struct, frozen=True):
    """Act of a guardrail: what it alerted of or paused, and the figures that it acted on.

    Attributes:
        guardrail: as it was declared then.
        variants: a variant of every slot, or of one where its scope is that.
        at: seconds since 1970.
        emails: of this version, or of all with this variant, since the guardrail began to count.
        events: those of them with the event.
        control_emails: of the control, or with its variant; likewise.
        control_events: those of them with the event.
        version: the configuration that says so first.
        undone: the configuration from which on it is sent, and counted, anew; None until then.
    """

    guardrail: Guardrail
    variants: dict[str, str]
    at: float
    emails: int
    events: int
    control_emails: int
    control_events: int
    version: int
    undone: int | None = None

    def is_of(self, guardrail: Guardrail, variants: Mapping[str, str]) -> bool:
        """Return true for an act on these variants of a guardrail that counts the same."""
        same = (self.guardrail.series, self.guardrail.scope) == (guardrail.series, guardrail.scope)
        return same and self.variants == variants

"""Verdict on an experiment: the next step and its reason, one for every page, the API and alerts."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from bandits.inference.intervals import Family, Finding, Interval

Action = Literal["wait", "check_health", "keep_running", "ship", "keep_personalising"]
Reason = Literal[
    "not_started",
    "nothing_sent",
    "nothing_final",
    "split",
    "not_enough",
    "few_days",
    "could_lose",
    "recent_unknown",
    "recent_contradicts",
    "lifts_move",
    "leads",
    "little_lost",
    "personal_better",
    "personal_unknown",
    "personal_equal",
]


class Verdict(Struct, frozen=True):
    """The next step of an experiment, and the comparison that it rests on.

    Attributes:
        action: the next step.
        reason: of that step.
        arm: the arm that leads so far among those that can be sent, None before any is closed.
        leads: it is shown to be better than every other that is compared.
        rivals: arms that could still be better.
        uncompared: arms that joined later, or have too few decisions, to be compared yet.
        at_most: sending `arm` to all gives up at most this much reward per decision, with the
            family's confidence; None where that cannot be told yet.
        against: what `at_most` is compared with: the best other arm, or the contextual policy.
        cost: of a contextual policy, its own value less that of `arm`, per decision; else None.
        closed_days: different days of sending, in UTC, that have closed decisions.
        days_needed: how many of them a stop needs.
        short_plan: the plan is shorter than a week, so `days_needed` is less than seven.
        recent: agreement of the last seven closed days, by a sequence of their own.
        lifts_move: lifts were found to move while the experiment ran.
        since: start of the dates that hold 80 % of the comparison's weight, None without any.
        until: end of those dates.
        next_at: when another look may say more, None where nothing is awaited.
        family: the comparisons that it rests on.
    """

    action: Action
    reason: Reason
    arm: int | None = None
    leads: bool = False
    rivals: tuple[int, ...] = ()
    uncompared: tuple[int, ...] = ()
    at_most: float | None = None
    against: Literal["versions", "policy"] = "versions"
    cost: Finding | None = None
    closed_days: int = 0
    days_needed: int = 7
    short_plan: bool = False
    recent: Literal["agrees", "contradicts", "unknown"] = "unknown"
    lifts_move: bool = False
    since: datetime | None = None
    until: datetime | None = None
    next_at: datetime | None = None
    family: Family | None = None


class Statement(Struct, frozen=True):
    """A claim that held when it was made, over the decisions that were closed by then.

    Attributes:
        at: when it was made.
        arm: which arm it is about.
        over_since: start of the dates of sending that it is about.
        over_until: end of those dates.
        kind: ``leads`` over every other arm, or ``better_than_control``.
        lift: over the closest other arm, or over the control, as it was then.
    """

    at: datetime
    arm: int
    over_since: datetime
    over_until: datetime
    kind: Literal["leads", "better_than_control"]
    lift: Interval

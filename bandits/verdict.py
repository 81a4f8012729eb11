"""Verdict: the next step of an experiment and its reason, one for all pages, the API and alerts.

A stop is advised only where four things hold together (ADR 44): sending one arm to all gives up
next to nothing, its comparisons hold on enough different days of sending, the last seven closed
days by themselves say the same, and lifts were not found to move.
"""

from datetime import UTC, datetime
from typing import Literal

import numpy as np
from msgspec import Struct

from bandits.array_types import FloatArray
from bandits.inference.estimates import Lead, Recent
from bandits.inference.intervals import Family, Finding, Interval
from bandits.inference.recent_days import DAY, last_closed_day
from bandits.inference.sender_checks import SenderAlarm

Action = Literal["wait", "check_health", "keep_running", "ship", "keep_personalising"]
Reason = Literal[
    "not_started",
    "nothing_sent",
    "nothing_final",
    "sender",
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
Against = Literal["versions", "policy"]

LITTLE = 0.02  # of the leader's own value: giving up less than that matters little
WEEK_DAYS = 7  # different days of sending that a stop needs
WEIGHT_SHARE = 0.8  # of the comparison's weight, in the dates that are named


class Verdict(Struct, frozen=True):
    """The next step of an experiment, and the comparison that it rests on.

    Reasons, by action. ``wait``: ``not_started``, ``nothing_sent``, ``nothing_final``.
    ``check_health``: ``sender``, an API key drops arms or cancels by results, so that no comparison
    can be trusted; ``split``, arms are not sent by their probabilities. ``keep_running``:
    ``not_enough`` (some arm is not compared yet), ``few_days``, ``could_lose`` (another may be
    better by more than little), ``lifts_move``, ``recent_unknown`` and ``recent_contradicts`` (the
    last seven closed days), ``personal_unknown`` (the policy and one arm for all cannot be told
    apart yet). ``keep_personalising``: ``personal_better``. ``ship``: ``leads``, ``little_lost``,
    ``personal_equal`` (a contextual policy earns next to nothing more than one arm for all).

    Attributes:
        action: the next step.
        reason: of that step.
        arm: the arm that leads so far among those that can be sent, None before any is closed.
        leads: it is shown to be better than every other that is compared.
        rivals: arms that are compared and could still be better.
        uncompared: arms that joined later, or have too few decisions, to be compared yet.
        at_most: sending `arm` to all gives up at most this much reward per decision, with the
            family's confidence; None where that cannot be told yet. Arms in `uncompared` are not
            in it.
        against: what `at_most` is compared with: the best other arm, or the contextual policy.
        cost: of a contextual policy, its own value less that of `arm`, per decision, as it is
            learned: more is better; else None.
        closed_days: different days of sending, in UTC, that have closed decisions.
        days_needed: how many of them a stop needs.
        short_plan: the plan is shorter than a week, so `days_needed` is less than seven, and the
            last seven days are not asked for.
        recent: of the last seven closed days by themselves: ``agrees`` where they show that next to
            nothing is given up, or are not enough for that and neither they nor the trend over all
            days show a decline; ``contradicts`` where they show something else to be better.
        lifts_move: lifts were found to move while the experiment ran.
        since: start of the dates that hold 80 % of the comparison's weight, None without any.
        until: the last second of those dates.
        next_at: when another look may say more, None where nothing is awaited.
        family: the comparisons that it rests on.
        sender: what an API key does that makes comparisons wrong; None but for ``sender``.
    """

    action: Action
    reason: Reason
    arm: int | None = None
    leads: bool = False
    rivals: tuple[int, ...] = ()
    uncompared: tuple[int, ...] = ()
    at_most: float | None = None
    against: Against = "versions"
    cost: Finding | None = None
    closed_days: int = 0
    days_needed: int = WEEK_DAYS
    short_plan: bool = False
    recent: Recent = "unknown"
    lifts_move: bool = False
    since: datetime | None = None
    until: datetime | None = None
    next_at: datetime | None = None
    family: Family | None = None
    sender: SenderAlarm | None = None


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


class StatementsReset(Struct, frozen=True):
    """When earlier statements were dropped, and why.

    Attributes:
        reason: ``erasure`` of a subject, whose decisions they rested on, ``void`` where what an
            actor did was voided or restored, ``lifts_move``, or ``machine_rules`` where emails were
            judged by other rules.
    """

    at: datetime
    reason: Literal["erasure", "void", "lifts_move", "machine_rules"]


class Statements(Struct, frozen=True):
    """Statements of an experiment, as they are kept beside its newest snapshot.

    Attributes:
        at: when claims were looked at last, in seconds since 1970.
        statements: of each kind and arm the last, the oldest first.
    """

    at: float = 0.0
    statements: tuple[Statement, ...] = ()
    reset: StatementsReset | None = None


class Progress(Struct, frozen=True):
    """Dates of an experiment, as of its newest snapshot; times in seconds since 1970.

    Attributes:
        at: of the snapshot, None before the first.
        window: reward window in seconds.
        sent: decisions whose clocks have started.
        days_needed: see `needed_days`.
        closed_days: different days of sending that have closed decisions,
        last_day: and the last of them, in UTC since 1970.
        closes_at: from then on the result is final.
        span: start and end of the dates that hold most of the comparison's weight.
    """

    started: bool
    at: float | None
    window: float
    sent: int
    days_needed: int
    closed_days: int
    last_day: int | None
    closes_at: float | None
    span: tuple[float, float] | None


class Comparison(Struct, frozen=True):
    """What a verdict rests on besides dates; rewards as they are learned, so that more is better.

    Attributes:
        lead: None before any decision is closed.
        little: reward per decision that does not matter: `LITTLE` of the leader's own.
        gain: of a contextual policy over the leader for all; None for another policy.
        recent: of the last closed days, by `recent_agreement`.
        split_alarmed: arms are not sent as often as their probabilities say.
        sender: the alarm of an API key after which no comparison can be trusted.
    """

    lead: Lead | None
    little: float
    gain: Finding | None
    recent: Recent
    split_alarmed: bool
    lifts_move: bool
    sender: SenderAlarm | None = None


def needed_days(start: float | None, end: float | None) -> int:
    """Count the days of sending that a stop needs: seven, fewer where the plan is shorter."""
    if start is None or end is None:
        return WEEK_DAYS
    return int(np.clip((end - start) // DAY, 1, WEEK_DAYS))


def weight_span(starts: FloatArray, ends: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Find the shortest run of periods (P,), ascending, that holds most of the weight.

    Args:
        starts: (P,) of each period.
        ends: (P,) of each period.
        weights: (P,) of each, with a positive sum.
    """
    before = np.concatenate([[0.0], np.cumsum(weights)])
    needed = WEIGHT_SHARE * before[-1] * (1 - 1e-12)  # rounding must not ask for one more
    last = np.searchsorted(before[1:], before[:-1] + needed)
    firsts = np.flatnonzero(last < len(weights))
    shortest = firsts[np.argmin(ends[last[firsts]] - starts[firsts])]
    return float(starts[shortest]), float(ends[last[shortest]])


def verdict(progress: Progress, comparison: Comparison) -> Verdict:
    """Decide on the next step."""
    lead, gain = comparison.lead, comparison.gain
    action, reason = _step(progress, comparison)
    if gain is not None:
        at_most = max(0.0, gain.high) if gain.measurable else None
        family = gain.family if gain.measurable else None
    else:
        at_most = lead.at_most if lead is not None else None
        family = lead.family if lead is not None else None
    since, until = progress.span or (None, None)
    return Verdict(
        action,
        reason,
        None if lead is None else lead.arm,
        lead is not None and lead.at_most is not None and lead.leads,
        () if lead is None else lead.rivals,
        () if lead is None else lead.uncompared,
        at_most,
        "versions" if gain is None else "policy",
        gain,
        progress.closed_days,
        progress.days_needed,
        progress.days_needed < WEEK_DAYS,
        comparison.recent,
        comparison.lifts_move,
        _moment(since),
        None if until is None else _moment(until - 1),
        _moment(_next_look(progress, action, reason)),
        family,
        comparison.sender if reason == "sender" else None,
    )


def _step(progress: Progress, comparison: Comparison) -> tuple[Action, Reason]:
    lead = comparison.lead
    if not progress.started:
        return "wait", "not_started"
    if comparison.sender is not None:
        return "check_health", "sender"
    if comparison.split_alarmed:
        return "check_health", "split"
    if lead is None:
        return "wait", "nothing_sent" if progress.sent == 0 else "nothing_final"
    if comparison.gain is not None:
        return _personal_step(progress, comparison, comparison.gain)
    return _common_step(progress, comparison, lead)


def _common_step(progress: Progress, comparison: Comparison, lead: Lead) -> tuple[Action, Reason]:
    """Compare one arm for all with the other arms."""
    if lead.at_most is None or lead.uncompared:
        return "keep_running", "not_enough"
    if progress.closed_days < progress.days_needed:
        return "keep_running", "few_days"
    if not lead.leads and lead.at_most > comparison.little:
        return "keep_running", "could_lose"
    return _ship(progress, comparison, "leads" if lead.leads else "little_lost")


def _personal_step(
    progress: Progress, comparison: Comparison, gain: Finding
) -> tuple[Action, Reason]:
    """Compare one arm for all with the policy's own value."""
    if not gain.measurable:
        return "keep_running", "personal_unknown"
    if gain.high <= comparison.little:
        if progress.closed_days < progress.days_needed:
            return "keep_running", "few_days"
        return _ship(progress, comparison, "leads" if gain.high < 0 else "personal_equal")
    if gain.low > 0:
        return "keep_personalising", "personal_better"
    return "keep_running", "personal_unknown"


def _ship(progress: Progress, comparison: Comparison, reason: Reason) -> tuple[Action, Reason]:
    """Advise to ship, unless what holds on average may not hold from now on."""
    if comparison.lifts_move:
        return "keep_running", "lifts_move"
    if comparison.recent == "contradicts":
        return "keep_running", "recent_contradicts"
    if comparison.recent == "unknown" and progress.days_needed == WEEK_DAYS:
        return "keep_running", "recent_unknown"
    return "ship", reason


def _next_look(progress: Progress, action: Action, reason: Reason) -> float | None:
    at = progress.at
    if at is None or action in ("ship", "keep_personalising", "check_health"):
        return None
    if progress.closes_at is not None and at >= progress.closes_at:
        return None
    if reason in ("nothing_sent", "not_started"):
        return None
    if reason == "nothing_final":
        return at + progress.window
    next_close = (last_closed_day(at, progress.window) + 2) * DAY + progress.window
    if reason == "few_days" and progress.last_day is not None:
        missing = progress.days_needed - progress.closed_days
        return max(next_close, (progress.last_day + missing) * DAY + progress.window)
    return next_close


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)

"""Evidence of guardrails: e-processes that an event is more frequent than its guardrail allows.

Each is the wealth of somebody who bets on every email, or every event, at odds that are fair where
the guardrail just holds. It is expected to grow by nothing while the guardrail holds, whatever was
sent to whom and however often one looks; so it ever reaches 1/α with a chance of α at most (Ville's
inequality). One who begins once loses during weeks that are sound what later weeks have to win
back first. So one bets anew from each day on, with the part 6 / (π² j²) of the money on the day j.
"""

from collections.abc import Sequence

import numpy as np

from bandits.array_types import FloatArray, IntArray

FALSE_ALARMS = 0.05  # of all campaigns, ever, and whatever the number of versions
BETS = np.array([1.25, 1.5, 2.0, 3.0, 5.0, 10.0])  # times what the guardrail allows
_PARTS = 6 / np.pi**2


def limit_bets(emails: FloatArray, events: FloatArray, limit: float) -> FloatArray:
    """Return logarithms of wealth from bets that more than a part of emails has an event.

    A bet on b times the limit multiplies by b with an email that has the event, and by
    (1 − b limit) / (1 − limit) with one that has none: (1 + λ (1 − limit)) and (1 − λ limit) with
    λ = (b − 1) / (1 − limit).

    Args:
        emails: (...,) by period.
        events: (...,) those with the event.
        limit: the part that may have it.

    Returns:
        (..., B), of B bets.
    """
    bets = BETS[limit * BETS < 1]
    if not len(bets):
        bets = np.array([(1 + limit) / (2 * limit)])
    silent = np.log((1 - limit * bets) / (1 - limit))
    return np.asarray(events[..., None] * np.log(bets) + (emails - events)[..., None] * silent)


def comparison_bets(
    own: FloatArray, control: FloatArray, is_own: FloatArray, times: float
) -> FloatArray:
    """Return logarithms of wealth from bets on events, (..., B), each a version's or the control's.

    Where a version has the event at most `times` as often as the control, the next event of either
    is the version's with a chance of q times / (q times + q of the control) at most, whatever the
    rates: q are the chances with which the email's decision was drawn.

    Args:
        own: (...,) the chance that the email was of the version.
        control: (...,) that it was of the control.
        is_own: (...,) 1 where it was of the version, 0 of the control.
        times: how many times as often it may be.
    """
    fair, odds = own[..., None] * times, control[..., None]
    raised = fair * BETS + odds
    possible = np.broadcast_to(fair + odds > 0, raised.shape)
    factors = np.divide(fair + odds, raised, out=np.ones_like(raised), where=possible)
    return np.asarray(np.log(factors) + is_own[..., None] * possible * np.log(BETS))


def wealth(bets: FloatArray, periods: IntArray | Sequence[int]) -> FloatArray:
    """Return the wealth that all bets together have come to, from 1, (...).

    Args:
        bets: (P, ..., B) logarithms, by period.
        periods: (P,) ascending numbers of them; a bet begins with each number from the first on.
    """
    if not len(bets):
        return np.ones(bets.shape[1:-1])
    from_each = np.cumsum(bets[::-1], axis=0)[::-1]
    largest = from_each.max(axis=(0, -1))
    by_start = np.exp(from_each - largest[..., None]).mean(axis=-1)
    numbers = np.asarray(periods) - periods[0]
    starts = np.arange(numbers[-1] + 1)
    parts = _PARTS / (starts + 1.0) ** 2
    places = np.searchsorted(numbers, starts)  # a start without emails bets with the next period's
    by_period = np.bincount(places, parts, len(numbers))
    rest = max(1 - float(parts.sum()), 0.0)  # begins later
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(largest) * np.tensordot(by_period, by_start, 1) + rest)

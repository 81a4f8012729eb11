"""Sender checks: one API key compared with its own draws, and with the other keys.

A stolen key, or a sender that is out of order, sends rows that each look right. What it makes of
them together does not:

- *split*: the emails of the key that count were not drawn as they should have been. We draw, and a
  sender learns what was drawn: so where some arm is missing, the key cancels, or never reports as
  sent, what it does not like. This is the test of `SampleRatio`, on the key's own decisions.
- *restricted*: it narrows requests to some variants far more often than the other keys do.
- *unanswered*: its emails hardly ever earn anything while those of the other keys do, as far as
  their reward windows have closed.
- *cancelled*: it cancels decisions after events of them came, and so after they were sent. Events
  that earn nothing and are a reason to cancel do not count: see `excuses`.
- *never activated*: it asks for decisions, and none was ever reported as sent, by whomever.

The first four hold at every look: rates by the confidence sequence of `rate_bounds`, with margins
that senders of different audiences stay within. `ALARMS` add up to the chance that any key of a
sound experiment ever alarms. The key of number k gets 1/(k (k + 1)) of each, which adds up to all
of it over any number of keys, whenever they come. The last is a fact, and no test.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from msgspec import Struct

from bandits.array_types import BoolArray, FloatArray, IntArray
from bandits.inference.confidence_sequences import rate_bounds
from bandits.inference.sample_ratio import SampleRatio
from bandits.inference.sender_sums import SenderSums
from bandits.rewards import RewardRule

Check = Literal["split", "restricted", "unanswered", "cancelled", "never_activated"]

ALARMS = MappingProxyType(
    {"split": 0.004, "restricted": 0.002, "unanswered": 0.002, "cancelled": 0.002}
)
MORE = 0.25  # of its emails: so many more are restricted than of the other keys
LESS = 0.2  # of the other keys' rate: a key's emails earn less often than that
AFTER = 0.01  # of cancelled decisions: events came before so many of them
DISTRUSTED: tuple[Check, ...] = ("split", "cancelled")  # after these no comparison can be trusted
_REASONS = frozenset({"bounce", "complaint", "unsubscribe"})
UNSENT_SECONDS = 86_400.0  # since its first row, where none of its emails was reported as sent


class SenderAlarm(Struct, frozen=True):
    """Check that an API key did not stand.

    Attributes:
        key: number of the key.
        check: ``split``: of the key's emails that count, too many or too few are of `arm`;
            ``restricted``: too many were narrowed to some variants; ``unanswered``: too few earned
            anything; ``cancelled``: too many of those it cancelled had events before;
            ``never_activated``: none was ever reported as sent.
        arm: of ``split``, else None.
        share: of the key's emails, or of those that it cancelled.
        expected: the share that its draws give, or that the other keys have, or that is allowed.
        emails: how many emails of the key `share` is of.
    """

    key: int
    check: Check
    arm: int | None
    share: float
    expected: float
    emails: int


class KeyCounts(Struct, frozen=True):
    """What a key did in an experiment that waits to be told what is sent, or cancels.

    Attributes:
        key: its number.
        first_at: when it first asked, or did anything else.
        answered: of the decisions it had asked for, cancelled after an event of theirs that is no
            excuse.
    """

    key: int
    first_at: float
    chosen: int
    activated: int
    cancelled: int
    answered: int


def sender_alarms(
    sums: SenderSums, counts: Sequence[KeyCounts], *, awaits: bool, now: float
) -> list[SenderAlarm]:
    """Check every key of an experiment; return what alarms, by key.

    Args:
        sums: by key, of decisions that count.
        counts: by key, of what was asked for and cancelled.
        awaits: emails count once they are reported as sent.
        now: seconds since 1970.
    """
    alarms = [
        *_split(sums),
        *_against_others(sums),
        *_cancelled(counts),
        *(_never_activated(sums, counts, now) if awaits else ()),
    ]
    return sorted(alarms, key=lambda alarm: alarm.key)


def excuses(rule: RewardRule) -> tuple[str, ...]:
    """Name the events after which a decision may be cancelled without an alarm, sorted.

    Whoever cancels what bounced does so after an event, with nothing wrong. Where such an event is
    a declared metric it earns something, so that to cancel by it is to cancel by results.
    """
    return tuple(sorted(_REASONS - rule.metrics.keys()))


def distrusted(alarms: Sequence[SenderAlarm]) -> SenderAlarm | None:
    """Return the first alarm after which no comparison can be trusted, None without any."""
    serious = [alarm for alarm in alarms if alarm.check in DISTRUSTED]
    return min(serious, key=lambda a: (DISTRUSTED.index(a.check), a.key), default=None)


def levels(check: str, keys: IntArray) -> FloatArray:
    """Return the parts of a check's error that keys have, (S,)."""
    numbers = keys.astype(np.float64)
    return np.asarray(ALARMS[check] / (numbers * (numbers + 1)))


def _split(sums: SenderSums) -> list[SenderAlarm]:
    ratio: SampleRatio = sums.sample_ratio
    p_values, totals = ratio.p_values, ratio.sent.sum(axis=-1)
    limits = levels("split", sums.keys) / max(p_values.shape[-1], 1)
    alarms = []
    for s in np.flatnonzero((p_values < limits[:, None]).any(axis=1) & (totals > 0)).tolist():
        arm = int(np.argmin(p_values[s]))
        share, expected = (float(of[s, arm] / totals[s]) for of in (ratio.sent, ratio.expected))
        key, emails = int(sums.keys[s]), round(totals[s])
        alarms.append(SenderAlarm(key, "split", arm, share, expected, emails))
    return alarms


def _against_others(sums: SenderSums) -> list[SenderAlarm]:
    if len(sums.keys) < 2:  # noqa: PLR2004 - a comparison needs two
        return []
    own = sums.counts.T
    rest = own.sum(axis=1, keepdims=True) - own
    sent, restricted, closed, answered = range(4)
    alpha = levels("restricted", sums.keys) / 2
    low, _ = rate_bounds(own[restricted], own[sent], alpha)
    _, high = rate_bounds(rest[restricted], rest[sent], alpha)
    alarms = _alarms(sums, "restricted", low > high + MORE, restricted, sent)
    alpha = levels("unanswered", sums.keys) / 2
    _, high = rate_bounds(own[answered], own[closed], alpha)
    low, _ = rate_bounds(rest[answered], rest[closed], alpha)
    return alarms + _alarms(sums, "unanswered", high < LESS * low, answered, closed)


def _alarms(
    sums: SenderSums, check: Check, alarming: BoolArray, part: int, whole: int
) -> list[SenderAlarm]:
    """Describe keys (S,) whose share, the count `part` of `whole`, is not that of the others."""
    alarms = []
    for s in np.flatnonzero(alarming).tolist():
        own, rest = sums.counts[s], sums.counts.sum(axis=0) - sums.counts[s]
        share, expected = float(own[part] / own[whole]), float(rest[part] / rest[whole])
        key, emails = int(sums.keys[s]), round(own[whole])
        alarms.append(SenderAlarm(key, check, None, share, expected, emails))
    return alarms


def _cancelled(counts: Sequence[KeyCounts]) -> list[SenderAlarm]:
    alarms = []
    for count in counts:
        if not count.answered:
            continue
        n = max(count.cancelled, count.answered)
        alpha = levels("cancelled", np.array([count.key]))
        low, _ = rate_bounds(np.array([count.answered]), np.array([n]), alpha)
        if low[0] > AFTER:
            share = count.answered / n
            alarms.append(SenderAlarm(count.key, "cancelled", None, share, AFTER, n))
    return alarms


def _never_activated(
    sums: SenderSums, counts: Sequence[KeyCounts], now: float
) -> list[SenderAlarm]:
    """Find keys none of whose emails was reported as sent, where most of the others' were.

    It matters whose emails they are, not who reports them: a key with the scope ``manage`` may do
    so for others, and then has rows of that kind and they have none.
    """
    sent = dict(zip(sums.keys.tolist(), sums.counts[:, 0].tolist(), strict=True))
    alarms = []
    for count in counts:
        others = [c for c in counts if c is not count]
        chosen = sum(c.chosen for c in others)
        # Held-out subjects are in none of the sums; who reports only others' is in the counts.
        activated = max(sum(c.activated for c in others), sum(sent.get(c.key, 0) for c in others))
        silent = not count.activated and not sent.get(count.key) and count.cancelled < count.chosen
        late = now - count.first_at > UNSENT_SECONDS
        if silent and late and activated > chosen / 2 > 0:
            expected = min(activated / chosen, 1.0)
            alarms.append(
                SenderAlarm(count.key, "never_activated", None, 0.0, expected, count.chosen)
            )
    return alarms

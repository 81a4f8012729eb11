"""Guarded campaigns whose rates are known, many side by side, for the figures of guardrails.

Emails of K versions leave every hour, the control first. What a guardrail would act on is computed
by the engine's own functions, at each look.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from bandits.inference.guardrail_evidence import (
    BETS,
    FALSE_ALARMS,
    comparison_bets,
    limit_bets,
    wealth,
)

HOURS = 24
Shares = Callable[["GuardedCampaigns"], Any]  # (R, K) of the next hour, from what was seen
Rates = Callable[[int], Any]  # (K,) or (R, K) of an hour


class GuardedWorld(Struct, frozen=True, eq=False):
    """World of guarded campaigns.

    Attributes:
        rates: chance of an event of each version's emails, by hour; the control is the first.
        shares: how the policy divides the emails of an hour.
        emails: in an hour, of all versions.
        delay: mean hours until an event, 0 for at once; exponential.
        days: how long a campaign runs.
        arms: K.
        limit: of the guardrail; None where it compares with the control.
        times: how many times the control's rate a version's may be.
        weighs: false where bets take the version and the control as sent alike, which is wrong.
        every: hours between looks.
    """

    rates: Rates
    shares: Shares
    emails: int = 1000
    delay: float = 0.0
    days: int = 28
    arms: int = 5
    limit: float | None = 0.003
    times: float = 2.0
    weighs: bool = True
    every: int = 2


class GuardedCampaigns:
    """R campaigns of one world, side by side.

    Attributes:
        sent: (R, K, D) emails by day of sending.
        happened: (R, K, D) those of them with an event that has come.
        acted: (R, K) hour of the guardrail's first act, NaN without one.
        by_rules: (R, K) the same of fixed thresholds; see `_fixed`.
    """

    def __init__(self, world: GuardedWorld, replications: int, rng: Generator) -> None:
        shape = (replications, world.arms, world.days)
        self.world, self._rng = world, rng
        self.sent, self.happened, self._waiting = (np.zeros(shape) for _ in range(3))
        self._bets = np.zeros((*shape, len(BETS)))
        self.acted, self.by_rules = (np.full(shape[:2], np.nan) for _ in range(2))
        self._hourly: list[Any] = []

    def run(self) -> "GuardedCampaigns":
        for hour in range(HOURS * self.world.days):
            self._send(hour)
            if (hour + 1) % self.world.every == 0:
                self._look(hour)
        return self

    def _send(self, hour: int) -> None:
        world, rng, day = self.world, self._rng, hour // HOURS
        shares = np.broadcast_to(world.shares(self), self.acted.shape)
        emails = rng.multinomial(world.emails, shares).astype(np.float64)
        rates = np.broadcast_to(world.rates(hour), emails.shape)
        self.sent[:, :, day] += emails
        self._waiting[:, :, day] += rng.binomial(emails.astype(int), rates)
        hazard = 1.0 if world.delay == 0 else 1 - np.exp(-1 / world.delay)
        come = rng.binomial(self._waiting.astype(int), hazard).astype(np.float64)
        self._waiting -= come
        self.happened += come
        self._hourly.append((emails, come.sum(axis=2)))
        if world.limit is None:
            self._bet(come, shares, day)

    def _bet(self, come: Any, shares: Any, day: int) -> None:
        """Take in the events of an hour: those of emails of that hour, or under lasting shares."""
        if not self.world.weighs:
            shares = np.ones_like(shares)
        control = np.broadcast_to(shares[:, :1], shares.shape)
        come = np.concatenate([np.zeros_like(come[..., :day]), come.sum(axis=2)[..., None]], axis=2)
        for is_own, counts in ((1.0, come), (0.0, np.broadcast_to(come[:, :1], come.shape))):
            bets = comparison_bets(shares, control, np.full(shares.shape, is_own), self.world.times)
            self._bets[:, :, day] += counts[..., day, None] * bets

    def money(self) -> Any:
        """Return the wealth of each version's guardrail, (R, K)."""
        days = int(np.flatnonzero(self.sent.any(axis=(0, 1)))[-1]) + 1
        if self.world.limit is None:
            bets = self._bets[:, :, :days]
        else:
            bets = limit_bets(self.sent, self.happened, self.world.limit)[:, :, :days]
        return wealth(np.moveaxis(bets, 2, 0), np.arange(days))

    def _look(self, hour: int) -> None:
        alarm = (self.world.arms - 1) / FALSE_ALARMS
        acts = (self.money() >= alarm) & np.isnan(self.acted)
        acts[:, 0] = False
        self.acted[acts] = hour + 1
        if self.world.limit is not None:
            fixed = self._fixed() & np.isnan(self.by_rules)
            fixed[:, 0] = False
            self.by_rules[fixed] = hour + 1

    def _fixed(self) -> Any:
        """Return what fixed thresholds would pause: .3 % in a day or 1 % in an hour, (R, K).

        Each asks for a few events beforehand: five in the day, three in the hour.
        """
        hour_emails, hour_events = self._hourly[-1]
        emails, events = (sum(h[i] for h in self._hourly[-HOURS:]) for i in range(2))
        in_a_day = (events > self.world.limit * emails) & (events >= 5)
        return in_a_day | ((hour_events > 0.01 * hour_emails) & (hour_events >= 3))


def equal(campaigns: GuardedCampaigns) -> Any:
    """Divide equally."""
    return np.full(campaigns.world.arms, 1 / campaigns.world.arms)


def narrowing(campaigns: GuardedCampaigns) -> Any:
    """Move from one version to another, day by day, as a policy that learns does."""
    day = int(campaigns.sent.any(axis=(0, 1)).sum())
    weights = np.full(campaigns.world.arms, 0.02)
    weights[1] = max(0.6 - 0.02 * day, 0.02)
    weights[-1] = 0.2 + 0.02 * min(day, 25)
    return weights / weights.sum()


def uneven(campaigns: GuardedCampaigns) -> Any:
    """Send hardly any control, and one version most of the time."""
    weights = np.full(campaigns.world.arms, 0.05)
    weights[1] = 1.0
    return weights / weights.sum()


def chasing(campaigns: GuardedCampaigns) -> Any:
    """Send nearly all to the version whose guardrail is nearest to acting: the worst for it."""
    money = campaigns.money() if campaigns.sent.any() else np.ones(campaigns.acted.shape)
    money[:, 0] = 0.0
    shares = np.full(money.shape, 0.02)
    shares[np.arange(len(money)), money.argmax(axis=1)] = 1 - 0.02 * (money.shape[1] - 1)
    return shares


def avoiding(campaigns: GuardedCampaigns) -> Any:
    """Stop sending a version as soon as its events are rare: keeps the unlucky ones in view."""
    emails, events = campaigns.sent.sum(axis=2), campaigns.happened.sum(axis=2)
    kept = events > 0.8 * (campaigns.world.limit or 0.003) * emails
    weights = np.where(kept | (emails < 500), 1.0, 0.02)
    return weights / weights.sum(axis=1, keepdims=True)

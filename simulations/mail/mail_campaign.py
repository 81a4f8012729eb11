"""Campaign whose clicks are counted from a mail log, with or without rules against machines."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.random import Generator

from bandits.allocation import apply_floor
from bandits.array_types import BoolArray, FloatArray
from bandits.machines import EventKind, TrackedEvents, count_networks, judge_events
from bandits.policy import AnyPolicy
from bandits.problem import Problem
from bandits.sampling import draw
from bandits.statistics.accumulator import Accumulator
from simulations.mail.mail_log import MailLog, draw_mail_log
from simulations.mail.mail_world import MailWorld

_DAY = 86_400.0
_WEEK = 7  # waves


class CountedEvents(Protocol):
    """Choice of the events that count."""

    def __call__(self, log: MailLog, earlier: Sequence[TrackedEvents] = ()) -> BoolArray:
        """Return (n,) bool, the events of a log that count.

        Args:
            log: of a wave.
            earlier: clicks of the week before it, in other emails.
        """
        ...


def count_people(log: MailLog, earlier: Sequence[TrackedEvents] = ()) -> BoolArray:  # noqa: ARG001 - the truth is known
    """Count the events that people caused, as if no machine looked at emails."""
    return ~log.by_machine


def count_all(log: MailLog, earlier: Sequence[TrackedEvents] = ()) -> BoolArray:  # noqa: ARG001 - whatever came
    """Count every event."""
    return np.ones(len(log.events), dtype=np.bool_)


def count_judged(log: MailLog, earlier: Sequence[TrackedEvents] = ()) -> BoolArray:
    """Count the events that the newest rules take for people's."""
    counts = count_networks(TrackedEvents.concatenate([*earlier, log.events]))
    return judge_events(log.events, counts).persons


class MailCampaign(Struct, frozen=True):
    """Campaign in daily waves, each learned from once its clicks are in.

    Attributes:
        world: recipients and machines.
        rates: K true click rates of people, by arm.
        waves: number of waves.
        wave_size: emails of each.
        floor: least share of each arm.
    """

    world: MailWorld
    rates: tuple[float, ...]
    waves: int
    wave_size: int
    floor: float = 0.01


class CampaignCourse(Struct, frozen=True):
    """Course of a campaign.

    Attributes:
        regret: people's clicks missed, in expectation.
        best: the arm with the highest counted rate at the end.
    """

    regret: float
    best: int


def run_mail_campaign(
    campaign: MailCampaign, policy: AnyPolicy, counted: CountedEvents, rng: Generator
) -> CampaignCourse:
    """Run a campaign that learns from what `counted` leaves of each wave's log."""
    n_arms, n = len(campaign.rates), campaign.wave_size
    rates = np.array(campaign.rates)
    problem = Problem.of(n_arms, n_features=1)
    learned = Accumulator(policy.statistic, problem)
    sent, clicks = np.zeros((2, n_arms))
    earlier: list[TrackedEvents] = []
    regret = 0.0
    for wave in range(campaign.waves):
        prepared = policy.prepare(learned.statistic, problem, n, rng)
        shares = apply_floor(policy.propensities(prepared, np.ones((1, 1))), campaign.floor)
        arms = draw(shares.reshape(-1), rng.random(n))
        clicks_of_people = rng.random(n) < rates[arms]
        log = draw_mail_log(campaign.world, clicks_of_people, rng, start=wave * _DAY)
        rewards = _clicked(log, counted(log, earlier[-_WEEK:]), n)
        events = log.events.take(log.events.kinds == EventKind.CLICK)  # networks are counted by
        earlier.append(replace(events, emails=events.emails + (wave + 1) * n))
        learned.add(arms, rewards, np.ones((n, 1)), np.ones(n))
        sent += np.bincount(arms, minlength=n_arms)
        clicks += np.bincount(arms, rewards, n_arms)
        regret += float((rates.max() - rates[arms]).sum())
    return CampaignCourse(regret, int(np.argmax(clicks / np.maximum(sent, 1))))


def _clicked(log: MailLog, counted: BoolArray, n: int) -> FloatArray:
    """Return the reward (n,) of each email: 1 where a click counts."""
    rewards = np.zeros(n)
    rewards[log.events.emails[counted & (log.events.kinds == EventKind.CLICK)]] = 1.0
    return rewards

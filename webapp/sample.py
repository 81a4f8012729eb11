"""Sample experiment of `bandits demo`, and simulated recipients of its emails."""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, convert
from numpy.random import Generator

from bandits.experiment import Experiment
from bandits.ids import time_ordered_ids
from bandits.schemas import Decision, Reward

KEY = "spring-sale"
MATURITY_SECONDS = 10.0
WINDOW_SECONDS = 30.0

_HERO = """\
<table role="presentation" width="100%"
  style="background:{back};color:{ink};font-family:sans-serif">
  <tr><td style="padding:28px 24px">
    <p style="margin:0 0 6px;font-size:13px;opacity:.8">{over}</p>
    <h1 style="margin:0 0 10px;font-size:26px">{title}</h1>
    <p style="margin:0 0 18px;line-height:1.5">{text}</p>
    <a href="#" style="background:{ink};color:{back};padding:11px 18px;border-radius:4px;\
text-decoration:none;font-weight:bold">{button}</a>
  </td></tr>
</table>"""

_PRODUCTS = _HERO.format(
    back="#1f4d3a",
    ink="#f4f1e8",
    over="Spring sale",
    title="Everything for the balcony",
    text="Planters, herbs and folding chairs: 240 things that fit on two square metres.",
    button="See what is reduced",
)
_STORY = _HERO.format(
    back="#f6e7d8",
    ink="#5b2a1e",
    over="From our readers",
    title="How Anna grew tomatoes on the fourth floor",
    text="Eleven pots, one rainy May and a neighbour with advice. Here is what she used.",
    button="Read her story",
)

# A click is the unit: an order is worth eight of them, an unsubscribe costs five.
_DECLARATION: dict[str, Any] = {
    "key": KEY,
    "name": "Spring sale",
    "slots": [
        {
            "key": "subject_line",
            "kind": "subject_line",
            "name": "Subject line",
            "variants": [
                {"key": "plain", "name": "Plain", "payload": {"text": "Our spring sale starts"}},
                {
                    "key": "question",
                    "name": "Question",
                    "payload": {"text": "What would your balcony like this spring?"},
                },
                {
                    "key": "hurry",
                    "name": "Hurry",
                    "payload": {"text": "48 hours only: spring prices on everything you saved"},
                },
            ],
        },
        {
            "key": "content_block",
            "kind": "content",
            "name": "Content block",
            "variants": [
                {"key": "products", "name": "Products", "payload": {"html": _PRODUCTS}},
                {"key": "story", "name": "Story", "payload": {"html": _STORY}},
            ],
        },
        {
            "key": "discount",
            "kind": "discount",
            "name": "Discount",
            "variants": [
                {"key": "d0", "name": "No discount", "payload": {"percent": 0}},
                {"key": "d10", "name": "10 % off", "payload": {"percent": 10}},
            ],
        },
    ],
    "policy": {"name": "parts_thompson"},
    "holdout": 0.05,
    "reward": {
        "metrics": {
            "open": {"weight": 0.05},
            "click": {"weight": 1.0},
            "order": {"weight": 8.0},
            "unsubscribe": {"weight": -5.0},
        },
        "window_seconds": WINDOW_SECONDS,
        "maturity_seconds": MATURITY_SECONDS,
    },
    "learn_every_seconds": 1.0,
}

# Chances, multiplied: of opening by the subject line, of clicking an opened email by its content
# and discount, of ordering after a click by the discount, of unsubscribing by the subject line.
_OPENS = {"plain": 0.30, "question": 0.36, "hurry": 0.33}
_CLICKS = {"products": 0.22, "story": 0.27}
_CLICK_FACTORS = {"d0": 1.0, "d10": 1.18}
_ORDERS = {"d0": 0.09, "d10": 0.13}
_UNSUBSCRIBES = {"plain": 0.004, "question": 0.004, "hurry": 0.013}

_MEDIAN_DELAY_SECONDS = 1.5
_DELAY_SPREAD = 0.9  # standard deviation of the delay's logarithm
_DOUBLED = 0.05  # share of events that the mailer reports twice


def sample_experiment() -> Experiment:
    """Declare the sample experiment: 3 subject lines, 2 content blocks, 2 discounts."""
    return convert(_DECLARATION, Experiment)


class ScheduledEvent(Struct, frozen=True, order=True):
    """Event of a simulated recipient, reported `at` seconds of the simulation's clock."""

    at: float
    number: int
    decision_id: str
    event_id: str
    metric: str


class SampleRecipients:
    """Simulated recipients: they open, click, order and unsubscribe some time after an email.

    Delays are log-normal: about one event in fifty comes after maturity and corrects what was
    learned, and a few come too late to count. Events arrive out of order, and a few of them twice.
    """

    def __init__(self, rng: Generator) -> None:
        """Draw reactions and delays from `rng`."""
        self._rng = rng
        self._scheduled: list[ScheduledEvent] = []
        self._count = 0

    def receive(self, decisions: Sequence[Decision], now: float) -> None:
        """Receive emails at `now`, and schedule the reactions to them."""
        for decision in decisions:
            for metric in self._reactions(decision.slots):
                self._schedule(str(decision.decision_id), metric, now)

    def reports(self, now: float) -> list[Reward]:
        """Return the events that the mailer reports by `now`; each is returned once."""
        due = []
        while self._scheduled and self._scheduled[0].at <= now:
            event = heapq.heappop(self._scheduled)
            due.append(Reward(event.decision_id, event.event_id, event.metric))
        order = self._rng.permutation(len(due))
        return [due[i] for i in order]

    def _reactions(self, slots: Mapping[str, Mapping[str, Any]]) -> list[str]:
        subject, content, discount = (
            slots[s]["variant"] for s in ("subject_line", "content_block", "discount")
        )
        u = self._rng.random(4)
        events = []
        if u[0] < _UNSUBSCRIBES[subject]:
            events.append("unsubscribe")
        if u[1] < _OPENS[subject]:
            events.append("open")
            if u[2] < _CLICKS[content] * _CLICK_FACTORS[discount]:
                events.append("click")
                if u[3] < _ORDERS[discount]:
                    events.append("order")
        return events

    def _schedule(self, decision_id: str, metric: str, now: float) -> None:
        (event_id,) = time_ordered_ids(1, now)
        times = 1 + (self._rng.random() < _DOUBLED)
        for _ in range(times):
            delay = _MEDIAN_DELAY_SECONDS * np.exp(_DELAY_SPREAD * self._rng.standard_normal())
            self._count += 1
            event = ScheduledEvent(now + delay, self._count, decision_id, event_id, metric)
            heapq.heappush(self._scheduled, event)

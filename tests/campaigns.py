"""Campaigns in every state that a page can show, made through the engine by a clock that is set.

Ids, salts and what recipients do follow from a seed, so that a campaign is the same each time.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from bandits.actors import PROGRAM, Actor
from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.inference.intervals import Family, Interval
from bandits.schemas import Decision, Request, Reward
from bandits.verdict import Statement, Statements

DAY = 86_400.0
START = datetime(2026, 5, 12, 8, tzinfo=UTC).timestamp()  # a Tuesday morning
SUBJECTS = ("Still thinking about that balcony?", "48 hours only: 10 % off", "Your May favourites")

Rate = Callable[[str, Any], float]  # of a click, by the variant and the recipient's channel


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class CampaignMaker:
    """Makes campaigns with an engine that reads `clock`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.clock = clock
        self._sent = 0
        self._random = Random(12)

    def make(
        self,
        key: str,
        n_versions: int = 2,
        *,
        days_ago: float = 0.0,
        start: bool = True,
        **declared: Any,
    ) -> str:
        """Declare a campaign of subject lines a, b and c, and start it some days before `START`."""
        self.clock.now = START - days_ago * DAY
        variants = [
            {"key": k, "payload": {"text": SUBJECTS[i]}} for i, k in enumerate("abc"[:n_versions])
        ]
        standard = {
            "key": key,
            "name": key.replace("-", " ").capitalize(),
            "slots": [{"key": "subject_line", "kind": "subject_line", "variants": variants}],
            "policy": {"name": "thompson"},
            "floor": 0.1,
            "reward": {
                "metrics": {"click": {}},
                "window_seconds": 7200.0,
                "maturity_seconds": 60.0,
            },
        }
        self.engine.create(msgspec.convert(standard | declared, Experiment), by="anna@shop.example")
        if start:
            self.engine.start(key, by="anna@shop.example")
        return key

    def send(
        self, key: str, n: int, rate: Rate, channels: str = "", *, actor: Actor = PROGRAM
    ) -> list[Decision]:
        """Send n emails now, to recipients of these channels in turn; report their clicks."""
        first, self._sent = self._sent, self._sent + n
        requests = [
            Request(
                f"recipient-{i}",
                {"channel": channels[i % len(channels)]} if channels else None,
                decision_id=f"email-{i}",
            )
            for i in range(first, first + n)
        ]
        decisions = self.engine.choose(key, requests, actor=actor)
        clicks = [
            Reward(str(decision.decision_id), "first", "click")
            for decision, request in zip(decisions, requests, strict=True)
            if self._random.random()
            < rate(_variant(decision), (request.context or {}).get("channel"))
        ]
        if clicks:
            self.engine.reward(clicks)
        return decisions

    def report(self, decisions: list[Decision], shares: Mapping[str, float]) -> None:
        """Report events of emails, each of a share of them; orders and refunds have amounts."""
        events = [
            Reward(
                str(decision.decision_id),
                name,
                name,
                round(self._random.uniform(5, 90), 2) if name in MONEY else 1.0,
            )
            for name, share in shares.items()
            for decision in decisions
            if self._random.random() < share
        ]
        self.engine.reward(events)

    def days(self, key: str, n_days: int, n: int, rate: Rate, channels: str = "") -> None:
        """Send n emails each day, and learn before each next one."""
        for _ in range(n_days):
            self.send(key, n, rate, channels)
            self.clock.now += DAY
            self.engine.learn(key)

    def add_variant(self, key: str, variant: str, text: str) -> None:
        """Let a version join."""
        record = self.engine.store.experiments.record(key)
        declared = record.configuration.experiment
        (slot,) = declared.slots
        added = msgspec.convert({"key": variant, "payload": {"text": text}}, type(slot.variants[0]))
        variants = type(slot.variants)((*slot.variants, added))
        edited = replace(declared, slots=type(declared.slots)((replace(slot, variants=variants),)))
        version = record.configuration.version
        self.engine.edit(key, edited, version=version, by="anna@shop.example")


def _variant(decision: Decision) -> str:
    return decision.slots["subject_line"]["variant"]


def by_variant(**rates: float) -> Rate:
    """Give every variant a rate, the same for all."""
    return lambda variant, _: rates[variant]


def by_channel(**rates: dict[str, float]) -> Rate:
    """Give every variant a rate in each channel."""
    return lambda variant, channel: rates[variant][channel]


PERSONAL = {
    "policy": {"name": "linucb"},
    "floor": 0.05,
    "context": [{"name": "channel", "kind": "category", "values": ["x", "y"]}],
}
TASTES = by_channel(a={"x": 0.30, "y": 0.10}, b={"x": 0.12, "y": 0.33})


# Of each event that a mailer or shop may report: the share of emails that have it.
EVENTS = {
    "delivered": 0.98,
    "open": 0.4,
    "machine_open": 0.3,
    "order": 0.05,
    "reply": 0.01,
    "unsubscribe": 0.02,
    "complaint": 0.004,
    "bounce": 0.02,
    "refund": 0.005,
}
MONEY = ("order", "refund")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def make_draft(maker: CampaignMaker) -> str:
    """Make a campaign that has not started."""
    return maker.make("draft", 3, start=False)


def make_nothing_sent(maker: CampaignMaker) -> str:
    """Make a campaign that waits for its first recipient."""
    return maker.make("nothing-sent")


def make_nothing_final(maker: CampaignMaker) -> str:
    """Make a campaign all of whose results can still change."""
    key = maker.make("nothing-final", days_ago=600 / DAY)
    maker.send(key, 300, by_variant(a=0.2, b=0.3))
    maker.clock.now += 600
    maker.engine.learn(key)
    return key


def make_too_early(maker: CampaignMaker) -> str:
    """Make a campaign with a handful of results."""
    key = maker.make("too-early", 3, days_ago=1)
    maker.days(key, 1, 90, by_variant(a=0.1, b=0.2, c=0.1))
    return key


def make_few_days(maker: CampaignMaker) -> str:
    """Make a campaign whose leader is shown within two days."""
    key = maker.make("few-days", days_ago=2)
    maker.days(key, 2, 800, by_variant(a=0.1, b=0.3))
    return key


def make_could_lose(maker: CampaignMaker) -> str:
    """Make a campaign of nine days whose versions are hardly apart, though one led on the fifth."""
    key = maker.make("could-lose", 3, days_ago=9)
    maker.days(key, 8, 400, by_variant(a=0.18, b=0.20, c=0.21))
    now = maker.clock.now
    sent_from, sent_until, said = (_moment(now - d * DAY) for d in (8, 5, 4))
    lift = Interval(0.004, 0.061, 0.032, 0.025, "weighted", Family.leading(3))
    claim = Statement(said, 1, sent_from, sent_until, "leads", lift)
    version = maker.engine.store.experiments.record(key).learned_version
    maker.engine.store.snapshots.keep_statements(key, Statements(now, (claim,)), version=version)
    maker.days(key, 1, 400, by_variant(a=0.18, b=0.20, c=0.21))
    return key


def make_ship(maker: CampaignMaker) -> str:
    """Make a campaign of nine days with a clear leader."""
    key = maker.make("ship", days_ago=9)
    maker.days(key, 9, 500, by_variant(a=0.1, b=0.3))
    return key


def make_personal(maker: CampaignMaker) -> str:
    """Make a campaign that decides by recipient, where tastes cross."""
    key = maker.make("personal", days_ago=9, **PERSONAL)
    maker.days(key, 9, 800, TASTES, "xy")
    return key


def make_lifts_move(maker: CampaignMaker) -> str:
    """Make a campaign whose leader of the first ten days has been worse since."""
    key = maker.make("lifts-move", days_ago=17, policy={"name": "uniform"})
    maker.days(key, 10, 800, by_variant(a=0.15, b=0.35))
    maker.days(key, 7, 800, by_variant(a=0.25, b=0.15))
    return key


def make_split_wrong(maker: CampaignMaker) -> str:
    """Make a campaign that loses a third of the emails of one version."""
    key = maker.make("split-wrong", days_ago=8)
    for _ in range(8):
        decisions = maker.send(key, 300, by_variant(a=0.1, b=0.3))
        lost = [d for d in decisions if d.slots["subject_line"]["variant"] == "b"]
        maker.engine.cancel([str(d.decision_id) for d in lost[::3]])
        maker.clock.now += DAY
        maker.engine.learn(key)
    return key


def make_many_events(maker: CampaignMaker) -> str:
    """Make a campaign of three parts, of whose emails every kind of event is reported."""
    payloads = {
        "subject_line": [{"text": text} for text in SUBJECTS],
        "content": [{"html": "<h1>Balcony</h1>"}, {"html": "<p>Anna's tomatoes</p>"}],
        "discount": [{"percent": 0}, {"percent": 10}],
    }
    slots = [
        {
            "key": kind,
            "kind": kind,
            "variants": [{"key": "abc"[i], "payload": p} for i, p in enumerate(of_kind)],
        }
        for kind, of_kind in payloads.items()
    ]
    reward = {
        "metrics": {
            "click": {},
            "order": {"weight": 0.5, "count": "sum", "high": 500.0},
            "unsubscribe": {"weight": -3.0},
        },
        "window_seconds": 7200.0,
        "maturity_seconds": 60.0,
    }
    key = maker.make(
        "many-events",
        slots=slots,
        reward=reward,
        policy={"name": "uniform"},
        floor=0.02,
        holdout=0.05,
        days_ago=2,
    )
    for _ in range(2):
        decisions = maker.send(key, 2400, by_variant(a=0.08, b=0.16, c=0.1))
        maker.report(decisions, EVENTS)
        maker.clock.now += DAY
        maker.engine.learn(key)
    return key


def make_guarded(maker: CampaignMaker) -> str:
    """A guardrail has paused one version, and another one has alerted of a second."""
    guardrails = [
        {"event": "complaint", "limit": 0.003, "action": "pause"},
        {"event": "bounce", "limit": 0.01, "action": "alert"},
        {"event": "unsubscribe", "worse_than_control": 2.0, "action": "pause"},
    ]
    key = maker.make("guarded", n_versions=3, days_ago=2, guardrails=guardrails, floor=0.15)
    for day in range(2):
        decisions = maker.send(key, 2000, by_variant(a=0.1, b=0.12, c=0.11))
        for variant, shares in (
            ("a", {"complaint": 0.001, "unsubscribe": 0.002}),
            ("b", {"complaint": 0.06 * day, "unsubscribe": 0.003}),
            ("c", {"complaint": 0.002, "bounce": 0.03, "unsubscribe": 0.002}),
        ):
            maker.report([d for d in decisions if _variant(d) == variant], shares)
        maker.clock.now += 600
        maker.engine.learn(key)
        maker.clock.now += DAY - 600
    return key


def make_shipped(maker: CampaignMaker) -> str:
    """Make a campaign that was stopped, whose leader everybody gets, and whose result is final."""
    key = maker.make("shipped", days_ago=16, holdout=0.05)
    maker.days(key, 9, 500, by_variant(a=0.1, b=0.3))
    maker.engine.stop(key, by="anna@shop.example", ship={"subject_line": "b"})
    maker.clock.now += 7 * DAY
    maker.engine.learn(key)
    return key


STATES: dict[str, Callable[[CampaignMaker], str]] = {
    "draft": make_draft,
    "nothing sent": make_nothing_sent,
    "nothing final": make_nothing_final,
    "too early": make_too_early,
    "few days": make_few_days,
    "could lose": make_could_lose,
    "ship": make_ship,
    "keep personalising": make_personal,
    "lifts move": make_lifts_move,
    "split wrong": make_split_wrong,
    "many events": make_many_events,
    "guarded": make_guarded,
    "shipped": make_shipped,
}

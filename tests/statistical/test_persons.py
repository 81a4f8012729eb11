"""Labelled logs of mail go through the real engine: machines are left out, people stay.

The rules alone are measured in `test_machines`; here are the log, the counts of networks, folds
that run while events arrive, and rewards. Each email is a decision, each event is reported when the
log says it was received, with a network and a program of the kind that the log has, and the engine
learns every hour, or quarter of one. The bounds are those of `test_machines`, for the same rates:
with a true share of people lost of 1 %, or of machines' clicks caught of 95 %, a bound is missed
with probability at most 1e-4. The negative control is the same campaign without rules.
"""

from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import Struct
from scipy.stats import binom

from bandits.array_types import BoolArray
from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.machines import AgentClass, EventKind
from bandits.schemas import Request, Reward, Tracking
from simulations.mail import WORLDS, MailLog, draw_mail_log
from storage import open_store, upgrade
from storage.snapshots.verify import compare
from tests.conftest import SOAK

WORLD = "business"
RECIPIENTS = 12_000 if SOAK else 2_000  # of each wave
WAVES = 6 if SOAK else 2
RATES = (0.03, 0.045, 0.07)
DAY, TURN = 86_400.0, 900.0 if SOAK else 3600.0
START = 20_000 * DAY
FALSE_ALARM, FAR = 1e-4, 3.72
BROWSER = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
AGENTS = {
    AgentClass.UNKNOWN: None,
    AgentClass.BROWSER: BROWSER,
    AgentClass.PROGRAM: "Microsoft Outlook 16",
    AgentClass.IMAGE_PROXY: "Mozilla/5.0 (via ggpht.com GoogleImageProxy)",
    AgentClass.PRIVACY_PROXY: "Mozilla/5.0",
    AgentClass.CRAWLER: "BarracudaCentral/1.0",
}


class Course(Struct, frozen=True):
    """A campaign that was played.

    Attributes:
        caught: machines' clicks that are set aside, by email with any, beside all of them there.
        lost: people who clicked and count as if they had not,
        people: of so many.
        best: the arm with the highest counted rate.
    """

    caught: list[tuple[int, int]]
    lost: int
    people: int
    best: int


class Campaign:
    """A campaign in waves that learns from what is reported, as the engine counts it."""

    def __init__(self, folder: Path, rules: int | None, *, machines: bool) -> None:
        url = f"sqlite:///{folder}/{rules}-{machines}.db"
        upgrade(url)
        self.now = START
        self._machines = machines
        self._store = open_store(url)
        self.engine = Engine(self._store, lambda: self.now)
        declared = {
            "key": "mail",
            "slots": [{"key": "subject", "variants": [{"key": v} for v in "abc"]}],
            "policy": {"name": "thompson"},
            "reward": {
                "metrics": {"click": {}},
                "window_seconds": 3 * DAY,
                "maturity_seconds": 0.75 * DAY,
            },
            "machine_rules": rules,
        }
        self.engine.create(msgspec.convert(declared, Experiment), by="test")
        self.engine.start("mail", by="test")

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def play(self) -> Course:
        """Send all waves, report what happens, and compare what counts with the truth."""
        played = []
        for wave in range(WAVES):
            rng = np.random.default_rng([61, wave])
            self.now = START + wave * DAY
            requests = [Request(f"u-{i}") for i in range(RECIPIENTS)]
            made = [
                d
                for first in range(0, RECIPIENTS, 10_000)
                for d in self.engine.choose("mail", requests[first : first + 10_000])
            ]
            arms = np.array(["abc".index(d.slots["subject"]["variant"]) for d in made])
            clicks = rng.random(RECIPIENTS) < np.array(RATES)[arms]
            log = draw_mail_log(WORLDS[WORLD], clicks, rng, start=self.now + 1.0)
            ids = [str(d.decision_id) for d in made]
            reported = log.events.received < START + (wave + 1) * DAY
            self._report(log, ids, reported)
            played.append((log, ids, reported))
        self.now = START + (WAVES + 3) * DAY
        self.engine.learn("mail")
        with self._store.snapshots.audit("mail") as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
        return self._compare(played)

    def _report(self, log: MailLog, ids: list[str], reported: BoolArray) -> None:
        """Report events of a log as they were received, and learn after each turn."""
        rewards, times = self._rewards(log, ids), log.events.received
        order = np.argsort(times, kind="stable")
        order = order[reported[order] & ~(log.by_machine[order] & (not self._machines))]
        turns = np.floor((times - START) / TURN)
        for turn in np.unique(turns[order]).tolist():
            rows = order[turns[order] == turn].tolist()
            self.now = START + (turn + 1) * TURN
            for first in range(0, len(rows), 10_000):
                self.engine.reward([rewards[i] for i in rows[first : first + 10_000]])
            self.engine.learn("mail")

    @staticmethod
    def _rewards(log: MailLog, ids: list[str]) -> list[Reward]:
        events = log.events
        networks, places = np.unique(events.networks, return_inverse=True)
        assert len(networks) < 2**22
        rows = zip(
            *(getattr(events, n).tolist() for n in ("emails", "kinds", "times", "links", "agents")),
            places.tolist(),
            *(getattr(events, n).tolist() for n in ("flagged", "head", "honeypot", "unsubscribe")),
            strict=True,
        )
        rewards = []
        for i, (email, kind, at, link, agent, place, *signs) in enumerate(rows):
            opened = kind == EventKind.OPEN
            tracking = Tracking(
                "open" if opened else "click",
                f"{16 + (place >> 16)}.{place >> 8 & 255}.{place & 255}.9",
                AGENTS[agent],
                f"https://shop.example/{link}" if link else None,
                None,
                *signs,
            )
            happened = datetime.fromtimestamp(at, UTC)
            rewards.append(
                Reward(ids[email], f"e-{i}", "open" if opened else "click", 1.0, happened, tracking)
            )
        return rewards

    def _compare(self, played: list[tuple[MailLog, list[str], BoolArray]]) -> Course:
        caught: list[tuple[int, int]] = []
        lost = people = 0
        for log, ids, reported in played:
            clicks = (log.events.kinds == EventKind.CLICK) & reported
            counted = clicks & ~self._set_aside(log, ids)
            machines = clicks & log.by_machine
            emails, rows = np.unique(log.events.emails[machines], return_inverse=True)
            aside = np.bincount(rows, ~counted[machines], len(emails)).astype(int).tolist()
            caught += zip(aside, np.bincount(rows, minlength=len(emails)).tolist(), strict=True)
            clicked = np.unique(log.events.emails[clicks & ~log.by_machine])
            kept = np.isin(clicked, log.events.emails[counted])
            lost, people = lost + int((~kept).sum()), people + len(clicked)
        means = [arm.mean or 0.0 for arm in self.engine.results("mail").arms]
        return Course(caught, lost, people, int(np.argmax(means)))

    def _set_aside(self, log: MailLog, ids: list[str]) -> BoolArray:
        """Mark the events (n,) that the engine does not count."""
        reasons = self._store.log.reasons(ids)
        emails = log.events.emails.tolist()
        return np.array([bool(reasons[ids[e]].get(f"e-{i}", 0)) for i, e in enumerate(emails)])


@cache
def course(folder: Path, rules: int | None, *, machines: bool = True) -> Course:
    with closing(Campaign(folder, rules, machines=machines)) as campaign:
        return campaign.play()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("persons")


def catches_enough(played: Course) -> bool:
    """Tell whether machines' clicks caught are no fewer than a share of 95 % explains."""
    caught, clicks = np.array(played.caught, dtype=float).T
    residual = caught - 0.95 * clicks
    error = np.sqrt(np.sum(residual**2)) / clicks.sum()
    return caught.sum() / clicks.sum() >= 0.95 - FAR * error


def loses_too_many(played: Course) -> bool:
    """Tell whether more people are lost than a share of 1 % explains."""
    return played.lost > binom.isf(FALSE_ALARM, played.people, 0.01)


def test_engine_catches_machines_clicks_and_loses_hardly_anybody(folder):
    played = course(folder, 1)
    assert played.people > 100
    assert catches_enough(played)
    assert not loses_too_many(played)


def test_engine_chooses_the_version_that_it_chooses_without_machines(folder):
    assert course(folder, 1).best == course(folder, None, machines=False).best


def test_engine_without_rules_catches_nothing(folder):
    played = course(folder, None)
    assert not catches_enough(played)
    assert sum(clicks for _, clicks in played.caught) > 500

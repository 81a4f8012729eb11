"""Labelled logs of opens and clicks, their scores, and campaigns that learn from them."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from bandits.errors import InvalidInput
from bandits.machines import AgentClass, EventKind
from bandits.registry import make
from simulations.mail import (
    WORLDS,
    MailCampaign,
    MailLog,
    MailScanner,
    MailWorld,
    count_all,
    count_people,
    draw_mail_log,
    draw_world,
    run_mail_campaign,
    score,
)

PAGE = Path(__file__).parents[2] / "docs/simulations.md"
ALONE = MailWorld((), apple=0.0, forwards=0.0)


def drawn(world: MailWorld, n: int = 2000, seed: int = 1, clicks: float = 0.2) -> MailLog:
    rng = np.random.default_rng(seed)
    return draw_mail_log(world, rng.random(n) < clicks, rng, start=1_800_000_000.0)


def columns(log: MailLog) -> list[np.ndarray]:
    events = [getattr(log.events, name) for name in log.events.__struct_fields__]
    return [*events, log.by_machine, log.clicked]


@pytest.mark.parametrize("name", WORLDS)
def test_log_depends_on_its_seed_alone(name: str) -> None:
    for first, second in zip(
        columns(drawn(WORLDS[name])), columns(drawn(WORLDS[name])), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_world_without_machines_has_people_alone() -> None:
    log = drawn(ALONE)
    clicks = log.events.kinds == EventKind.CLICK
    assert not log.by_machine.any()
    assert set(log.events.emails[clicks & ~log.events.unsubscribe]) == set(
        np.flatnonzero(log.clicked)
    )
    assert (log.events.since_delivery >= 0).all()
    assert (log.events.received >= log.events.times).all()


def test_people_take_as_long_as_the_world_says() -> None:
    log = drawn(replace(ALONE, second_links=0.0, repeats=0.0, unsubscribers=0.0), n=20_000)
    hours = log.events.since_delivery[log.events.kinds == EventKind.CLICK] / 3600
    assert np.mean(hours < 1) == pytest.approx(0.27, abs=0.03)
    assert np.mean(hours < 6) == pytest.approx(0.61, abs=0.03)


def test_scanner_follows_the_links_of_the_emails_that_it_guards() -> None:
    scanner = MailScanner(1.0, networks=3, follows=1.0, single=0.0, unsubscribes=1.0, rescans=0.0)
    log = drawn(replace(ALONE, scanners=(scanner,), links=4), clicks=0.0, n=500)
    machine = log.by_machine & (log.events.kinds == EventKind.CLICK)
    assert np.count_nonzero(machine) == 500 * 5
    assert len(np.unique(log.events.networks[machine])) == 3
    assert np.median(log.events.since_delivery[machine]) == pytest.approx(43, rel=0.15)


def test_companys_own_scanner_has_the_address_of_its_people() -> None:
    scanner = MailScanner(1.0, networks=0)
    world = replace(ALONE, scanners=(scanner,), companies=1.0, company_size=10.0)
    log = drawn(world, clicks=1.0)
    clicks = log.events.kinds == EventKind.CLICK
    machines = set(log.events.networks[clicks & log.by_machine])
    assert machines == set(log.events.networks[clicks & ~log.by_machine])


def test_sender_reports_what_the_world_lets_it_see() -> None:
    scanner = MailScanner(1.0, heads=1.0, named=1.0)
    poor = replace(ALONE, scanners=(scanner,), apple=1.0, flags=0.0)
    rich = replace(poor, flags=1.0, heads_seen=True, honeypot=True, whole_seconds=False)
    seen, unseen = drawn(rich).events, drawn(poor).events
    assert (unseen.times == np.floor(unseen.times)).all()
    assert not (unseen.flagged | unseen.head | unseen.honeypot).any()
    assert (seen.times != np.floor(seen.times)).any()
    assert min(seen.flagged.sum(), seen.head.sum(), seen.honeypot.sum()) > 0
    assert set(seen.agents[seen.flagged]) == {AgentClass.PRIVACY_PROXY}


def test_random_worlds_are_valid_and_differ() -> None:
    worlds = [draw_world(np.random.default_rng(seed)) for seed in range(5)]
    assert len({repr(world) for world in worlds}) == 5
    for world in worlds:
        assert len(drawn(world, n=200).events) > 0


def test_world_refuses_a_figure_beyond_its_bounds() -> None:
    with pytest.raises(InvalidInput, match="/apple"):
        MailWorld((), apple=1.5)
    with pytest.raises(InvalidInput, match="/guards"):
        MailScanner(-0.1)


def test_score_of_all_and_of_people_alone() -> None:
    log = drawn(WORLDS["newsletter"], n=20_000, clicks=0.04)
    nothing, everything = score(log, count_all(log)), score(log, count_people(log))
    assert (nothing.caught, nothing.caught_emails, nothing.lost) == (0.0, 0.0, 0.0)
    assert (everything.caught, everything.caught_emails, everything.lost) == (1.0, 1.0, 0.0)
    assert 0.1 < everything.machine_emails < 0.3
    assert everything.machine_opens == pytest.approx(0.55, abs=0.05)
    none = score(log, np.zeros(len(log.events), dtype=np.bool_))
    assert (none.lost, none.lost_opens) == (1.0, 1.0)
    assert math.isnan(score(drawn(ALONE), count_all(drawn(ALONE))).caught)


def test_campaign_finds_the_best_arm_and_counts_what_it_missed() -> None:
    campaign = MailCampaign(ALONE, (0.05, 0.2), waves=4, wave_size=500)
    course = run_mail_campaign(campaign, make("thompson"), count_all, np.random.default_rng(1))
    assert course.best == 1
    assert 0.15 * 250 * 0.8 < course.regret < 0.15 * 2000 / 2


def test_example_of_the_simulations_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "simulations.mail" in block]
    exec(example, {})  # noqa: S102 - our own page
    assert capsys.readouterr().out.count("CampaignCourse") == 2

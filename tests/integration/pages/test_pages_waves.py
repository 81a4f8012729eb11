"""A list that is sent in waves, through the pages."""

import csv
import io
import re
from datetime import UTC, datetime
from threading import Event

import pytest

from bandits.errors import Unavailable
from bandits.schemas import Reward
from tests.integration.pages.conftest import NOW
from tests.integration.pages.test_pages_files import Desk
from tests.patience import wait_until
from webapp.notices.file_alerts import file_alerts
from webapp.wave_worker import WaveWorker

DAY = 86_400.0
PEOPLE = "email,city\n" + "".join(f"u-{i:03}@shop.example,Town {i}\n" for i in range(200))


class WaveDesk(Desk):
    """Somebody who sends lists in waves."""

    def check(self, text=PEOPLE, **chosen):
        """Upload a list to be sent in waves, and wait until it is read through."""
        address, page = self.work(text, who="email", send="waves", **chosen)
        assert "Plan the waves" in page
        return address

    def plan(self, text=PEOPLE, columns=(), **typed):
        """Plan a list's waves, the first of them tomorrow unless said otherwise."""
        address = self.check(text, **dict(columns))
        answer = self.submit(address, **typed)
        assert answer.status_code == 302, answer.text
        return address

    def submit(self, address, **typed):
        days = {"start/local": self.local(DAY), "gap": "1", "unit": "days"}
        fields = self.visitor.form(address, "waves") | days | typed
        return self.visitor.post(f"{address}/waves", fields)

    def local(self, seconds):
        """Write the time so many seconds from now as a field has it, in UTC."""
        return datetime.fromtimestamp(self.site.clock() + seconds, UTC).isoformat()[:16]

    def look(self):
        """Prepare what is due, as the server does every few seconds."""
        site = self.site
        tell = file_alerts(site.engine, site.accounts, site.store.outgoing)
        uploads = site.app.extensions["bandits.uploads"]
        return WaveWorker(uploads, site.engine, tell, Event()).look()

    def wave(self, address, number):
        """Download a wave, and return its rows."""
        got = self.visitor.get(f"{address}/waves/{number}/answer.csv")
        assert got.status_code == 200
        return list(csv.DictReader(io.StringIO(got.text)))

    def states(self, address):
        cells = re.findall(
            r'data-label="State" class="across">\s*([^<\n]+)', self.visitor.get(address).text
        )
        return [cell.strip() for cell in cells]

    def pass_time(self, seconds):
        self.site.clock.now += seconds

    def upload_of(self, address):
        uploads = self.site.app.extensions["bandits.uploads"]
        return uploads.find("sale", address.rsplit("/", 1)[1])


@pytest.fixture
def desk(site, manager):
    return WaveDesk(site, manager)


def all_decisions(site):
    subjects = [f"u-{i:03}@shop.example" for i in range(200)]
    return [d for s in subjects for d in site.engine.subject(s).decisions]


def test_waves_are_chosen_for_at_their_times_and_cover_the_list_once(site, desk):
    site.make()
    address = desk.plan()
    assert desk.states(address) == ["Waits for its time"] * 4
    assert all_decisions(site) == []
    assert desk.look() == 0
    seen = []
    for number in range(1, 5):
        desk.pass_time(DAY)
        assert desk.look() == 1
        assert desk.look() == 0
        rows = desk.wave(address, number)
        assert len(rows) == 50
        assert desk.visitor.get(f"{address}/waves/{number + 1}/answer.csv").status_code == 404
        seen += rows
    assert desk.states(address) == ["Ready"] * 4
    assert sorted(row["subject_id"] for row in seen) == [
        f"u-{i:03}@shop.example" for i in range(200)
    ]
    assert all(row["city"] == f"Town {int(row['subject_id'][2:5])}" for row in seen)
    assert len({row["decision_id"] for row in seen}) == len(all_decisions(site)) == 200


def test_waves_are_dealt_by_chance_and_always_alike(site, desk):
    site.make()
    one, other = (desk.plan(columns={"anew": "on"}) for _ in range(2))
    desk.pass_time(DAY)
    assert desk.look() == 2
    waves = [desk.wave(address, 1) for address in (one, other)]
    first, second = ({row["subject_id"] for row in wave} for wave in waves)
    assert first != second
    assert len({row["decision_id"] for wave in waves for row in wave}) == 100
    low = sum(int(subject[2:5]) < 50 for subject in first)
    assert 3 < low < 25  # of 50, whose mean is 12.5


def test_first_wave_begins_at_once_where_no_time_is_said(site, desk):
    site.make()
    address = desk.plan(**{"start/local": "", "first": "10", "waves": "2", "gap": "1"})
    page = lambda: desk.states(address)  # noqa: E731
    assert wait_until(page, "first wave", lambda states: states[0] == "Ready")[1] != "Ready"
    assert len(desk.wave(address, 1)) == 20
    desk.pass_time(DAY)
    desk.look()
    assert len(desk.wave(address, 2)) == 180


def test_wave_learns_what_came_of_the_one_before(site, desk):
    site.make()
    address = desk.plan(waves="2", first="50")
    desk.pass_time(DAY)
    desk.look()
    before = site.engine.store.experiments.record("sale").learned_version
    for row in desk.wave(address, 1):
        site.engine.reward([Reward(row["decision_id"], "e", "click")])
    desk.pass_time(2 * DAY)
    desk.look()
    decision_id = desk.wave(address, 2)[0]["decision_id"]
    (stored,) = site.engine.store.log.decisions([decision_id]).values()
    assert stored.policy_version > before


def test_wave_that_is_interrupted_goes_on_and_decides_nothing_twice(site, desk, monkeypatch):
    site.make()
    people = "email\n" + "".join(f"u-{i}@shop.example\n" for i in range(4000))
    address = desk.plan(people, waves="2", first="75")
    desk.pass_time(DAY)
    choose, calls = site.engine.choose, []

    def fail_in_the_middle(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise Unavailable("the database went away")
        return choose(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(site.engine, "choose", fail_in_the_middle)
        assert desk.look() == 0
    assert "the database went away" in desk.visitor.get(address).text
    assert desk.upload_of(address).waves[0].rows > 0
    uploads = site.app.extensions["bandits.uploads"]
    with uploads.open_answer(desk.upload_of(address), 0) as answer:
        answer.write(b"half of a li")
    assert desk.look() == 1
    rows = desk.wave(address, 1)
    assert len(rows) == len({row["decision_id"] for row in rows}) == 3000
    assert len(calls) == 3
    desk.pass_time(DAY)
    desk.look()
    both = [*rows, *desk.wave(address, 2)]
    assert len(both) == 4000
    assert {row["subject_id"] for row in both} == {f"u-{i}@shop.example" for i in range(4000)}


def test_wave_that_is_late_moves_those_after_it(site, desk):
    site.make()
    desk.plan(waves="3", gap="2", unit="days")
    desk.pass_time(DAY + 5 * 3600)
    assert desk.look() == 1
    desk.pass_time(2 * DAY - 60)
    assert desk.look() == 0
    desk.pass_time(120)
    assert desk.look() == 1


def test_waves_of_a_paused_campaign_wait(site, desk):
    site.make()
    address = desk.plan()
    site.engine.pause("sale", by="ann")
    desk.pass_time(2 * DAY)
    assert desk.look() == 0
    assert "This campaign is paused." in desk.visitor.get(address).text
    site.engine.start("sale", by="ann")
    assert desk.look() == 1


def test_wave_prepared_early_leaves_the_others_at_their_times(site, desk):
    site.make()
    address = desk.plan(waves="2")
    assert desk.visitor.post(f"{address}/waves/2/prepare").status_code == 302
    desk.visitor.post(f"{address}/waves/1/prepare")
    page = lambda: desk.states(address)  # noqa: E731
    assert wait_until(page, "first wave", lambda s: s[0] == "Ready")[1] == "Waits for its time"
    assert desk.upload_of(address).waves[1].at == pytest.approx(NOW + 2 * DAY, abs=60)


def test_waves_move_and_are_cancelled(site, desk):
    site.make()
    address = desk.plan()
    desk.pass_time(DAY)
    desk.look()
    desk.visitor.post(f"{address}/waves/move", {"start/local": desk.local(5 * DAY)})
    at = [wave.at - site.clock() for wave in desk.upload_of(address).waves]
    assert at[1:] == pytest.approx([5 * DAY, 6 * DAY, 7 * DAY], abs=60)
    desk.visitor.post(f"{address}/waves/move", {"start/local": desk.local(-DAY)})
    assert "Nothing was moved: that time is over." in desk.visitor.get(address).text
    desk.visitor.post(f"{address}/waves/cancel")
    assert desk.states(address) == ["Ready", "Cancelled", "Cancelled", "Cancelled"]
    desk.pass_time(9 * DAY)
    assert desk.look() == 0
    assert len(all_decisions(site)) == 50


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"waves": "1"}, "Enter a number from 2 to 50."),
        ({"waves": "51"}, "Enter a number from 2 to 50."),
        ({"waves": "2.5"}, "Enter a whole number."),
        ({"waves": "x"}, "Enter a number above 0."),
        ({"waves": ""}, "Enter a number above 0."),
        ({"first": "100"}, "leaves at least one recipient for each wave"),
        ({"first": "0.1"}, "leaves at least one recipient for each wave"),
        ({"first": "nan"}, "Enter a number above 0."),
        ({"gap": "0"}, "Enter a number above 0."),
        ({"gap": ".5", "unit": "minutes"}, "Leave at least a minute between two waves."),
        ({"gap": "40"}, "more than 60 days from now"),
        ({"start/local": "soon"}, "Enter a date and a time"),
        ({"start/local": "2020-01-01T09:00"}, "This time is over."),
    ],
)
def test_plan_that_does_not_fit_is_told_beside_its_field(site, desk, typed, message):
    site.make()
    address = desk.check()
    answer = desk.submit(address, **typed)
    assert answer.status_code == 422
    assert message in answer.text
    assert answer.text.count('class="error"') == 1
    assert desk.upload_of(address).stage == "checked"


def test_list_with_fewer_recipients_than_waves_is_told(site, desk):
    site.make()
    address = desk.check("email\na@x.example\nb@x.example\na@x.example\n")
    answer = desk.submit(address, waves="3")
    assert "This list has 2 recipients: plan at most as many waves." in answer.text
    assert desk.submit(address, waves="2", first="50").status_code == 302


def test_recipient_in_several_rows_is_in_one_wave_with_one_version(site, desk):
    site.make()
    address = desk.plan(PEOPLE + PEOPLE.split("\n", 1)[1], waves="2", first="50")
    desk.pass_time(2 * DAY)
    desk.look()
    rows = desk.wave(address, 1)
    assert len(rows) == 200
    assert len({row["subject_id"] for row in rows}) == 100
    assert len({row["decision_id"] for row in rows}) == 100


def test_last_wave_gets_the_version_ahead_and_the_control_group_the_control(site, desk):
    site.make(holdout=0.3, floor=0.01)
    address = desk.plan(waves="2", first="60", gap="3", best="yes")
    desk.pass_time(DAY)
    desk.look()
    for row in desk.wave(address, 1):
        if row["subject_line"] == "b" and row["holdout"] == "false":
            site.engine.reward([Reward(row["decision_id"], "e", "click")])
    desk.pass_time(4 * DAY)
    assert desk.look() == 1
    rows = desk.wave(address, 2)
    held_out = [row for row in rows if row["holdout"] == "true"]
    others = [row for row in rows if row["holdout"] == "false"]
    record = site.engine.store.experiments.record("sale")
    control = record.configuration.experiment.control_variants()
    assert {(row["subject_line"], row["content"], row["discount"]) for row in held_out} == {
        tuple(control)
    }
    versions = {(row["subject_line"], row["content"], row["discount"]) for row in others}
    assert len(versions) == 1
    assert versions.pop()[0] == "b"
    receipt = site.engine.receipt(others[0]["decision_id"])
    assert receipt.derived
    assert receipt.propensity == 1.0


def test_wave_is_reported_as_sent_by_itself(site, desk):
    site.make(await_activation=True)
    address = desk.plan(waves="2", first="50")
    desk.pass_time(DAY)
    desk.look()
    assert "Report as sent" in desk.visitor.get(address).text
    desk.visitor.post(f"{address}/waves/1/sent")
    page = lambda: desk.states(address)  # noqa: E731
    wait_until(page, "report", lambda states: states[0] == "Ready, reported as sent")
    started = [d for d in all_decisions(site) if d.started_at is not None]
    assert len(started) == 100


def test_page_warns_of_a_wave_before_results_of_the_one_before(site, desk):
    slow = {"metrics": {"click": {}}, "window_seconds": 2 * DAY, "maturity_seconds": 2 * DAY}
    site.make(reward=slow)
    address = desk.check()
    typed = desk.visitor.form(address, "waves")
    assert (typed["gap"], typed["unit"]) == ("2", "days")  # the form begins with what works
    page = desk.visitor.get(desk.plan(gap="1")).text
    assert page.count("Move this wave to learn from them.") == 3
    page = desk.visitor.get(desk.plan(gap="2", columns={"anew": "on"})).text
    assert "Move this wave" not in page


def test_list_is_kept_until_a_week_after_its_last_wave(site, desk):
    site.make()
    address = desk.plan(waves="2", gap="20")
    uploads = site.app.extensions["bandits.uploads"]
    for days, kept in ((20, 1), (27.9, 1), (28.1, 0)):
        uploads.sweep(NOW + days * DAY)
        assert len(uploads.list_for("sale")) == kept
    assert desk.visitor.get(address).status_code == 404


def test_uploader_is_told_once_of_each_wave(site, desk):
    site.make()
    outgoing = site.store.outgoing
    hook = ("hook", "webhook", "https://x.example/", ["file_ready"])
    outgoing.alerts.add_target(*hook, at=1.0, by="ann")
    desk.plan(waves="2")
    for _ in range(2):
        desk.pass_time(DAY)
        desk.look()
        desk.look()
    subjects = [notice.content["subject"] for notice in outgoing.outbox.latest()]
    assert sorted(subjects) == [f"Wave {n} of people.csv is ready" for n in (1, 2)]

"""Guardrails pause and alert within one fold, in every database, and sums agree with the log."""

from datetime import UTC, datetime

import numpy as np
import pytest
from msgspec.structs import replace

from bandits.actors import PROGRAM
from bandits.engine import Engine
from bandits.engine.fold import fold
from bandits.engine.guardrail_watch import GuardrailWatch, alarm_wealth
from bandits.errors import InvalidInput, NotFound, WrongState
from bandits.guardrails import Guardrail
from bandits.inference.guardrail_sums import GuardrailSums
from bandits.schemas import Request, Reward, Withdrawal
from bandits.store.values import Deeds
from storage.snapshots.verify import compare

HOUR, DAY = 3600.0, 86_400.0
NOW = 1_800_000_000.0
RULE = {"metrics": {"click": {}}, "window_seconds": 10 * DAY, "maturity_seconds": HOUR}
TWO = [
    {"key": "subject", "variants": [{"key": v} for v in "ab"]},
    {"key": "discount", "variants": [{"key": v} for v in ("none", "ten")]},
]
COMPLAINTS = {"event": "complaint", "limit": 0.003, "action": "pause"}


@pytest.fixture
def now() -> list[float]:
    return [NOW]


@pytest.fixture
def mail(engine, sender, now):
    return Mail(engine, sender, now)


class Mail:
    """A campaign whose recipients complain of some versions."""

    def __init__(self, engine: Engine, sender, now: list[float]) -> None:
        self.engine, self.sender, self.now = engine, sender, now
        self.store = engine.store
        self._count = iter(range(10**6))

    def start(self, *guardrails, **declared) -> None:
        self.sender.start(**({"reward": RULE, "guardrails": list(guardrails)} | declared))

    def send(self, n: int, **variants: str) -> list[str]:
        """Choose for n recipients; return the decisions of an arm, or of those with a variant."""
        requests = [Request(f"u-{next(self._count)}") for _ in range(n)]
        decisions = self.engine.choose("spring", requests)
        return [
            d.decision_id
            for d in decisions
            if not d.holdout and all(d.slots[s]["variant"] == v for s, v in variants.items())
        ]

    def report(self, decision_ids, metric: str = "complaint") -> None:
        happened = datetime.fromtimestamp(self.now[0], UTC)
        rewards = [Reward(d, f"e-{next(self._count)}", metric, 1.0, happened) for d in decision_ids]
        assert self.engine.reward(rewards).accepted == len(rewards)

    def learn(self, after: float = 60.0) -> None:
        self.now[0] += after
        self.engine.learn("spring")
        self.verify()

    def verify(self) -> GuardrailSums:
        """Read the sums of guardrails, after seeing that the log says the same."""
        with self.store.snapshots.audit("spring") as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []
        record = self.record
        snapshot = self.store.snapshots.snapshot("spring", record.learned_version)
        return GuardrailSums.load(snapshot.guardrails, len(record.configuration.arms))

    @property
    def record(self):
        return self.store.experiments.record("spring")

    @property
    def report_now(self):
        return self.engine.results("spring").guardrails

    def edit(self, **changes) -> None:
        configuration = self.record.configuration
        changed = replace(configuration.experiment, **changes)
        self.engine.edit("spring", changed, version=configuration.version, by="ann@example.com")

    def sent(self) -> set[str]:
        """Name the variants of the first slot that can be sent."""
        configuration = self.record.configuration
        return {configuration.arms[k].variants[0] for k in configuration.eligible()}

    def audit_log(self, action: str):
        changes = self.store.accounts.changes(subject="experiment:spring", limit=50)
        return [change for change in changes if change.action == action]


def test_guardrail_pauses_a_version_within_one_fold(mail):
    mail.start(COMPLAINTS)
    bad = mail.send(1500, subject="b")
    mail.report(bad[:40])
    mail.learn()
    assert mail.sent() == {"a", "c"}
    (act,) = mail.report_now.acts
    assert (act.variants, act.events, act.emails) == ({"subject": "b"}, 40, len(bad))
    assert act.at == datetime.fromtimestamp(mail.now[0], UTC)
    assert not act.undone
    (entry,) = mail.audit_log("guardrail pause")
    assert entry.by == "guardrail"
    assert (entry.after["emails"], entry.after["events"]) == (len(bad), 40)
    (edit,) = mail.audit_log("configure")
    assert edit.before["slots"][0]["variants"][1]["paused"] is False
    assert edit.after["slots"][0]["variants"][1]["paused"] is True
    assert mail.send(60, subject="b") == []


@pytest.mark.parametrize("declared", [False, True])
def test_guardrail_counts_events_of_emails_that_were_counted_before(mail, declared):
    rule = RULE | {"metrics": {"click": {}, "complaint": {"weight": -1.0}}}
    mail.start(COMPLAINTS, reward=rule if declared else RULE)
    emails = mail.send(1500, subject="b")
    mail.learn()
    mail.report(emails[:20])
    mail.learn()
    assert mail.sent() == {"a", "c"}
    mail.report(emails[20:25])
    mail.learn(after=2 * HOUR)  # learned by now
    mail.report(emails[25:30])
    mail.learn()
    assert mail.report_now.watched[0].versions[0].events == 30


def test_guardrail_lets_versions_within_the_limit_be(mail):
    mail.start(COMPLAINTS)
    mail.report(mail.send(1500, subject="b")[:4])
    mail.learn()
    assert mail.sent() == {"a", "b", "c"}
    (guardrail,) = mail.report_now.watched
    figures = {v.variants["subject"]: (v.events, v.state) for v in guardrail.versions}
    assert figures == {"b": (4, "watched"), "c": (0, "watched")}


def test_guardrail_never_pauses_the_control(mail):
    mail.start(COMPLAINTS)
    mail.report(mail.send(1500))  # everybody complains
    mail.learn()
    assert mail.sent() == {"a"}
    assert [act.variants["subject"] for act in mail.report_now.acts] == ["b", "c"]
    mail.report(mail.send(300))
    mail.learn()
    assert mail.sent() == {"a"}


def test_guardrail_acts_once_while_it_is_in_force(mail):
    mail.start(COMPLAINTS)
    bad = mail.send(1500, subject="b")
    mail.report(bad[:40])
    mail.learn()
    mail.report(bad[40:80])
    mail.learn()
    assert len(mail.report_now.acts) == 1


def test_guardrail_alert_pauses_nothing(mail):
    mail.start(COMPLAINTS | {"action": "alert"})
    bad = mail.send(1500, subject="b")
    mail.report(bad[:40])
    mail.learn()
    assert mail.sent() == {"a", "b", "c"}
    assert mail.report_now.watched[0].versions[0].state == "alerted"
    assert len(mail.audit_log("guardrail alert")) == 1
    assert mail.audit_log("configure") == []
    mail.report(bad[40:60])
    mail.learn()
    assert len(mail.report_now.acts) == 1


def test_guardrail_undo_sends_it_again_and_counts_anew(mail):
    mail.start(COMPLAINTS)
    bad = mail.send(1500, subject="b")
    mail.report(bad[:40])
    mail.learn()
    mail.engine.undo_guardrail("spring", 0, by="ann@example.com")
    assert mail.sent() == {"a", "b", "c"}
    assert mail.report_now.acts[0].undone
    (entry,) = mail.audit_log("guardrail undo")
    assert entry.by == "ann@example.com"
    mail.report(bad[40:120])  # late complaints of the emails before
    mail.send(300)
    mail.learn()
    assert mail.sent() == {"a", "b", "c"}
    anew = mail.report_now.watched[0].versions[0]
    assert anew.events == 0
    assert 0 < anew.emails < 300
    mail.report(mail.send(1500, subject="b")[:40])
    mail.learn()
    assert mail.sent() == {"a", "c"}
    assert [act.undone for act in mail.report_now.acts] == [True, False]
    with pytest.raises(NotFound):
        mail.engine.undo_guardrail("spring", 0, by="ann@example.com")


def test_guardrail_undo_leaves_the_others_counts(mail):
    mail.start(COMPLAINTS)
    decisions = mail.send(1500, subject="b")
    mail.report(decisions[:40])
    mail.learn()
    before = mail.report_now.watched[0].versions[1].emails
    mail.engine.undo_guardrail("spring", 0, by="ann@example.com")
    mail.send(300)
    mail.learn()
    assert mail.report_now.watched[0].versions[1].emails > before


def test_guardrail_pause_is_undone_by_an_edit_that_sends_it_again(mail):
    mail.start(COMPLAINTS)
    mail.report(mail.send(1500, subject="b")[:40])
    mail.learn()
    slot = mail.record.configuration.experiment.slots[0]
    variants = tuple(replace(v, paused=False) for v in slot.variants)
    mail.edit(slots=(replace(slot, variants=variants),))
    assert mail.report_now.acts[0].undone
    mail.send(30)
    mail.learn()
    assert mail.sent() == {"a", "b", "c"}


def test_guardrail_alert_undone_counts_anew(mail):
    mail.start(COMPLAINTS | {"action": "alert"})
    mail.report(mail.send(1500, subject="b")[:40])
    mail.learn()
    mail.engine.undo_guardrail("spring", 0, by="ann@example.com")
    assert mail.report_now.watched[0].versions[0].state == "watched"
    assert mail.report_now.watched[0].versions[0].emails == 0


def test_guardrail_of_parts_pauses_one_combination(mail):
    mail.start(COMPLAINTS, slots=TWO)
    mail.report(mail.send(4000, subject="b", discount="ten")[:40])
    mail.learn()
    assert mail.record.configuration.experiment.paused == ({"subject": "b", "discount": "ten"},)
    arms = mail.record.configuration.eligible().tolist()
    assert arms == [0, 1, 2]
    results = mail.engine.results("spring")
    assert [arm.paused for arm in results.arms] == [False, False, False, True]
    assert results.arms[3].share_now == pytest.approx(0.0)
    mail.engine.undo_guardrail("spring", 0, by="ann@example.com")
    assert mail.record.configuration.eligible().tolist() == [0, 1, 2, 3]


def test_guardrail_of_a_variant_pauses_it_in_every_version(mail):
    mail.start(COMPLAINTS | {"scope": "variant", "limit": 0.04}, slots=TWO)
    mail.report(mail.send(4000, discount="ten")[:120])  # as many of each subject line
    mail.learn()
    (act,) = mail.report_now.acts
    assert act.variants == {"discount": "ten"}
    assert mail.record.configuration.eligible().tolist() == [0, 2]


@pytest.mark.parametrize("scope", ["arm", "variant"])
def test_guardrail_against_the_control_pauses_what_is_worse(mail, scope):
    worse = {"event": "unsubscribe", "worse_than_control": 1.5, "action": "pause", "scope": scope}
    mail.start(worse)
    emails = mail.send(1500)
    stored = mail.store.log.decisions(emails)
    by_arm = [[i for i in emails if stored[i].arm == k] for k in range(3)]
    mail.report([*by_arm[0][:20], *by_arm[1][:80], *by_arm[2][:22]], "unsubscribe")
    mail.learn()
    (act,) = mail.report_now.acts
    assert act.variants == {"subject": "b"}
    assert (act.events, act.control_events) == (80, 20)
    assert act.control_emails == len(by_arm[0])


def test_guardrail_that_changed_counts_emails_from_then_on(mail):
    mail.start(COMPLAINTS | {"limit": 0.05})
    mail.report(mail.send(1500, subject="b")[:40])
    mail.learn()
    assert mail.report_now.watched[0].versions[0].events == 40
    mail.edit(guardrails=(Guardrail("complaint", limit=0.003, action="pause"),))
    mail.send(300)
    mail.learn()
    assert mail.sent() == {"a", "b", "c"}
    assert mail.report_now.watched[0].versions[0].events == 0
    mail.report(mail.send(1500, subject="b")[:40])
    mail.learn()
    assert mail.sent() == {"a", "c"}


def test_guardrail_acts_also_while_the_campaign_is_paused(mail):
    mail.start(COMPLAINTS)
    bad = mail.send(1500, subject="b")
    mail.engine.pause("spring", by="test")
    mail.report(bad[:40])
    mail.learn()
    assert mail.record.state == "paused"
    assert mail.sent() == {"a", "c"}


def test_guardrail_lets_what_is_stopped_be(mail):
    mail.start(COMPLAINTS)
    bad = mail.send(1500, subject="b")
    mail.engine.stop("spring", by="test")
    mail.report(bad[:40])
    mail.learn()
    assert mail.sent() == {"a", "b", "c"}
    with pytest.raises((NotFound, WrongState)):
        mail.engine.undo_guardrail("spring", 0, by="test")


def test_guardrail_leaves_out_cancelled_held_out_and_void_emails(mail):
    mail.start(COMPLAINTS | {"limit": 0.4}, holdout=0.3)
    decisions = mail.send(1000)
    mail.report(decisions[:100])
    mail.learn()
    counted = mail.verify()
    total = sum(cell[:2].sum(axis=1) for cell in counted.cells.values())
    assert total.tolist() == [len(decisions), 100]
    mail.engine.cancel(decisions[:50])
    mail.learn()
    total = sum(cell[:2].sum(axis=1) for cell in mail.verify().cells.values())
    assert total.tolist() == [len(decisions) - 50, 50]
    mail.now[0] += 10
    mail.engine.void(Deeds(PROGRAM, 0.0, mail.now[0]), by="test", experiment="spring")
    assert mail.verify().heights == {}


def test_guardrail_sums_hold_through_a_window_and_retention(mail):
    worse = {"event": "bounce", "worse_than_control": 1.0, "action": "alert"}
    mail.start(COMPLAINTS, worse, retention_days=20)
    for _ in range(3):
        decisions = mail.send(200)
        mail.report(decisions[:3])
        mail.report(decisions[5:20], "bounce")
        mail.learn(after=2 * HOUR)
        mail.now[0] += DAY
    mail.learn(after=11 * DAY)
    before = mail.verify()
    mail.now[0] += 30 * DAY
    assert mail.engine.retain("spring") == 600
    after = mail.verify()
    assert before.heights == after.heights
    assert np.concatenate([*after.cells.values()]).sum() == pytest.approx(
        np.concatenate([*before.cells.values()]).sum()
    )


def test_guardrail_sums_follow_erasure_and_withdrawal(mail):
    worse = {"event": "bounce", "worse_than_control": 1.0}
    mail.start(COMPLAINTS | {"limit": 0.5}, worse)
    decisions = mail.send(60)
    mail.report(decisions[:9])
    mail.report(decisions[:30], "bounce")
    mail.learn()

    def totals():
        sums = mail.verify()
        cells = sums.by_period("complaint>0.5").cells
        return cells.sum(axis=(0, 2)).tolist()

    assert totals() == [60, 9]
    mail.engine.withdraw([Withdrawal(decisions[0], "e-60")])
    mail.learn()
    assert totals() == [60, 8]
    mail.engine.erase("u-1", by="test")
    mail.learn()
    assert totals() == [59, 7]


CONTEXT = [{"name": "age", "kind": "number", "low": 0.0, "high": 1.0}]


def test_guardrail_against_the_control_weighs_by_each_recipients_shares(mail):
    worse = {"event": "bounce", "worse_than_control": 2.0, "action": "pause"}
    policy = {"name": "lints"}
    mail.start(worse, policy=policy, context=CONTEXT)
    for _ in range(2):  # the second one by shares that were learned, and differ by recipient
        requests = [Request(f"v-{mail.now[0]}-{i}", {"age": i % 2}) for i in range(300)]
        decisions = mail.engine.choose("spring", requests)
        by_variant = {v: [d for d in decisions if d.slots["subject"]["variant"] == v] for v in "ab"}
        clicked = [d.decision_id for i, d in enumerate(decisions) if i % 2]
        mail.report(clicked, "click")
        mail.report([d.decision_id for d in by_variant["b"]][:20], "bounce")
        mail.report([d.decision_id for d in by_variant["a"]][:2], "bounce")
        mail.learn(after=2 * HOUR)
    cells = mail.verify().by_period("bounce>2.0x").cells
    assert cells[:, 2:, 1].any()
    assert [act.variants for act in mail.report_now.acts] == [{"subject": "b"}]


def test_guardrail_shares_its_doubt_among_all_that_is_watched(mail):
    declared = [COMPLAINTS, {"event": "bounce", "limit": 0.01, "scope": "variant"}]
    mail.start(*declared, slots=TWO)
    assert alarm_wealth(mail.record.configuration) == pytest.approx((3 + 2) / 0.05)


class BusyExperiments:
    """Experiments that a person edits right before the first act is stored."""

    def __init__(self, mail: Mail) -> None:
        self.mail, self.edited = mail, False

    def record(self, key: str):
        return self.mail.store.experiments.record(key)

    def configure(self, key: str, *args, **options):
        if not self.edited:
            self.edited = True
            self.mail.edit(name="Another name")
        return self.mail.store.experiments.configure(key, *args, **options)


class BusyStore:
    def __init__(self, experiments: BusyExperiments) -> None:
        self.experiments = experiments


def test_guardrail_acts_also_where_a_person_edits_at_the_same_moment(mail):
    mail.start(COMPLAINTS | {"limit": 0.1})
    mail.report(mail.send(1500, subject="b"))
    mail.now[0] += 60.0
    snapshot = fold(mail.store, "spring", now=mail.now[0])
    watch = GuardrailWatch(BusyStore(BusyExperiments(mail)))
    watch.act("spring", snapshot)
    assert mail.record.configuration.experiment.name == "Another name"
    assert mail.sent() == {"a", "c"}
    assert len(mail.report_now.acts) == 1


def test_experiment_refuses_guardrails_that_say_nothing(mail):
    mail.start(COMPLAINTS)
    cases = (
        (Guardrail("complaint"), "/guardrails/0", "exactly one of"),
        (Guardrail("complaint", limit=0.1, worse_than_control=2.0), "/guardrails/0", "exactly one"),
        (Guardrail("complaint", limit=1.0), "/guardrails/0/limit", "above 0 and below 1"),
        (Guardrail("complaint", limit=float("nan")), "/guardrails/0/limit", "above 0"),
        (
            Guardrail("complaint", worse_than_control=0.5),
            "/guardrails/0/worse_than_control",
            "from 1 to 100",
        ),
        (Guardrail("click", limit=0.1), "/guardrails/0/event", "bounce, complaint, refund"),
        (Guardrail("clik", limit=0.1), "/guardrails/0/event", "bounce, complaint, refund"),
    )
    for guardrail, place, words in cases:
        with pytest.raises(InvalidInput) as error:
            mail.edit(guardrails=(guardrail,))
        (fault,) = error.value.faults
        assert (fault.pointer, words in fault.detail) == (place, True), fault
    twice = Guardrail("complaint", limit=0.1)
    with pytest.raises(InvalidInput, match="twice"):
        mail.edit(guardrails=(twice, replace(twice, action="pause")))


def test_experiment_refuses_to_pause_the_control_as_a_combination(mail):
    mail.start(slots=TWO)
    for rule in ({"subject": "a", "discount": "none"}, {"subject": "a"}):
        with pytest.raises(InvalidInput, match="must not be the control"):
            mail.edit(paused=(rule,))
    with pytest.raises(InvalidInput, match="unknown variant"):
        mail.edit(paused=({"subject": "z"},))
    with pytest.raises(InvalidInput, match="at least one slot"):
        mail.edit(paused=({},))
    mail.edit(paused=({"discount": "ten"},))
    assert mail.record.configuration.eligible().tolist() == [0, 2]

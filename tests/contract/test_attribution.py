"""Events of a subject are credited to the right decision, once, in every database."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from bandits.engine import Engine
from bandits.errors import IdReused, InvalidInput
from bandits.schemas import Request, Reward
from bandits.store.values import Deeds
from storage.snapshots.verify import compare

DAY = 86_400.0
WINDOW = 7 * DAY
ORDERS = {
    "policy": {"name": "uniform"},
    "reward": {
        "metrics": {"order": {"count": "sum", "low": -500.0, "high": 500.0}, "click": {}},
        "window_seconds": WINDOW,
        "maturity_seconds": DAY,
    },
    "attribution": "last",
}
CLICKS = {**ORDERS, "reward": {"metrics": {"click": {}}, "window_seconds": WINDOW}}


@pytest.fixture
def now():
    return [100 * DAY]


@pytest.fixture
def shop(engine, sender, now):
    return Shop(engine, sender, now)


class Shop:
    """Campaigns, and a shop that knows who ordered, and when."""

    def __init__(self, engine, sender, now):
        self.engine, self.sender, self.now, self.store = engine, sender, now, engine.store

    def start(self, key, **declared):
        self.sender.start(key, **(ORDERS | declared))

    def send(self, key, subject="ann", decision_id=None, **later):
        """Send an email, and let an hour pass."""
        decision_id = decision_id or f"{key}-{subject}-{len(self.sent(key))}"
        self.engine.choose(key, [Request(subject, decision_id=decision_id)])
        self.now[0] += later.get("after", 3600.0)
        return decision_id

    def sent(self, key):
        return self.store.log.latest_decisions(key, limit=1000)

    def order(self, event_id="o-1", value=10.0, *, at=None, subject="ann", **more):
        """Make an order of now, or of a time."""
        occurred_at = datetime.fromtimestamp(self.now[0] if at is None else at, UTC)
        reward = Reward("", event_id, "order", value, occurred_at, subject_id=subject)
        return replace(reward, **more)

    def report(self, *orders, **options):
        return self.engine.reward(list(orders), **options)

    def earned(self, *ids):
        """Return the values of the orders of each decision that count."""
        return [
            sum(e.value for e in self.store.log.events(i) if e.metric == "order" and not e.late)
            for i in ids
        ]

    def agrees(self, key):
        """See that the log, summed anew, is what folds have summed."""
        self.engine.learn(key)
        with self.store.snapshots.audit(key) as audit:
            assert [d for c in compare(audit, lambda _: None) for d in c.differences()] == []


def test_order_goes_to_the_newest_email_before_it(shop):
    shop.start("spring")
    first, second = shop.send("spring"), shop.send("spring")
    other = shop.send("spring", "bob")
    between = shop.store.log.decisions([second])[second].made_at - 60.0
    receipt = shop.report(shop.order("o-1"), shop.order("o-2", 5.0, at=between))
    assert (receipt.accepted, receipt.unattributed) == (2, [])
    assert shop.earned(first, second, other) == [5.0, 10.0, 0.0]
    events = shop.store.log.events(first)
    assert [(e.event_id, e.occurred_at) for e in events] == [("o-2", between)]
    shop.agrees("spring")


def test_order_counts_for_the_last_of_two_campaigns_that_run(shop):
    shop.start("spring")
    shop.start("summer")
    shop.start("silent", attribution=None)
    spring, summer = shop.send("spring"), shop.send("summer")
    silent = shop.send("silent")
    later = shop.send("spring", "bob")
    shop.report(shop.order(), shop.order("o-2", 7.0, subject="bob"))
    assert shop.earned(spring, summer, silent, later) == [0.0, 10.0, 0.0, 7.0]


def test_order_counts_in_every_campaign_that_takes_all(shop):
    shop.start("spring", attribution="all")
    shop.start("summer", attribution="all")
    shop.start("autumn")
    old, spring = shop.send("spring"), shop.send("spring")
    summer, autumn = shop.send("summer"), shop.send("autumn")
    receipt = shop.report(shop.order())
    assert receipt.accepted == 3
    assert shop.earned(old, spring, summer, autumn) == [0.0, 10.0, 10.0, 10.0]
    newer = shop.send("summer")  # now the last one takes all, and so does spring
    assert shop.report(shop.order("o-2")).accepted == 2
    assert shop.earned(spring, newer, autumn) == [20.0, 10.0, 10.0]


def test_order_names_its_campaign(shop):
    shop.start("spring")
    shop.start("summer")
    spring, summer = shop.send("spring"), shop.send("summer")
    shop.report(shop.order(experiment="spring"))
    assert shop.earned(spring, summer) == [10.0, 0.0]


def test_order_goes_only_where_its_metric_is_declared(shop):
    shop.start("spring")
    shop.start("clicks", **CLICKS)
    spring, clicks = shop.send("spring"), shop.send("clicks")
    shop.report(shop.order(), shop.order("c-1", 1.0, metric="click"))
    assert shop.earned(spring, clicks) == [10.0, 0.0]
    assert [e.metric for e in shop.store.log.events(clicks)] == ["click"]
    shop.report(shop.order("r-1", 1.0, metric="reply"))  # that none declares, and every one takes
    shop.report(shop.order("o-2", 1.0, experiment="clicks"))  # which it takes by name too
    assert {e.metric for e in shop.store.log.events(clicks)} == {"click", "reply", "order"}


def test_order_after_the_window_belongs_to_nobody(shop, now):
    shop.start("spring")
    spring = shop.send("spring")
    made_at = shop.store.log.decisions([spring])[spring].made_at
    now[0] += 2 * WINDOW
    receipt = shop.report(
        shop.order("late", at=made_at + WINDOW + 1.0),
        shop.order("before", at=made_at - 301.0),
        shop.order("other", subject="bob", at=made_at),
        shop.order("last", 3.0, at=made_at + WINDOW),
        shop.order("clock", 4.0, at=made_at - 299.0),  # of a clock that is behind
    )
    assert (receipt.accepted, receipt.unattributed) == (2, ["late", "before", "other"])
    assert shop.earned(spring) == [7.0]


def test_retry_credits_nothing_new_though_another_email_came_between(shop, now):
    shop.start("spring")
    shop.start("summer")
    spring = shop.send("spring")
    order = shop.order(at=now[0] - 600.0)
    assert shop.report(order).accepted == 1
    summer = shop.send("summer")
    now[0] += 60.0
    again = shop.report(order, shop.order("o-1"))  # also with a later time
    assert (again.accepted, again.repeated) == (0, 2)
    assert shop.earned(spring, summer) == [10.0, 0.0]
    assert shop.report(shop.order("o-2")).accepted == 1
    assert shop.earned(spring, summer) == [10.0, 10.0]


def test_order_of_a_void_email_is_credited_anew_when_it_is_sent_again(shop, now):
    """A thief's email was the newest: before, the order stayed with it once it was void."""
    shop.start("spring")
    spring, other = shop.send("spring"), shop.send("spring", "bob")
    shop.engine.choose("spring", [Request("ann", decision_id="stolen")], actor="key:9")
    now[0] += 60.0
    orders = [
        shop.order(),
        shop.order("r-1", -4.0, original_event_id="o-1"),
        shop.order("o-2", 3.0, subject="bob"),
    ]
    assert shop.report(*orders).accepted == 3
    shop.agrees("spring")
    deeds = Deeds("key:9", 0.0, now[0])
    void = shop.engine.void(deeds, by="anna").experiments[0].void
    again = shop.report(*orders)
    assert (again.accepted, again.repeated) == (2, 1)
    assert shop.report(*orders).repeated == 3
    assert shop.earned(spring, other) == [6.0, 3.0]
    with pytest.raises(IdReused):
        shop.report(shop.order(subject="bob"))
    shop.agrees("spring")
    shop.engine.restore(void, by="anna")
    assert shop.report(*orders).repeated == 3
    shop.agrees("spring")


def test_order_stays_where_it_counts_when_another_campaigns_email_is_void(shop, now):
    for key in ("spring", "summer", "autumn"):
        shop.start(key, attribution="all")
    spring, summer = shop.send("spring"), shop.send("summer")
    shop.engine.choose("summer", [Request("ann", decision_id="stolen")], actor="key:9")
    now[0] += 60.0
    order = shop.order()
    assert shop.report(order).accepted == 2
    assert shop.earned(spring, summer, "stolen") == [10.0, 0.0, 10.0]
    shop.engine.void(Deeds("key:9", 0.0, now[0]), by="anna")
    newer = shop.send("spring", after=0.0)  # at the very time of the order
    again = shop.report(order)
    assert (again.accepted, again.repeated) == (1, 1)
    assert shop.earned(spring, newer, summer) == [10.0, 0.0, 10.0]


def test_order_of_a_cancelled_email_is_credited_anew_when_it_is_sent_again(shop, now):
    shop.start("spring")
    first, second = shop.send("spring"), shop.send("spring")
    order = shop.order()
    assert shop.report(order).accepted == 1
    shop.engine.cancel([second])
    assert shop.report(order).accepted == 1
    assert shop.report(order).repeated == 1
    assert shop.earned(first) == [10.0]
    shop.agrees("spring")
    shop.engine.cancel([first])  # nothing is left to credit it to
    receipt = shop.report(order)
    assert (receipt.accepted, receipt.repeated, receipt.unattributed) == (0, 0, ["o-1"])


def test_order_of_a_void_email_is_credited_once_though_two_send_it_again_at_once(shop, now):
    """The second sees the void, and then that the first has credited the order meanwhile."""
    shop.start("spring")
    spring = shop.send("spring")
    shop.engine.choose("spring", [Request("ann", decision_id="stolen")], actor="key:9")
    now[0] += 60.0
    order = shop.order()
    shop.report(order)
    shop.engine.void(Deeds("key:9", 0.0, now[0]), by="anna")
    attribute = shop.store.log.attribute
    other = Engine(shop.store, shop.engine.clock)  # of another process
    receipts = []

    def between(source, credited):
        if not receipts:
            receipts.append(None)
            receipts.append(other.reward([order]))
        return attribute(source, credited)

    shop.store.log.attribute = between
    assert shop.report(order).repeated == 1
    assert receipts[1].accepted == 1
    assert shop.earned(spring) == [10.0]


def test_order_of_a_void_email_stays_there_where_the_void_is_restored_meanwhile(shop, now):
    shop.start("spring")
    spring = shop.send("spring")
    shop.engine.choose("spring", [Request("ann", decision_id="stolen")], actor="key:9")
    now[0] += 60.0
    order = shop.order()
    shop.report(order)
    void = shop.engine.void(Deeds("key:9", 0.0, now[0]), by="anna").experiments[0].void
    attribute = shop.store.log.attribute

    def between(source, credited):
        shop.engine.restore(void, by="anna")
        return attribute(source, credited)

    shop.store.log.attribute = between
    assert shop.report(order).repeated == 1
    assert shop.earned(spring, "stolen") == [0.0, 10.0]


def test_retry_with_another_value_is_refused(shop):
    shop.start("spring")
    shop.send("spring")
    shop.report(shop.order())
    with pytest.raises(IdReused) as error:
        shop.report(shop.order("o-2"), shop.order(value=11.0))
    assert error.value.rows == [1]
    receipt = shop.report(shop.order("o-2"), shop.order(value=11.0), partial=True)
    assert receipt.accepted == 1
    assert [(r.row, r.id, r.reason) for r in receipt.refused] == [(1, None, "id_reused")]


def test_event_id_of_another_subject_is_refused(shop):
    shop.start("spring")
    spring, other = shop.send("spring"), shop.send("spring", "bob")
    shop.report(shop.order(subject="Ann"))
    with pytest.raises(IdReused) as error:
        shop.report(Reward(other, "o-1", "order", 1.0), shop.order(subject="bob"))
    assert error.value.rows == [1]
    with pytest.raises(IdReused) as error:
        shop.report(shop.order("o-2"), shop.order("o-2", subject="bob"))
    assert error.value.rows == [1]
    receipt = shop.report(shop.order("o-2"), shop.order("o-2", subject="bob"), partial=True)
    assert (receipt.accepted, [r.row for r in receipt.refused]) == (1, [1])
    assert shop.earned(spring, other) == [20.0, 0.0]


def test_refund_goes_where_its_order_went(shop):
    shop.start("spring", attribution="all")
    shop.start("summer", attribution="all")
    shop.report(shop.order("o-0"))  # of nobody
    spring, summer = shop.send("spring"), shop.send("summer")
    shop.report(shop.order())
    newer = shop.send("spring")
    refund = shop.order("r-1", -4.0, original_event_id="o-1", subject="ann's new id")
    assert [shop.report(refund).accepted, shop.report(refund).repeated] == [2, 2]
    assert shop.earned(spring, summer, newer) == [6.0, 6.0, 0.0]
    shop.report(shop.order("r-2", -3.0))  # which names no order, and so is of the newest
    shop.report(shop.order("r-3", -2.0, original_event_id="o-0"))  # or one of nobody
    assert shop.earned(spring, summer, newer) == [6.0, 1.0, -5.0]
    shop.agrees("spring")


def test_refund_may_come_in_one_call_with_its_order(shop):
    shop.start("spring")
    spring = shop.send("spring")
    refund = shop.order("r-1", -4.0, original_event_id="o-1")
    shop.send("spring")
    early = shop.order(at=shop.now[0] - 5400.0)
    assert shop.report(refund, early).accepted == 2
    assert shop.earned(spring) == [6.0]


def test_email_that_was_not_sent_is_passed_over(shop, now):
    shop.start("spring")
    shop.start("waits", await_activation=True)
    spring = shop.send("spring")
    cancelled, waiting = shop.send("spring"), shop.send("waits")
    activated = shop.send("waits", "bob")
    shop.engine.cancel([cancelled])
    assert shop.report(shop.order()).accepted == 1
    assert shop.earned(spring, cancelled, waiting) == [10.0, 0.0, 0.0]
    before = shop.order("b-0", subject="bob")
    now[0] += 3600.0
    shop.engine.activate([activated])
    now[0] += 3600.0
    receipt = shop.report(before, shop.order("b-1", subject="bob"))
    assert (receipt.accepted, receipt.unattributed) == (1, ["b-0"])
    assert shop.earned(activated) == [10.0]


def test_void_email_is_passed_over(shop, now):
    shop.start("spring")
    spring = shop.send("spring")
    shop.engine.choose("spring", [Request("ann", decision_id="stolen")], actor="key:9")
    shop.engine.cancel([spring], actor="key:9")
    now[0] += 60.0
    shop.engine.void(Deeds("key:9", 0.0, now[0]), by="anna")
    assert shop.report(shop.order()).accepted == 1
    assert shop.earned(spring, "stolen") == [10.0, 0.0]


def test_held_out_recipient_is_credited(shop):
    shop.start("spring", holdout=0.5)
    made = [shop.send("spring", f"u-{i}", after=1.0) for i in range(8)]
    stored = shop.store.log.decisions(made)
    assert {stored[i].holdout for i in made} == {False, True}
    assert shop.report(*(shop.order(f"o-{i}", subject=f"u-{i}") for i in range(8))).accepted == 8
    assert shop.earned(*made) == [10.0] * 8


def test_final_result_takes_no_order(shop, now):
    shop.start("spring")
    spring = shop.send("spring")
    shop.engine.stop("spring", by="test", ship={"subject": "a"})
    shipped = shop.send("spring")
    assert shop.report(shop.order()).accepted == 1
    assert shop.earned(spring, shipped) == [0.0, 10.0]  # it was sent last, and is never learned
    now[0] += WINDOW + DAY
    last = shop.send("spring")
    receipt = shop.report(shop.order("o-2"))
    assert (receipt.accepted, receipt.unattributed) == (0, ["o-2"])
    assert shop.earned(last) == [0.0]


def test_erased_subject_is_unknown(shop):
    shop.start("spring")
    shop.send("spring")
    order = shop.order()
    shop.report(order)
    assert shop.engine.erase("ann", by="test").decisions == 1
    receipt = shop.report(order)
    assert (receipt.accepted, receipt.repeated, receipt.unattributed) == (0, 0, ["o-1"])


def test_subject_is_matched_without_regard_to_case(shop):
    shop.start("spring")
    spring = shop.send("spring", "Ann@Shop.example", decision_id="d-1")
    assert shop.report(shop.order(subject="ann@shop.example ")).accepted == 1
    assert shop.earned(spring) == [10.0]


def test_rewards_of_both_kinds_come_in_one_call(shop):
    shop.start("spring")
    spring, other = shop.send("spring"), shop.send("spring", "bob")
    receipt = shop.report(
        Reward("nobody's", "o-1", "order", 1.0),
        shop.order("o-2"),
        shop.order("o-3", subject="nobody"),
        Reward(other, "o-4", "order", 2.0),
    )
    assert (receipt.accepted, receipt.unknown, receipt.unattributed) == (2, ["nobody's"], ["o-3"])
    assert shop.earned(spring, other) == [10.0, 2.0]


REFUSED = [
    ({"occurred_at": None}, "occurred_at", "is required with subject_id"),
    ({"decision_id": "d"}, "subject_id", "must not be given beside decision_id"),
    ({"metric": "odrer"}, "metric", "unknown metric 'odrer'"),
    ({"experiment": "silent"}, "experiment", "is not found by subject"),
    ({"experiment": "nothing"}, "experiment", "is not found by subject"),
    ({"value": 501.0}, "value", "must lie in [-500, 500]"),
    ({"event_id": ""}, "event_id", "is required"),
    ({"metric": ""}, "metric", "is required"),
    ({"subject_id": None}, "decision_id", "is required, or subject_id and occurred_at"),
    ({"subject_id": None, "decision_id": "d", "experiment": "spring"}, "experiment", "needs subj"),
]


@pytest.mark.parametrize(("changes", "place", "detail"), REFUSED)
def test_reward_that_does_not_fit_is_refused_with_its_place(shop, changes, place, detail):
    shop.start("spring")
    shop.start("silent", attribution=None)
    spring = shop.send("spring")
    fine, bad = shop.order(), replace(shop.order("o-2"), **changes)
    with pytest.raises(InvalidInput) as error:
        shop.report(fine, bad)
    (fault,) = error.value.faults
    assert fault.pointer == f"/rewards/1/{place}"
    assert fault.detail.startswith(detail)
    assert shop.earned(spring) == [0.0]
    receipt = shop.report(fine, bad, partial=True)
    assert (receipt.accepted, [r.row for r in receipt.refused]) == (1, [1])
    assert shop.earned(spring) == [10.0]


def test_subject_is_refused_where_no_campaign_is_found_so(shop):
    shop.start("silent", attribution=None)
    shop.send("silent")
    with pytest.raises(InvalidInput) as error:
        shop.report(shop.order())
    assert error.value.faults[0].pointer == "/rewards/0/subject_id"


def test_event_is_credited_once_though_two_report_it_at_once(shop):
    """The second finds another decision than the first, and yet goes where that went."""
    shop.start("spring")
    shop.start("summer")
    spring = shop.send("spring", after=0.0)
    order = shop.order(at=shop.now[0] + 1.0)
    summer = None
    shop.now[0] += 2.0
    attribute = shop.store.log.attribute
    other = Engine(shop.store, shop.engine.clock)  # of another process

    def between(source, credited):
        nonlocal summer
        if summer is None:
            shop.now[0] -= 2.0
            summer = shop.send("summer", after=2.0)
            assert other.reward([order]).accepted == 1
        return attribute(source, credited)

    shop.store.log.attribute = between
    assert shop.report(order).repeated == 1
    assert sum(shop.earned(spring, summer)) == 10.0


def test_decision_that_is_erased_meanwhile_is_not_credited(shop):
    shop.start("spring")
    first, second = shop.send("spring"), shop.send("spring", "bob")
    attribute = shop.store.log.attribute
    erased = []

    def between(source, credited):
        if not erased:
            erased.append(shop.engine.erase("ann", by="test"))
        return attribute(source, credited)

    shop.store.log.attribute = between
    receipt = shop.report(shop.order(), shop.order("o-2", subject="bob"))
    assert (receipt.accepted, receipt.unattributed) == (1, ["o-1"])
    assert shop.earned(first, second) == [0.0, 10.0]


def test_match_subjects_finds_the_email_of_each_time(shop, now):
    for key, attribution in (("spring", "last"), ("silent", None)):
        shop.start(key, attribution=attribution)
        first, second = shop.send(key), shop.send(key)
        times = [shop.store.log.decisions([i])[i].made_at for i in (first, second)]
        asked = [times[0] + 1.0, times[1] - 1.0, times[1], None, times[0] - 400.0]
        matches = shop.engine.match_subjects(key, ["ann"] * 5 + ["bob"], [*asked, None])
        assert matches == [first, first, second, second, None, None]

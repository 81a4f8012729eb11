"""Finding out why somebody got an email, by who they are."""

import re

import pytest

from bandits.schemas import Request, Reward
from webapp.pages.experiment.decisions import contribution_views
from webapp.pages.experiment.labels import reward_measure


def test_every_email_of_a_recipient_is_found_and_leads_to_its_receipt(site, viewer):
    site.make()
    decisions = site.engine.choose("sale", [Request("ann@shop.example"), Request("bob")])
    decisions += site.engine.choose("sale", [Request("ann@shop.example")])
    page = viewer.post("/decisions", {"who": " ann@shop.example "}).text
    for decision, hers in zip(decisions, (True, False, True), strict=True):
        assert (f'href="/decisions/{decision.decision_id}"' in page) == hers
    assert viewer.get(f"/decisions/{decisions[0].decision_id}").status_code == 200


def test_receipts_of_an_unknown_and_of_an_erased_subject_derive_nothing(site, viewer):
    site.make()
    (decision,) = site.engine.choose("sale", [Request("ann")])
    site.engine.erase("ann", by="test")
    for who in ("ann", "<script>alert(1)</script>"):
        page = viewer.post("/decisions", {"who": who}).text
        assert "or removed for its age" in page
        assert "<script>alert" not in page
    assert viewer.get(f"/decisions/{decision.decision_id}").status_code == 404


PERSONAL = {
    "slots": [{"key": "s", "variants": [{"key": "a"}, {"key": "b"}]}],
    "exclude": [],
    "control": {"s": "a"},
    "holdout": 0,
    "context": [
        {"name": "recency", "kind": "number", "low": 0, "high": 12},
        {"name": "channel", "kind": "category", "values": ["Web", "Phone"]},
    ],
}


def taught(site, policy):
    """Teach that people of the web click b and others a; return the receipt of one who gets b."""
    site.make(policy={"name": policy}, **PERSONAL)
    for i in range(200):
        channel = "Web" if i % 2 else "Phone"
        (decision,) = site.engine.choose("sale", [Request(f"u{i}", {"channel": channel})])
        if (decision.slots["s"]["variant"] == "b") == (channel == "Web"):
            site.engine.reward([Reward(decision.decision_id, "c", "click")])
    site.clock.now += 11
    site.engine.learn("sale")
    requests = [Request(f"new-{i}", {"channel": "Web", "recency": 3}) for i in range(50)]
    # A few get a all the same, by its minimum share.
    decisions = site.engine.choose("sale", requests)
    of_b = next(d for d in decisions if d.slots["s"]["variant"] == "b")
    return site.engine.receipt(of_b.decision_id)


@pytest.mark.parametrize("policy", ["lints", "logistic_thompson"])
def test_receipt_tells_contributions_that_add_up(site, viewer, policy):
    receipt = taught(site, policy)
    assert receipt.slots["s"]["variant"] == "b"
    predictions = receipt.predictions
    assert predictions.scale == ("log odds" if policy == "logistic_thompson" else "reward")
    for arm in predictions.arms.values():
        assert set(arm.features) == {"always 1", "recency", "channel=Web", "channel=Phone"}
        assert arm.total == pytest.approx(sum(arm.features.values()), abs=1e-12)
        assert arm.features["channel=Phone"] == 0
    assert (
        predictions.arms["b"].features["channel=Web"]
        > predictions.arms["a"].features["channel=Web"]
    )
    page = viewer.get(f"/decisions/{receipt.decision_id}").text
    pushed = re.search(
        r"Channel<span class=.cell-sub.>Web</span></th><td[^>]*>(towards it[^<]*)", page
    )
    assert pushed, page
    assert ("times the odds" in pushed[1]) == (policy == "logistic_thompson")
    assert ("clicks per 100 emails" in pushed[1]) == (policy != "logistic_thompson")


def test_contributions_add_up_to_the_prediction_beyond_the_average(site):
    receipt = taught(site, "lints")
    experiment = site.store.experiments.record("sale").configuration.experiment
    views = contribution_views(experiment, receipt, reward_measure(experiment.reward))
    texts = [view.words for view in views if view.words != "made no difference"]
    amounts = [
        (1 if "towards" in t else -1) * float(re.search(r"by ([\d.]+)", t)[1]) for t in texts
    ]
    arms = receipt.predictions.arms
    beyond = arms["b"].total - sum(a.total for a in arms.values()) / 2
    assert sum(amounts) == pytest.approx(100 * beyond, abs=0.6)  # each is told with two digits


def test_receipt_without_a_linear_score_claims_no_contribution(site, viewer):
    site.make()
    (decision,) = site.engine.choose("sale", [Request("ann")])
    assert site.engine.receipt(decision.decision_id).predictions is None
    assert "What pushed" not in viewer.get(f"/decisions/{decision.decision_id}").text


def test_a_campaign_lists_what_was_chosen_last_and_each_leads_to_its_receipt(site, viewer):
    site.make(holdout=0.5)
    assert "Nothing has been chosen yet" in viewer.get("/experiments/sale/decisions").text
    site.send("sale", 40)
    site.make(key="other")
    site.send("other", 5)
    newest = site.send("sale", 30)
    page = viewer.get("/experiments/sale/decisions").text
    links = re.findall(r'href="(/decisions/[^"]+)"', page)
    assert len(links) == 50
    assert {f"/decisions/{d.decision_id}" for d in newest} == set(links[:30])
    assert viewer.get(links[0]).status_code == 200
    assert "control group</span>" in page
    assert "The newest 50 are listed" in page

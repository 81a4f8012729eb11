"""Opens and clicks with the request behind them, and what was set aside, by the API."""

import pytest

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"
TRACKING = {"ip": "198.51.100.7", "user_agent": CHROME, "recipient": "ann@gmail.com"}


def click(decision_id, number, link=1, **more):
    url = f"https://shop.example/{link}"
    tracking = TRACKING | {"url": url} | more
    return {
        "decision_id": decision_id,
        "event_id": f"e-{number}",
        "metric": "click",
        "tracking": tracking,
    }


@pytest.fixture
def clicked(api):
    """A campaign that leaves machines out, a person's click, and a scan of another email."""
    api.start(machine_rules=1)
    person, scanned = (api.choose(subject)["decision_id"] for subject in ("u-1", "u-2"))
    api.clock.now += 600.0
    events = [click(person, 0)]
    events += [click(scanned, i, i, ip="192.0.2.1") for i in range(1, 7)]
    answer = api.post("/rewards", {"rewards": events})
    assert answer.json["accepted"] == 7, answer.text
    api.clock.now += 121.0
    api.engine.learn("spring")
    return person, scanned


def test_set_aside_is_counted_by_reason_event_mailbox_and_version(api, clicked):
    result = api.get("/experiments/spring/set-aside").json
    (reason,) = result["reasons"]
    assert (reason["reason"], reason["verdict"], reason["total"]) == ("sweep", "machine", 6)
    assert reason["events"] == {"click": 6}
    assert sum(reason["arms"]) == 6
    (event,) = result["events"]
    assert (event["name"], event["persons"], event["set_aside"]) == ("click", 1, 6)
    (mailbox,) = result["mailboxes"]
    assert (mailbox["name"], mailbox["persons"], mailbox["set_aside"]) == ("google", 1, 6)
    assert sum(arm["set_aside"] for arm in result["arms"]) == 6
    assert (result["rules"], result["in_force"], result["rescored"]) == (1, 1, None)
    assert (result["left"], result["final"]) == (0, False)
    results = api.get("/experiments/spring/results").json
    (clicks,) = [e for e in results["events"] if e["name"] == "click"]
    assert sum(arm["emails"] for arm in clicks["arms"]) == 1


def test_receipt_says_why_an_event_does_not_count(api, clicked):
    person, scanned = clicked
    (event,) = api.get(f"/decisions/{person}").json["events"]
    assert event["set_aside"] is None
    assert event["tracking"]["program"] == "browser"
    assert len(event["tracking"]["network"]) == 16
    receipt = api.get(f"/decisions/{scanned}").json
    assert receipt["reward"] == 0
    assert {e["set_aside"] for e in receipt["events"]} == {
        "Several different links of the email were followed within seconds."
    }


def test_set_aside_of_no_campaign_is_not_found(api):
    assert api.get("/experiments/none/set-aside").status_code == 404


def test_set_aside_needs_to_read(api, clicked):
    token = api.key("choose")
    assert api.get("/experiments/spring/set-aside", token=token).status_code == 403


@pytest.mark.parametrize(
    ("tracking", "pointer"),
    [
        ({"ip": 7}, "/rewards/0/tracking/ip"),
        ({"kind": "look"}, "/rewards/0/tracking/kind"),
        ({"url": "x" * 9_000}, "/rewards/0/tracking/url"),
        ({"address": "198.51.100.7"}, "/rewards/0/tracking/address"),
        ("scanner", "/rewards/0/tracking"),
    ],
)
def test_tracking_that_does_not_fit_is_refused_at_its_place(api, tracking, pointer):
    api.start()
    decision_id = api.choose()["decision_id"]
    event = click(decision_id, 1) | {"tracking": tracking}
    answer = api.post("/rewards", {"rewards": [event]})
    assert answer.status_code == 422, answer.text
    assert [e["pointer"] for e in answer.json["errors"]] == [pointer]
    assert api.get(f"/decisions/{decision_id}").json["events"] == []


def test_tracking_with_what_is_no_address_is_taken(api):
    api.start(machine_rules=1)
    decision_id = api.choose()["decision_id"]
    api.clock.now += 600.0
    answer = api.post("/rewards", {"rewards": [click(decision_id, 1, ip="unknown")]})
    assert answer.json["accepted"] == 1
    api.clock.now += 121.0
    api.engine.learn("spring")
    (event,) = api.get("/experiments/spring/set-aside").json["events"]
    assert (event["persons"], event["set_aside"]) == (1, 0)


@pytest.mark.parametrize("rules", [0, 2, "1", True])
def test_rules_of_an_unknown_version_are_refused(api, rules):
    answer = api.create(machine_rules=rules)
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json["errors"]] == ["/machine_rules"]


def test_rules_change_while_a_campaign_runs(api, clicked):
    path = "/experiments/spring"
    patch = {"machine_rules": None}
    answer = api.call("PATCH", path, patch, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    assert api.get(f"{path}/set-aside").json["rescored"] == 0.0
    assert api.engine.rescore("spring")
    result = api.get(f"{path}/set-aside").json
    assert (result["rules"], result["in_force"], result["events"]) == (None, None, [])

"""Voids by the API and by the command line."""

from contextlib import closing
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.schemas import Request, Reward
from storage import open_store
from tests.conftest import Sender
from webapp.void_commands import void


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


@pytest.fixture
def stolen(api):
    """A number of a key that decided for three people in one of two campaigns, a while ago."""
    for key in ("spring", "autumn"):
        api.start(key)
    token = api.key("choose")
    for subject in ("u-1", "u-2", "u-3"):
        api.choose(subject)
        answer = api.post("/experiments/spring/choose", {"subject_id": f"t{subject}"}, token=token)
        assert answer.status_code == 201
    api.clock.now += 60.0
    api.engine.learn("spring")
    return api.accounts.keys.all()[0].id


def test_void_is_counted_first_then_made_listed_and_restored(api, stolen):
    since = api.clock.now - 3600.0
    body = {"actor": f"key:{stolen}", "since": moment(since), "experiment": "spring"}
    preview = api.post("/voids", body | {"dry_run": True}).json
    (part,) = preview["experiments"]
    assert (part["decisions"], part["void"], part["refused"]) == (3, None, None)
    assert sum(arm["decisions"] for arm in part["arms"]) + part["held_out"] == 3
    assert api.get("/voids").json == {"voids": []}
    (part,) = api.post("/voids", body).json["experiments"]
    health = api.get("/experiments/spring/results").json["health"]
    assert health["voided"] == 3
    (entry,) = api.get("/voids?experiment=spring").json["voids"]
    assert (entry["id"], entry["actor"], entry["decisions"]) == (part["void"], f"key:{stolen}", 3)
    assert (entry["by"], entry["restored_at"]) == ("key:1", None)
    assert api.get("/voids?experiment=autumn").json == {"voids": []}
    restored = api.post(f"/voids/{part['void']}/restore").json
    assert restored["restored_by"] == "key:1"
    assert api.get("/experiments/spring/results").json["health"]["voided"] == 0


def test_void_everywhere_names_each_campaign_that_it_concerns(api, stolen):
    body = {"actor": f"key:{stolen}", "since": moment(api.clock.now - 3600.0)}
    assert [p["experiment"] for p in api.post("/voids", body).json["experiments"]] == ["spring"]


def test_void_that_cannot_be_made_is_a_problem_in_words(api, stolen, problem):
    since, ahead = moment(api.clock.now - 3600.0), moment(api.clock.now + 1.0)
    body = {"actor": f"key:{stolen}", "since": since, "experiment": "spring"}

    def fault(**changes):
        return problem(api.post("/voids", body | changes), 422, "invalid")["errors"][0]

    assert fault(actor="hacker")["pointer"] == "/actor"
    assert fault(actor="key:99")["detail"] == "did nothing in 'spring' then, or it is void already"
    assert fault(until=ahead) == {"pointer": "/until", "detail": "must not be in the future"}
    assert fault(until=since)["pointer"] == "/until"
    assert fault(since="2026-11-22T09:00:00")["pointer"] == "/since"
    problem(api.post("/voids", body | {"experiment": "winter"}), 404, "not-found")
    problem(api.post("/voids/7/restore"), 404, "not-found")
    number = api.post("/voids", body).json["experiments"][0]["void"]
    api.post(f"/voids/{number}/restore")
    problem(api.post(f"/voids/{number}/restore"), 409, "wrong-state")


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"])
def test_void_from_the_beginning_of_time_takes_all(api, stolen, since):
    body = {"actor": f"key:{stolen}", "since": since, "dry_run": True}
    receipt = api.post("/voids", body).json
    assert receipt["since"] == "1970-01-01T00:00:00Z"
    assert receipt["experiments"] != []


def test_void_needs_the_scope_manage(api, stolen, problem):
    token = api.key("choose", "reward", "read")
    body = {"actor": f"key:{stolen}", "since": moment(0.0)}
    problem(api.post("/voids", body, token=token), 403, "forbidden")
    problem(api.post("/voids/1/restore", token=token), 403, "forbidden")


@pytest.fixture
def sent(database_url):
    """A database in which key 3 chose and rewarded twice just now."""
    with closing(open_store(database_url)) as store:
        Sender(store).start()
        engine = Engine(store)
        key = actor_of("key", 3)
        decisions = engine.choose("spring", [Request("u-1"), Request("u-2")], actor=key)
        engine.reward([Reward(d.decision_id, "e", "click") for d in decisions], actor=key)
        engine.learn("spring")
    return database_url


def run(url, *arguments, **options):
    name, *rest = arguments
    return CliRunner().invoke(void, [name, "--database", url, *rest], **options)


def test_void_command_shows_asks_makes_lists_and_restores(sent):
    asked = run(sent, "add", "key:3", "--since", "2020-01-01", input="n\n")
    assert asked.exit_code == 1
    assert "in all" in asked.output
    assert "Void all of this?" in asked.output
    assert "key:3" not in run(sent, "list").output
    made = run(sent, "add", "key:3", "--since", "2020-01-01T00:00Z", "--yes")
    assert made.exit_code == 0, made.output
    assert "spring: void 1; `bandits void restore 1`" in made.output
    assert "in force" in run(sent, "list", "--experiment", "spring").output
    assert run(sent, "restore", "1").output == "spring: 2 emails of key:3 count again\n"
    assert "restored 20" in run(sent, "list").output
    wrong = run(sent, "add", "key:3", "--since", "yesterday")
    assert (wrong.exit_code, "must look like" in wrong.output) == (2, True)

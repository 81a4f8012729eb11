"""Choices pushed into contacts of listmonk, Mautic and Keila, by the commands; stand-ins of all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from click.testing import CliRunner, Result

from bandits.errors import InvalidInput
from storage import open_store
from tests.integration.conftest import Api, Clock
from tests.list_servers import KeilaServer, ListServer, MauticServer, Reply
from tests.listmonk_server import CAMPAIGN, ListmonkServer, subscriber_uuid
from webapp.list_tools import tool_api
from webapp.list_tools.commands import keila, listmonk, mautic
from webapp.list_tools.mautic_list import usual_alias
from webapp.webhooks.connection_setup import add_connection

LOCAL = "127.0.0.0/8"
SLOTS = [
    {
        "key": "subject_line",
        "variants": [{"key": "a", "payload": {"text": "Spring is here"}}, {"key": "b"}],
    }
]
TEXTS = {"Spring is here", "b"}


class Desk:
    """A running experiment, and what the commands are told."""

    def __init__(self, url: str) -> None:
        self.url = url

    def events_of(self, decision_id: str) -> tuple[bool, bool]:
        """Return whether a decision is there, and whether it is cancelled."""
        with closing(open_store(self.url)) as store:
            api = Api(store, Clock())
            answer = api.get(f"/decisions/{decision_id}")
            there = answer.status_code == 200
            return there, there and answer.json["cancelled_at"] is not None

    def connect(self, kind: str, server: ListServer, **values: str) -> None:
        """Connect a tool as `crm`."""
        fields = {"api_url": server.url, "api_user": "bandits", "api_token": "word", **values}
        with closing(open_store(self.url)) as store:
            at = Clock()()
            add_connection(store.connections, kind, "crm", fields, metrics={}, at=at, by="test")

    def listmonk(self, *more: str) -> Result:
        arguments = ["--connection", "crm", "--list", "3", "--campaign", CAMPAIGN]
        return self._run(listmonk, [*arguments, *more])

    def mautic(self, *more: str) -> Result:
        arguments = ["--connection", "crm", "--segment", "newsletter", "--sending", "april-1"]
        return self._run(mautic, [*arguments, *more])

    def keila(self, server: KeilaServer, *more: str) -> Result:
        return self._run(keila, ["--url", server.url, "--sending", "april-1", *more])

    def _run(self, group, arguments: Sequence[str]) -> Result:
        return CliRunner().invoke(group, ["push", "--database", self.url, *arguments, "spring"])


@pytest.fixture
def desk(database_url, monkeypatch) -> Desk:
    monkeypatch.setenv("BANDITS_EGRESS_NETWORKS", LOCAL)
    monkeypatch.setenv("KEILA_API_KEY", KeilaServer.key)
    with closing(open_store(database_url)) as store:
        context = [{"name": "city", "kind": "category", "values": ["Ghent", "Bruges"]}]
        Api(store, Clock()).start(slots=SLOTS, context=context)
    return Desk(database_url)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Keep the waits between tries, and wait for none of them."""
    seconds: list[float] = []

    class Time:
        sleep = staticmethod(seconds.append)

    monkeypatch.setattr(tool_api, "time", Time)
    return seconds


@pytest.fixture
def server() -> Iterator[MauticServer]:
    server = MauticServer().start()
    server.contacts = {
        n: {"email": f"p{n}@example.com", "city": "Ghent", "bandits_decision": None}
        for n in range(1, 424)
    }
    yield server
    server.stop()


@pytest.fixture
def keila_server() -> Iterator[KeilaServer]:
    server = KeilaServer().start()
    for number in range(107):
        server.add(number, city="Bruges")
    yield server
    server.stop()


@pytest.fixture
def listmonk_server() -> Iterator[ListmonkServer]:
    server = ListmonkServer().start()
    server.subscribers = {n: {"city": "Ghent"} for n in range(1, 604)}
    yield server
    server.stop()


def test_listmonk_push_writes_choices_into_attributes_and_again_the_same(desk, listmonk_server):
    server = listmonk_server
    desk.connect("listmonk", server)
    server.subscribers[2]["bandits"] = {"winter": {"decision": "w"}}
    answer = desk.listmonk()
    assert answer.exit_code == 0, answer.output
    assert "chose for 603 contacts" in answer.output
    first = {n: dict(a) for n, a in server.subscribers.items()}
    own = first[1]["bandits"]["spring"]
    assert own["decision"] == f"{CAMPAIGN}.{subscriber_uuid(1)}"
    assert desk.events_of(own["decision"]) == (True, False)
    assert {a["bandits"]["spring"]["subject_line"] for a in first.values()} == TEXTS
    assert first[1]["city"] == "Ghent"
    assert first[2]["bandits"]["winter"] == {"decision": "w"}
    again = desk.listmonk()
    assert "wrote 0, 603 had theirs already" in again.output
    assert len(server.writes()) == 603
    assert server.subscribers == first


def test_listmonk_push_goes_on_behind_a_page(desk, listmonk_server):
    desk.connect("listmonk", listmonk_server)
    answer = desk.listmonk("--after", "1")
    assert answer.exit_code == 0, answer.output
    assert "chose for 103 contacts" in answer.output
    assert "bandits" not in listmonk_server.subscribers[500]


def test_listmonk_push_says_at_the_address_that_it_is_refused(desk, listmonk_server):
    desk.connect("listmonk", listmonk_server)
    listmonk_server.status = 403
    answer = desk.listmonk()
    assert isinstance(answer.exception, InvalidInput)
    (fault,) = answer.exception.faults
    assert fault.pointer == "api_url"
    assert "it answered 403; 0 are written" in fault.detail


def test_push_needs_a_connection_of_its_tool(desk, server):
    desk.connect("mautic", server)
    refused = desk.listmonk()
    assert refused.exit_code == 2
    assert "crm is no connection of listmonk" in refused.output


def test_mautic_push_writes_each_choice_once_however_often_it_is_done(desk, server):
    desk.connect("mautic", server)
    answer = desk.mautic()
    assert answer.exit_code == 0, answer.output
    assert "chose for 423 contacts" in answer.output
    assert [len(call.body) for call in server.writes()] == [200, 200, 23]
    first = {n: dict(values) for n, values in server.contacts.items()}
    assert {values["bandits_subject_line"] for values in first.values()} == TEXTS
    assert first[7]["bandits_decision"] == "april-1.7"
    assert first[7]["city"] == "Ghent"
    assert desk.events_of("april-1.7") == (True, False)
    again = desk.mautic()
    assert "wrote 0, 423 had theirs already" in again.output
    assert len(server.writes()) == 3
    assert server.contacts == first


def test_mautic_push_of_another_sending_decides_anew(desk, server):
    desk.connect("mautic", server)
    desk.mautic()
    answer = desk.mautic("--sending", "april-8")
    assert answer.exit_code == 0, answer.output
    assert server.contacts[7]["bandits_decision"] == "april-8.7"


def test_mautic_push_leaves_out_who_may_get_no_email(desk, server):
    desk.connect("mautic", server)
    server.banned = {2, 3}
    answer = desk.mautic()
    assert "left out 2 who may get no email" in answer.output
    assert server.contacts[2]["bandits_decision"] is None
    assert desk.events_of("april-1.2") == (False, False)


def test_mautic_push_goes_on_where_it_broke_off(desk, server, waits):
    desk.connect("mautic", server)
    working = server.answer

    def fail_after_first(call):
        if len(server.writes()) >= 2:
            return Reply(502)
        return working(call)

    server.answer = fail_after_first
    answer = desk.mautic()
    assert answer.exit_code != 0
    assert "it answered 502; 200 are written; go on with --after 200" in str(answer.exception)
    assert len(waits) == tool_api.TRIES - 1
    assert waits == sorted(waits)
    server.answer = working
    answer = desk.mautic("--after", "200")
    assert "chose for 223 contacts" in answer.output
    decisions = {values["bandits_decision"] for values in server.contacts.values()}
    assert decisions == {f"april-1.{n}" for n in range(1, 424)}


def test_mautic_push_tries_again_after_as_long_as_it_is_told(desk, server, waits):
    desk.connect("mautic", server)
    server.failures = [Reply(429, headers={"Retry-After": "7"}), Reply(503)]
    answer = desk.mautic()
    assert answer.exit_code == 0, answer.output
    assert waits[0] == pytest.approx(7)
    assert len(waits) == 2


def test_mautic_push_does_not_try_again_what_is_refused(desk, server, waits):
    desk.connect("mautic", server)
    server.failures = [Reply(403)]
    answer = desk.mautic()
    assert answer.exit_code != 0
    assert "it answered 403" in str(answer.exception)
    assert waits == []


def test_mautic_push_refuses_where_a_field_is_missing(desk, server):
    """Mautic takes fields that it does not have, and drops them without a word."""
    desk.connect("mautic", server)
    server.fields.remove("bandits_subject_line")
    answer = desk.mautic()
    assert answer.exit_code != 0
    assert "bandits_subject_line" in str(answer.exception)
    assert desk.events_of("april-1.7") == (False, False)
    server.fields.append("subject_of_spring")
    answer = desk.mautic("--field", "subject_line=subject_of_spring")
    assert answer.exit_code == 0, answer.output
    assert server.contacts[7]["subject_of_spring"] in TEXTS


def test_mautic_push_refuses_a_field_that_is_no_pair(desk, server):
    desk.connect("mautic", server)
    answer = desk.mautic("--field", "subject_line")
    assert answer.exit_code == 2
    assert "write SLOT=ALIAS" in answer.output


def test_mautic_push_cancels_what_a_contact_did_not_get(desk, server):
    desk.connect("mautic", server)
    server.gone = {5}
    answer = desk.mautic()
    assert answer.exit_code == 0, answer.output
    assert "1 were refused, and count as not sent: subject: 64 characters" in answer.output
    assert desk.events_of("april-1.5") == (True, True)
    assert desk.events_of("april-1.6") == (True, False)


def test_mautic_dry_run_writes_and_records_nothing(desk, server):
    desk.connect("mautic", server)
    answer = desk.mautic("--dry-run")
    assert "would choose for 423 contacts" in answer.output
    assert server.writes() == []
    assert desk.events_of("april-1.7") == (False, False)


def test_mautic_push_signs_in_by_client_credentials_and_renews_its_token(desk, server):
    desk.connect("mautic", server, api_sign_in="oauth2")
    server.oauth = True
    working = server.answer

    def end_token(call):
        if call.method == "PATCH" and len(server.writes()) == 2 and len(server.tokens) == 1:
            server.tokens.append("another")  # the first one has ended
        return working(call)

    server.answer = end_token
    answer = desk.mautic()
    assert answer.exit_code == 0, answer.output
    sign_ins = [call.body for call in server.calls if call.path == "/oauth/v2/token"]
    assert len(sign_ins) == 2
    assert sign_ins[0] == {
        "grant_type": ["client_credentials"],
        "client_id": ["bandits"],
        "client_secret": ["word"],
    }
    assert "chose for 423 contacts" in answer.output


def test_mautic_push_signs_in_with_a_password(desk, server):
    desk.connect("mautic", server)
    desk.mautic()
    assert {c.headers["Authorization"] for c in server.calls} == {"Basic YmFuZGl0czp3b3Jk"}


def test_mautic_push_is_held_by_the_egress_guard(desk, server, monkeypatch):
    desk.connect("mautic", server)
    monkeypatch.setenv("BANDITS_EGRESS_NETWORKS", "")
    answer = desk.mautic()
    assert answer.exit_code != 0
    assert "private network" in str(answer.exception)
    assert server.calls == []


def test_mautic_push_ends_where_pages_do_not_go_on(desk, server):
    desk.connect("mautic", server)
    working = server.answer

    def same_page(call):
        first = {**call.query, "where[0][val]": "0"}
        return working(call._replace(query=first))

    server.answer = same_page
    answer = desk.mautic()
    assert answer.exit_code != 0
    assert "does not list contacts by their ids" in str(answer.exception)


def test_keila_push_keeps_what_contacts_have(desk, keila_server):
    server = keila_server
    server.contacts["c_3"]["data"] = {"city": "Ghent", "bandits": {"winter": {"decision": "w"}}}
    server.contacts["c_4"]["status"] = "unsubscribed"
    answer = desk.keila(server)
    assert answer.exit_code == 0, answer.output
    assert "chose for 106 contacts" in answer.output
    assert "left out 1 who may get no email" in answer.output
    data = server.contacts["c_3"]["data"]
    assert data["city"] == "Ghent"
    assert data["bandits"]["winter"] == {"decision": "w"}
    assert data["bandits"]["spring"]["decision"] == "april-1.c_3"
    written = [c["data"]["bandits"]["spring"] for k, c in server.contacts.items() if k != "c_4"]
    assert {own["subject_line"] for own in written} == TEXTS
    count = len(server.writes())
    again = desk.keila(server)
    assert "106 had theirs already" in again.output
    assert len(server.writes()) == count == 106


def test_keila_push_is_of_a_segment(desk, keila_server):
    keila_server.segments["s_1"] = {"email": {"$like": "%@example.com"}}
    answer = desk.keila(keila_server, "--segment", "s_1")
    assert answer.exit_code == 0, answer.output
    listed = [c for c in keila_server.calls if c.path == "/api/v1/contacts"]
    assert {c.query["filter"] for c in listed} == {
        json.dumps(keila_server.segments["s_1"]).replace(" ", "")
    }


def test_keila_push_goes_on_behind_a_page_and_cancels_for_who_is_gone(desk, keila_server):
    keila_server.gone = {"c_60"}
    answer = desk.keila(keila_server, "--after", "1")
    assert answer.exit_code == 0, answer.output
    assert "chose for 56 contacts" in answer.output
    assert desk.events_of("april-1.c_60") == (True, True)
    assert desk.events_of("april-1.c_3") == (False, False)


def test_keila_push_needs_a_key(desk, keila_server, monkeypatch):
    monkeypatch.setenv("KEILA_API_KEY", "")
    answer = desk.keila(keila_server)
    assert answer.exit_code == 2
    assert "KEILA_API_KEY" in answer.output
    monkeypatch.setenv("KEILA_API_KEY", "another")
    assert "it answered 403" in str(desk.keila(keila_server).exception)


def test_push_names_what_is_no_place(desk, keila_server):
    answer = desk.keila(keila_server, "--after", "soon")
    assert answer.exit_code != 0
    assert "give the number" in str(answer.exception)


@pytest.mark.parametrize(
    ("slot", "alias"), [("hero", "bandits_hero"), ("Sub-line.2", "bandits_sub_line_2")]
)
def test_usual_alias_is_one_that_mautic_takes(slot, alias):
    assert usual_alias(slot) == alias

"""Both clients of senders against the real application, over a line that loses answers."""

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self

import httpx
import numpy as np
import pytest
from flask import Flask

from bandits.actors import actor_of
from bandits.client import (
    ApiError,
    AsyncClient,
    Client,
    ConnectionFailed,
    InvalidInput,
    Request,
    Reward,
)
from tests.patience import LIMIT_SECONDS

PLAIN = {"subject_line": "a"}


class BadLine(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Hands requests to an application, and treats the answers as told, one word for each."""

    def __init__(self, app: Flask, *treatments: str) -> None:
        self.wsgi = httpx.WSGITransport(app)
        self.treatments = list(treatments)
        self.paths: list[str] = []
        self.arrival: asyncio.Future[None] | None = None

    @property
    def tries(self) -> int:
        return len(self.paths)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        treatment = self.treatments.pop(0) if self.treatments else "deliver"
        if treatment == "busy":
            return httpx.Response(503, headers={"Retry-After": "2"})
        if treatment == "too large":
            return httpx.Response(413)
        if treatment == "refuse":
            raise httpx.ConnectError("connection refused", request=request)
        if treatment == "hang":
            raise httpx.ReadTimeout("timed out", request=request)
        response = self.wsgi.handle_request(request)
        content = response.read()
        if treatment == "lose":  # the server has done it, but nobody hears
            raise httpx.ReadError("connection lost", request=request)
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.treatments[:1] == ["never"]:  # the server has done it, and never says so
            self.treatments.pop(0)
            self.handle_request(request)
            if self.arrival is not None:
                self.arrival.set_result(None)
            await asyncio.get_running_loop().create_future()
        return self.handle_request(request)


class BlockingClient:
    """The asynchronous client, called as the other one is."""

    def __init__(self, url: str, token: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        if note := options.pop("sleep", None):

            async def pause(seconds: float) -> None:
                note(seconds)

            options["sleep"] = pause
        self.client = AsyncClient(url, token, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        async def call(*parts: Any, **named: Any) -> Any:
            if inspect.isasyncgenfunction(method):
                return [decision async for decision in method(*parts, **named)]
            return await method(*parts, **named)

        return lambda *parts, **named: self._runner.run(call(*parts, **named))


@pytest.fixture(params=[Client, BlockingClient], ids=["Client", "AsyncClient"])
def make_client(request) -> type[Client | BlockingClient]:
    return request.param


@pytest.fixture
def connect(api, make_client) -> Callable[..., Client]:
    """Make a client of a server with a running experiment; `waits` collects its pauses."""
    api.start()

    def make(*treatments: str, waits: list[float] | None = None, **options: Any) -> Client:
        pauses = [] if waits is None else waits
        options.setdefault("transport", BadLine(api.app, *treatments))
        return make_client("http://test", api.token, sleep=pauses.append, **options)

    return make


@pytest.fixture
def line(api) -> BadLine:
    return BadLine(api.app)


@pytest.fixture
def client_clock() -> SimpleNamespace:
    """A clock of the client that stands still until it is set."""
    standing = SimpleNamespace(now=1000.0)
    standing.read = lambda: standing.now
    return standing


def test_a_lost_answer_is_asked_for_again_and_decides_once(connect, api) -> None:
    with connect("lose", "lose") as client:
        decision = client.choose("spring", "u-1")
    assert decision.repeat
    api.engine.learn("spring")
    assert sum(arm.sent for arm in api.engine.results("spring").arms) == 1


def test_an_event_whose_answer_was_lost_counts_once(connect) -> None:
    with connect() as client:
        decision = client.choose("spring", "u-1")
    with connect("lose") as client:
        receipt = client.reward(str(decision.decision_id), "click")
    assert (receipt.accepted, receipt.repeated) == (0, 1)


def test_a_busy_server_is_given_the_time_it_asks_for(connect) -> None:
    waits: list[float] = []
    with connect("busy", "refuse", waits=waits) as client:
        assert not client.choose("spring", "u-1").repeat
    assert waits[0] == 2.0
    assert 0 < waits[1] < 2.0


def test_fallback_is_sent_when_no_answer_comes(connect) -> None:
    with connect(*["refuse"] * 100, deadline_seconds=0.5) as client:
        decision = client.choose("spring", "u-1", fallback={"subject_line": "a"})
        with pytest.raises(ConnectionFailed, match="connection refused"):
            client.choose("spring", "u-1")
    assert decision.fallback
    assert decision.decision_id is None
    assert decision.slots == {"subject_line": {"variant": "a"}}


def test_refusal_is_not_tried_again(connect, line) -> None:
    refusal = pytest.raises(ApiError, match="undeclared feature")
    with connect(transport=line) as client, refusal as caught:
        client.choose("spring", "u-1", context={"age": 30})
    assert caught.value.status == 422
    assert caught.value.faults[0].pointer == "/context/age"
    assert line.tries == 1


def test_batches_carry_any_number_of_recipients_and_events(connect) -> None:
    requests = (Request(f"u-{i}") for i in range(25))
    with connect("lose", "deliver", "busy") as client:
        decisions = list(client.choose_many("spring", requests, batch=10))
        ids = [str(d.decision_id) for d in decisions]
        assert len(set(ids)) == 25
        rewards = [Reward(i, "e", "click") for i in [*ids, *ids, "nobody's"]]
        receipt = client.reward_many(rewards, batch=20)
        assert (receipt.accepted, receipt.repeated, receipt.unknown) == (25, 25, ["nobody's"])
        cancelled = client.cancel([*ids[:5], "nobody's"], batch=4)
        assert (cancelled.accepted, cancelled.unknown) == (5, ("nobody's",))


def test_orders_are_reported_by_who_placed_them(connect, api, clock) -> None:
    api.start("found", attribution="last")
    with connect() as client:
        decision = str(client.choose("found", "ann").decision_id)
        clock.now += 60.0
        at = datetime.fromtimestamp(clock.now, UTC)
        orders = [
            Reward("", "o-1", "order", 5.0, at, subject_id="ann"),
            {"subject_id": "bob", "event_id": "o-2", "metric": "order", "occurred_at": at},
        ]
        receipts = [client.reward_many(orders, batch=1) for _ in range(2)]
    assert [(r.accepted, r.repeated, r.unattributed) for r in receipts] == [
        (1, 0, ["o-2"]),
        (0, 1, ["o-2"]),
    ]
    assert [e["value"] for e in api.engine.receipt(decision).events] == [5.0]


def test_value_is_reported_with_the_time_since_when_it_holds(connect, api) -> None:
    metrics = {"click": {}, "margin": {"latest": True, "high": 90.0}}
    api.start("margins", policy={"name": "thompson_gaussian"}, reward={"metrics": metrics})
    with connect() as client:
        decision = str(client.choose("margins", "ann").decision_id)
        for value, minute in ((9.0, 1), (4.0, 0)):
            at = datetime(2027, 1, 15, 8, minute, tzinfo=UTC)
            assert client.reward(decision, "margin", value, as_of=at).accepted == 1
    receipt = api.engine.receipt(decision)
    assert receipt.reward == pytest.approx(9.0)
    times = [event["as_of"].minute for event in receipt.events]
    assert sorted(times) == [0, 1]


def test_ids_of_emails_are_told_beside_plain_ids(connect, api) -> None:
    with connect() as client:
        ids = [str(client.choose("spring", f"u-{i}").decision_id) for i in range(4)]
        other = api.key("choose")
    sent = [(ids[0], "mail-0"), ids[1], (ids[2], "<mail-2>"), ids[3]]
    with connect() as client:
        assert client.activate(sent, batch=3).repeated == 4
    log = api.engine.store.log
    assert log.message_decisions(["mail-0", "mail-2"]) == {"mail-0": [ids[0]], "mail-2": [ids[2]]}
    api.token = other
    with connect() as client:
        refused = client.activate(sent, batch=3).refused
    assert [(row.row, row.id) for row in refused] == list(enumerate(ids))


def test_numpy_values_are_sent_as_numbers_and_texts(connect, api) -> None:
    known = {"recency": np.float64(3), "channel": np.str_("Web")}
    with connect() as client:
        decision = client.choose("spring", "u-1", context=known)
        (other,) = client.choose_many("spring", [Request("u-2", {"recency": np.int64(4)})])
        assert client.reward(str(decision.decision_id), "click", np.float32(1)).accepted == 1
    assert api.engine.receipt(str(decision.decision_id)).context == {"recency": 3, "channel": "Web"}
    assert api.engine.receipt(str(other.decision_id)).context["recency"] == 4


@pytest.mark.parametrize("value", [object(), "\ud800"])
def test_values_that_json_cannot_say_are_refused_or_answered_with_the_fallback(
    connect, value
) -> None:
    with connect() as client:
        with pytest.raises(InvalidInput, match="cannot be written as JSON"):
            client.choose("spring", "u-1", context={"channel": value})
        assert client.choose(
            "spring", "u-1", context={"channel": value}, fallback={"subject_line": "a"}
        ).fallback


@pytest.mark.parametrize("size", [0, -1, 10_001])
def test_batches_that_the_server_would_not_take_are_refused(connect, size) -> None:
    with connect() as client, pytest.raises(InvalidInput, match=r"must lie in \[1, 10,000\]"):
        list(client.choose_many("spring", [Request("u-1")], batch=size))


def test_text_is_not_taken_for_a_list_of_its_letters(connect) -> None:
    with connect() as client:
        with pytest.raises(InvalidInput, match="must be a list, not text 'spring-u-1'"):
            client.cancel("spring-u-1")
        with pytest.raises(ApiError, match="/eligible/subject_line: must be a list, not text"):
            client.choose("spring", "u-1", eligible={"subject_line": "ab"})


def test_an_empty_event_id_is_refused_rather_than_counted_twice(connect) -> None:
    with connect() as client:
        decision = client.choose("spring", "u-1")
        with pytest.raises(ApiError, match="event_id"):
            client.reward(str(decision.decision_id), "click", event_id="")


def test_a_token_may_end_with_its_line_and_never_comes_into_an_error(api, line) -> None:
    api.start()
    with Client("http://test", f"{api.token}\n", transport=line) as client:
        assert client.choose("spring", "u-1").decision_id
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidInput) as caught:
            kind("http://test", "secret\nof-two-lines")
        assert "secret" not in str(caught.value)


def test_a_refusal_tells_each_place_once(connect) -> None:
    with connect() as client, pytest.raises(ApiError) as caught:
        client.choose("spring", "u-1", context={"age": 30})
    assert str(caught.value).count("/context/age") == 1


def test_time_out_costs_one_try_and_then_fallbacks_come_at_once(
    connect, line, client_clock
) -> None:
    line.treatments = ["hang"] * 10
    waits: list[float] = []
    with connect(transport=line, waits=waits, clock=client_clock.read) as client:
        emails = [client.choose("spring", f"u-{i}", fallback=PLAIN) for i in range(100)]
        assert [e.fallback for e in emails] == [True] * 100
        many = client.choose_many("spring", [Request(f"v-{i}") for i in range(9)], fallback=PLAIN)
        assert all(e.fallback for e in many)
        assert line.tries == 1
        assert waits == []


def test_client_tries_a_server_that_did_not_answer_every_thirty_seconds(
    connect, line, client_clock
) -> None:
    line.treatments = ["lose", "hang", "hang", "busy"]
    options = {"transport": line, "clock": client_clock.read, "deadline_seconds": 0.0}
    with connect(**options) as client:

        def fallbacks(n: int) -> int:
            return sum(client.choose("spring", "u", fallback=PLAIN).fallback for _ in range(n))

        for tries in (1, 2, 3, 4):
            assert fallbacks(5) == 5
            assert line.tries == tries
            client_clock.now += 29.9
            assert fallbacks(5) == 5
            assert line.tries == tries
            client_clock.now += 0.2
        assert fallbacks(5) == 0
        assert line.paths[4:6] == ["/api/v1/experiments/spring/choose", "/api/v1/decisions/cancel"]
        assert line.tries == 4 + 5 + 1


def test_decisions_that_were_never_asked_for_are_not_cancelled(
    connect, line, client_clock, api
) -> None:
    line.treatments = ["lose", "deliver"]
    options = {"transport": line, "clock": client_clock.read, "deadline_seconds": 0.0}
    with connect(**options) as client:
        for i in range(3):
            client.choose("spring", f"u-{i}", decision_id=f"d-{i}", fallback=PLAIN)
        client_clock.now += 30
        client.choose("spring", "u-3", fallback=PLAIN)
    assert api.get("/decisions/d-0").json["cancelled_at"]
    for i in (1, 2):
        assert api.get(f"/decisions/d-{i}").status_code == 404


def test_fallback_is_sent_to_those_alone_whose_ids_another_key_took(connect, api) -> None:
    api.engine.choose("spring", [Request("x", decision_id="d-1")], actor=actor_of("key", 99))
    requests = [Request(f"u-{i}", decision_id=f"d-{i}") for i in range(3)]
    with connect() as client:
        chosen = list(client.choose_many("spring", requests, fallback=PLAIN))
        assert [d.decision_id for d in chosen] == ["d-0", None, "d-2"]
        assert [d.fallback for d in chosen] == [False, True, False]
        with pytest.raises(ApiError):
            list(client.choose_many("spring", requests))


def test_rows_that_are_refused_keep_their_places_over_batches(make_client, api, line) -> None:
    api.start()
    for i in range(5):
        owner = actor_of("key", 99) if i in {1, 4} else actor_of("key", 2)
        api.engine.choose("spring", [Request("x", decision_id=f"d-{i}")], actor=owner)
    with make_client("http://test", api.key("choose"), transport=line) as client:
        marks = client.cancel([f"d-{i}" for i in range(5)], batch=2)
    assert marks.accepted == 3
    assert [(r.row, r.id, r.reason) for r in marks.refused] == [
        (1, "d-1", "another_key"),
        (4, "d-4", "another_key"),
    ]


def test_calls_without_a_fallback_try_and_an_answer_ends_the_pause(
    connect, line, client_clock
) -> None:
    line.treatments = ["hang"]
    with connect(transport=line, clock=client_clock.read) as client:
        assert client.choose("spring", "u-1", fallback=PLAIN).fallback
        assert client.choose("spring", "u-2").decision_id
        assert not client.choose("spring", "u-3", fallback=PLAIN).fallback


def test_refusals_keep_the_way_open(connect, line, client_clock) -> None:
    with connect(transport=line, clock=client_clock.read) as client:
        for _ in range(3):
            assert client.choose("spring", "u", context={"age": 3}, fallback=PLAIN).fallback
        assert not client.choose("spring", "u", fallback=PLAIN).fallback
    assert line.tries == 4


def test_dicts_are_taken_for_requests_and_rewards(connect, api) -> None:
    rows = [
        {"subject_id": "u-1", "context": {"recency": np.int64(3), "channel": np.str_("Web")}},
        {"subject_id": "u-2", "decision_id": "d-2", "eligible": {"subject_line": ["b"]}},
        Request("u-3"),
    ]
    with connect() as client:
        decisions = list(client.choose_many("spring", iter(rows)))
        assert decisions[1].decision_id == "d-2"
        assert decisions[1].slots["subject_line"]["variant"] == "b"
        events = [
            {"decision_id": "d-2", "event_id": "e", "metric": "order", "value": np.float64(20)},
            Reward("d-2", "f", "click"),
        ]
        assert client.reward_many(events).accepted == 2
    context = api.engine.receipt(str(decisions[0].decision_id)).context
    assert context == {"recency": 3, "channel": "Web"}
    assert {e["value"] for e in api.engine.receipt("d-2").events} == {20, 1}


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"subject": "u"}, "/requests/1/subject"),
        ({"subject_id": 7}, "/requests/1/subject_id"),
        ({"subject_id": "u", "context": {"channel": object()}}, "/requests/1"),
    ],
)
def test_a_dict_that_is_no_request_is_refused_unsent_or_its_batch_falls_back(
    connect, line, row, place
) -> None:
    rows = [{"subject_id": "u-0"}, row]
    with connect(transport=line) as client:
        with pytest.raises(InvalidInput) as caught:
            list(client.choose_many("spring", rows))
        assert caught.value.faults[0].pointer == place
        assert line.tries == 0
        answers = list(
            client.choose_many("spring", [*rows, Request("u-1")], batch=2, fallback=PLAIN)
        )
        assert [a.fallback for a in answers] == [True, True, False]


def test_a_dict_that_is_no_reward_is_refused_unsent(connect, line) -> None:
    with connect(transport=line) as client, pytest.raises(InvalidInput) as caught:
        client.reward_many([{"decision_id": "d", "metric": "click"}])
    assert [(f.pointer, f.detail) for f in caught.value.faults] == [
        ("/rewards/0/event_id", "is required")
    ]
    assert line.tries == 0


def test_batches_that_make_too_large_a_body_go_in_halves_and_in_order(connect, line) -> None:
    line.treatments = ["too large", "too large", "deliver", "too large"]
    with connect(transport=line) as client:
        people = [Request(f"u-{i}", decision_id=f"d-{i}") for i in range(8)]
        answers = list(client.choose_many("spring", people, fallback=PLAIN))
        assert [a.decision_id for a in answers] == [f"d-{i}" for i in range(8)]
        line.treatments = ["too large"]
        events = [Reward(f"d-{i}", "e", "click") for i in range(8)]
        assert client.reward_many(events).accepted == 8
        line.treatments = ["too large"]
        with pytest.raises(ApiError, match="413"):
            client.reward_many(events[:1])


def test_task_that_is_cancelled_has_its_decision_cancelled(api, line) -> None:
    api.start()
    line.treatments = ["never"]

    async def give_up_and_go_on() -> None:
        async with AsyncClient("http://test", api.token, transport=line) as client:
            line.arrival = asyncio.get_running_loop().create_future()
            choice = client.choose("spring", "u-1", decision_id="d-1", fallback=PLAIN)
            task = asyncio.create_task(choice)
            await asyncio.wait_for(line.arrival, LIMIT_SECONDS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not (await client.choose("spring", "u-2", fallback=PLAIN)).fallback

    asyncio.run(give_up_and_go_on())
    assert api.get("/decisions/d-1").json["cancelled_at"]


def test_asynchronous_client_has_every_method_of_the_other_with_its_parameters() -> None:
    def methods(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [(p.name, p.default, p.kind) for p in inspect.signature(m).parameters.values()]
            for name, m in vars(kind).items()
            if inspect.isfunction(m) and not name.startswith("_")
        }

    assert methods(AsyncClient) == methods(Client)
    options = set(inspect.signature(Client).parameters)
    assert set(inspect.signature(AsyncClient).parameters) == options
    for name in methods(AsyncClient):
        method = getattr(AsyncClient, name)
        assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name

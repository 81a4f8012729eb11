"""The sender's client against the real application, over a line that loses answers."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest
from flask import Flask

from bandits.client import ApiError, Client, ConnectionFailed
from bandits.errors import InvalidInput
from bandits.schemas import Request, Reward


class BadLine(httpx.BaseTransport):
    """Hands requests to an application, and treats the answers as told, one word for each."""

    def __init__(self, app: Flask, *treatments: str) -> None:
        self.wsgi = httpx.WSGITransport(app)
        self.treatments = list(treatments)
        self.tries = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.tries += 1
        treatment = self.treatments.pop(0) if self.treatments else "deliver"
        if treatment == "busy":
            return httpx.Response(503, headers={"Retry-After": "2"})
        if treatment == "refuse":
            raise httpx.ConnectError("connection refused", request=request)
        response = self.wsgi.handle_request(request)
        response.read()
        if treatment == "lose":  # the server has done it, but nobody hears
            raise httpx.ReadError("connection lost", request=request)
        return response


@pytest.fixture
def connect(api) -> Callable[..., Client]:
    """Make a client of a server with a running experiment; `waits` collects its pauses."""
    api.start()

    def make(*treatments: str, waits: list[float] | None = None, **options: float) -> Client:
        pauses = [] if waits is None else waits
        line = BadLine(api.app, *treatments)
        return Client("http://test", api.token, transport=line, sleep=pauses.append, **options)

    return make


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


def test_refusal_is_not_tried_again(connect) -> None:
    with connect() as client, pytest.raises(ApiError, match="undeclared feature") as caught:
        client.choose("spring", "u-1", context={"age": 30})
    assert caught.value.status == 422
    assert caught.value.faults[0].pointer == "/context/age"
    assert client._transport._http._transport.tries == 1


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


def test_a_token_may_end_with_its_line_and_never_comes_into_an_error(api) -> None:
    api.start()
    with Client("http://test", f"{api.token}\n", transport=BadLine(api.app)) as client:
        assert client.choose("spring", "u-1").decision_id
    with pytest.raises(InvalidInput) as caught:
        Client("http://test", "secret\nof-two-lines")
    assert "secret" not in str(caught.value)


def test_a_refusal_tells_each_place_once(connect) -> None:
    with connect() as client, pytest.raises(ApiError) as caught:
        client.choose("spring", "u-1", context={"age": 30})
    assert str(caught.value).count("/context/age") == 1

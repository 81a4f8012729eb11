"""The sender's client against a real server, over a line that loses, delays, refuses and resets."""

import socket
import struct
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from bandits.client import Client, ConnectionFailed, Request, Reward
from tests.conftest import SOAK
from tests.patience import CLIENT_LIMITS, LIMIT_SECONDS
from webapp.api.experiments import EXAMPLE

SPRING = EXAMPLE | {"reward": {"metrics": {"click": {}}, "maturity_seconds": 0}, "context": []}


class Line(HTTPServer):
    """Carries requests to a server one by one, and treats them as told, one word for each."""

    def __init__(self, server) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind = server
        self.treatments: list[str] = []
        self.paths: list[str] = []
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        line = self.server
        line.paths.append(self.path)
        treatment = line.treatments.pop(0) if line.treatments else "deliver"
        if treatment == "reset":
            self._reset()
        elif treatment in {"429", "503"}:
            self._answer(int(treatment), {"Retry-After": "1"}, b"busy")
        else:
            headers = {k: self.headers[k] for k in ("Authorization", "Content-Type")}
            url = line.behind.url + self.path
            answer = httpx.post(url, content=body, headers=headers, timeout=LIMIT_SECONDS)
            if treatment == "slow":  # until the client has hung up
                self.connection.settimeout(LIMIT_SECONDS)
                assert self.rfile.read(1) == b""
            if treatment == "lose":
                self._reset()
            elif treatment == "tear":
                self._answer(answer.status_code, {}, answer.content, cut=len(answer.content) // 2)
            else:
                self._answer(answer.status_code, {}, answer.content)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int = 0) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.close_connection = cut > 0

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # close with a reset rather than a farewell
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the client has hung up, or we have
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def line(server) -> Iterator[Line]:
    with server.client() as api:
        assert api.post("/api/v1/experiments", json=SPRING | {"key": "lost"}).status_code == 201
        assert api.post("/api/v1/experiments/lost/start").status_code == 200
    line = Line(server)
    yield line
    line.shutdown()
    line.server_close()


@pytest.fixture
def connect(line) -> Callable[..., Client]:
    def make(*treatments: str, **options: Any) -> Client:
        line.treatments = list(treatments)
        line.paths = []
        if treatments == ("slow",):  # what is tested is the client's own time-out
            options |= {"timeout_seconds": 0.5, "transport": Patient()}
        return Client(line.url, line.behind.token, **CLIENT_LIMITS | options)

    return make


class Patient(httpx.HTTPTransport):
    """Waits for the first answer as long as the client says, and for others up to the limit."""

    first = True

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self.first:
            request.extensions["timeout"] |= {"read": LIMIT_SECONDS}
        self.first = False
        return super().handle_request(request)


@pytest.fixture
def clock() -> SimpleNamespace:
    """The client's clock: it stands still but for the pauses between tries."""
    standing = SimpleNamespace(now=1000.0, pauses=[])

    def pause(seconds: float) -> None:
        standing.now += seconds
        standing.pauses.append(seconds)

    standing.options = {"clock": lambda: standing.now, "sleep": pause}
    return standing


@pytest.mark.parametrize("trouble", ["reset", "lose", "slow", "tear", "429", "503"])
def test_client_over_a_bad_line_records_one_decision_and_one_event(connect, line, trouble) -> None:
    with connect(trouble) as client:
        decision = client.choose("lost", f"u-{trouble}")
    with connect(trouble) as client:
        receipt = client.reward(str(decision.decision_id), "click")
        assert receipt.accepted + receipt.repeated == 1
        assert len(line.paths) == 2
        again = client.reward(str(decision.decision_id), "click", event_id="mine")
        assert again.accepted == 1
    with line.behind.client() as api:
        receipt = api.get(f"/api/v1/decisions/{decision.decision_id}").json()
    assert len(receipt["events"]) == 2
    # What was done although nobody heard of it is found again; the rest was not done at all.
    assert decision.repeat == (trouble in {"lose", "slow", "tear"})


def test_batches_of_any_length_get_through_a_bad_line_in_order(connect, line) -> None:
    people = (Request(f"b-{i}") for i in range(500))
    troubles = ["lose", "deliver", "reset", "tear", "deliver", "503"]
    with connect(*troubles) as client:
        decided = list(client.choose_many("lost", people, batch=200))
        rewards = [Reward(str(d.decision_id), "e", "click") for d in decided]
        receipt = client.reward_many(iter(rewards), batch=300)
    assert len({d.decision_id for d in decided}) == 500
    assert receipt.accepted + receipt.repeated == 500
    with line.behind.client() as api:
        path = f"/api/v1/decisions/{decided[321].decision_id}"
        assert len(api.get(path).json()["events"]) == 1


def test_unanswered_decision_is_cancelled_once_the_server_answers(connect, line, clock) -> None:
    plain = {"subject_line": "plain", "discount": "none"}
    with connect(*["lose"] * 1000, **clock.options) as client:
        email = client.choose("lost", "f-1", decision_id="lost-f-1", fallback=plain)
        assert email.fallback
        assert email.decision_id is None
        assert email.slots["subject_line"]["variant"] == "plain"
        line.treatments.clear()
        line.paths.clear()
        clock.now += 30
        assert not client.choose("lost", "f-2", fallback=plain).fallback
    assert [p.rpartition("/")[2] for p in line.paths] == ["choose", "cancel"]
    with line.behind.client() as api:
        assert api.get("/api/v1/decisions/lost-f-1").json()["cancelled_at"]


def test_unanswered_decision_asked_for_again_is_not_cancelled(connect, line, clock) -> None:
    plain = {"subject_line": "plain", "discount": "none"}
    with connect(*["lose"] * 1000, **clock.options) as client:
        assert client.choose("lost", "g-1", decision_id="lost-g-1", fallback=plain).fallback
        line.treatments.clear()
        clock.now += 30
        assert client.choose("lost", "g-1", decision_id="lost-g-1", fallback=plain).repeat
    with line.behind.client() as api:
        assert api.get("/api/v1/decisions/lost-g-1").json()["cancelled_at"] is None


def test_unanswered_batch_is_sent_the_fallback_and_so_is_the_next(connect) -> None:
    plain = {"subject_line": "plain", "discount": "none"}
    options = {"deadline_seconds": 0.05, "batch_timeout_seconds": 0.05}
    people = [Request(f"h-{i}") for i in range(4)]
    with connect("reset", **options) as client:
        decided = list(client.choose_many("lost", people, batch=2, fallback=plain))
    assert [d.fallback for d in decided] == [True] * 4


def test_client_sends_the_fallback_at_once_while_the_server_is_down(clock) -> None:
    plain = {"subject_line": "a"}
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Client(url, "token", **clock.options) as client:
            assert client.choose("lost", "u", fallback=plain).fallback
            tries = len(clock.pauses)
            assert tries > 0
            assert client.choose("lost", "v", fallback=plain).fallback
            assert len(clock.pauses) == tries
            with pytest.raises(ConnectionFailed, match="ConnectError"):
                client.choose("lost", "w")


def test_server_that_accepts_and_never_answers_costs_one_time_out(clock) -> None:
    plain = {"subject_line": "a"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, "token", timeout_seconds=0.2, **clock.options) as client:
            for i in range(100_000 if SOAK else 10_000):
                assert client.choose("lost", f"u-{i}", fallback=plain).fallback
            assert connections(silent) == 1
        assert connections(silent) == 1  # the farewell: its decision is still to be cancelled
    assert clock.pauses == []


def connections(server: socket.socket) -> int:
    """Count the connections that wait at a server, and end them."""
    server.settimeout(0)
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1

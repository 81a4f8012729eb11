"""The socket that systemd hands over: which one is taken, and which is refused."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from bandits.errors import InvalidInput
from webapp import listener
from webapp.listener import LastAnswers, activated_socket, drain_when_told


def handed_over(monkeypatch, opened: socket.socket, **variables: str) -> dict[str, str]:
    """Hand a copy of a socket over to this process; return the environment that says so."""
    monkeypatch.setattr(listener, "_FIRST", os.dup(opened.fileno()))
    own = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "bandits.socket"}
    return {"PATH": "/bin", **own, **variables}


def test_activated_socket_is_taken_once_and_is_for_no_other_program(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        environment = handed_over(monkeypatch, opened)
        taken = activated_socket(environment)
        assert taken is not None
        with taken:
            assert taken.getsockname() == opened.getsockname()
            assert not taken.get_inheritable()
        assert environment == {"PATH": "/bin"}
        assert activated_socket(environment) is None


def test_activated_socket_of_another_process_is_left_alone(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        environment = handed_over(monkeypatch, opened, LISTEN_PID=str(os.getppid()))
        assert activated_socket(environment) is None
        assert environment == {"PATH": "/bin"}, "a worker would take it for its own"
        with socket.socket(fileno=listener._FIRST) as untouched:
            assert untouched.getsockname() == opened.getsockname()


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),  # which does not listen
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_STREAM),
    ],
)
def test_activated_socket_that_listens_at_no_port_is_refused(monkeypatch, family, kind) -> None:
    with socket.socket(family, kind) as opened:
        if family == socket.AF_UNIX:
            opened.bind("")
            opened.listen()
        environment = handed_over(monkeypatch, opened)
        with pytest.raises(InvalidInput, match="LISTEN_FDS: must be a socket that listens"):
            activated_socket(environment)


def test_several_activated_sockets_are_refused(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        environment = handed_over(monkeypatch, opened, LISTEN_FDS="2")
        with pytest.raises(InvalidInput, match="LISTEN_FDS: one socket is served, not 2"):
            activated_socket(environment)
        os.close(listener._FIRST)


@pytest.fixture
def tell_to_drain() -> Iterator[Callable[[], None]]:
    """Tell this process to drain, as its launcher does."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_drain_leaves_new_connections_to_the_successor(tell_to_drain) -> None:
    app = SimpleNamespace(wsgi_app="inner")
    opened = socket.create_server(("127.0.0.1", 0))
    with opened, opened.dup() as own, socket.create_connection(opened.getsockname()):
        own.settimeout(0)
        drain_when_told(app, own.fileno())
        tell_to_drain()
        with pytest.raises(BlockingIOError):
            own.accept()
        opened.accept()[0].close()
    assert isinstance(app.wsgi_app, LastAnswers)


def test_last_answers_end_their_connection_and_keep_their_headers() -> None:
    said: list[tuple[str, list[tuple[str, str]]]] = []

    def inner(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"alive"]

    answer = LastAnswers(inner)({}, lambda status, headers, *_: said.append((status, headers)))
    assert list(answer) == [b"alive"]
    assert said == [("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])]

"""Listener that systemd opened and keeps open (socket activation): it outlives each server.

Whoever connects while one server ends and the next one starts waits in the queue of the socket, and
is not refused. A server that ends takes no more of the queue first, and goes on for a moment with
the connections that it has: each answer ends its own. Otherwise a request that was just being sent
would be lost with its connection.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flask import Flask
from granian._granian import SocketHolder
from granian.server.mp import MPServer

from bandits.errors import InvalidInput

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_FIRST = 3  # descriptor of the first socket that systemd hands over
_QUEUE = 4096  # connections that wait; the system's own limit is usually this
_DRAIN = signal.SIGUSR1
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_log = logging.getLogger(__name__)


def activated_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """Take the socket that systemd handed over to this process; None where there is none.

    Args:
        environment: of the process; what it says of sockets is removed, since it is of no other.

    Raises:
        InvalidInput: there are several, or it is not one that listens for TCP.
    """
    pid, count, _ = (environment.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or count in {"", "0"}:
        return None
    if count != "1":
        raise InvalidInput.at("LISTEN_FDS", f"one socket is served, not {count}")
    listener = socket.socket(fileno=_FIRST)
    listens = listener.type == socket.SOCK_STREAM and listener.family in _FAMILIES
    if not listens or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listener.close()
        raise InvalidInput.at("LISTEN_FDS", "must be a socket that listens at a port (TCP)")
    listener.set_inheritable(False)  # workers get it, and no other program
    return listener


class ActivatedServer(MPServer):
    """Granian whose workers share a socket that was opened before it, and that it never closes."""

    def __init__(
        self, listener: socket.socket, drain_seconds: float, *arguments: Any, **options: Any
    ) -> None:
        """Serve on `listener`.

        Args:
            listener: listens already.
            drain_seconds: that workers go on with the connections that they have.
            arguments: of Granian.
            options: of Granian.
        """
        super().__init__(*arguments, **options)
        self._listener = listener
        self._drain_seconds = drain_seconds
        signal.signal(_DRAIN, signal.SIG_IGN)  # a worker inherits that until it can drain

    def _init_shared_socket(self) -> None:
        descriptor = self._listener.fileno()
        self._ssp = None
        self._shd = cast("Any", SocketHolder)(descriptor, False, _QUEUE)  # noqa: FBT003 - Granian's
        self._sfd = descriptor  # type: ignore[assignment]  # it is annotated nowhere
        self._sso = self._listener

    def _stop_workers(self) -> None:
        for web_worker in self.wrks:
            if web_worker.inner.is_alive():
                os.kill(web_worker.inner.pid, _DRAIN)
        time.sleep(self._drain_seconds)
        super()._stop_workers()  # type: ignore[no-untyped-call]  # as all of Granian


def drain_when_told(app: Flask, descriptor: int) -> None:
    """Let a worker drain before it ends: take no new connection, and end each with its answer.

    Args:
        app: of this worker.
        descriptor: of the listener.
    """
    signal.signal(_DRAIN, partial(_drain, app, descriptor))


def _drain(app: Flask, descriptor: int, *_: object) -> None:
    with socket.socket(socket.AF_UNIX) as nobodys:
        nobodys.bind("")  # a name that the system makes up
        nobodys.listen(1)
        nobodys.settimeout(0)
        os.dup2(nobodys.fileno(), descriptor, inheritable=False)
    app.wsgi_app = LastAnswers(app.wsgi_app)  # type: ignore[method-assign]  # as its manual does


class LastAnswers:
    """WSGI middleware that ends each connection with its answer."""

    def __init__(self, inner: "WSGIApplication") -> None:
        """Wrap `inner`."""
        self._inner = inner

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request as `inner` does, and let its connection end."""

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ("Connection", "close")], *error)

        return self._inner(environ, start)

"""Connection watch: ends the waits for a PostgreSQL server that no longer answers anything.

A server whose processes are stopped, whose disk hangs or whose network is cut enforces none of its
own time-outs, and TCP may keep a silent connection for hours. So waits are noted here. Where one is
long, the watch asks the server something trivial on a connection of its own. While that is
answered, the wait is for honest work and goes on, for hours if need be; where it is not, every wait
is ended, and new work is refused at once until the server answers again (docs/adr/0061).
"""

import logging
import os
import select
import socket
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any

import psycopg

from bandits.errors import Unavailable

LONG_SECONDS = 2.0  # a wait that lasts longer makes the watch ask
ANSWER_SECONDS = 3.0  # for the answer
_LOOK_SECONDS = 0.25
_SILENT = "the database does not answer"
_log = logging.getLogger(__name__)


class ConnectionWatch:
    """Watch over the connections of this process to one PostgreSQL server.

    Attributes:
        silent: the server did not answer when it was asked last.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        """Watch connections made by `connect`; call `forget` once the server is silent.

        Args:
            forget: closes connections that are not in use, since they may be dead.
        """
        self.silent = False
        self._forget = forget
        self._waits: dict[object, float] = {}  # a connection, or an attempt to make one
        self._parameters: dict[str, Any] = {}
        self._starting = Lock()
        self._stop: Event | None = None
        self._asking: psycopg.Connection[Any] | None = None

    def check(self) -> None:
        """Refuse work while the server is silent.

        Raises:
            Unavailable: it is.
        """
        if self.silent:
            raise Unavailable(_SILENT)

    def connect(self, *arguments: Any, **parameters: Any) -> psycopg.Connection[Any]:
        """Connect by these arguments of psycopg, unless the server is silent.

        Raises:
            Unavailable: it is.
        """
        self.check()
        self._parameters = {k: v for k, v in parameters.items() if k != "context"}
        self._start()
        attempt = object()
        self._waits[attempt] = time.monotonic()
        try:
            connection = _WatchedConnection.connect(*arguments, **parameters)
        finally:
            del self._waits[attempt]
        connection.waits = self._waits
        return connection

    def close(self) -> None:
        """End the watch; the next connection begins it again."""
        with self._starting:
            if self._stop is not None:
                self._stop.set()
                self._stop = None
            self.silent = False

    def look(self) -> None:
        """Ask the server where a wait is long or it was silent, and end all waits if it is."""
        waits = self._waits.copy()
        longest = min(waits, key=waits.__getitem__, default=None)
        is_long = longest is not None and waits[longest] <= time.monotonic() - LONG_SECONDS
        if not self.silent and not is_long:
            self.drop()
            return
        if self._answers(None if self.silent else longest):
            if self.silent:
                _log.warning("the database answers again")
            self.silent = False
            return
        self.drop()
        if not self.silent:
            _log.warning("%s: what waits for it is ended, what comes is refused", _SILENT)
        self.silent = True
        self._forget()
        self._end_waits()

    def _start(self) -> None:
        with self._starting:
            if self._stop is None:
                self._stop = Event()
                arguments = (weakref.ref(self), self._stop)
                Thread(target=_run, args=arguments, name="connections", daemon=True).start()

    def _answers(self, waiting: object) -> bool:
        """Return False where the server does not answer in time.

        An error is an answer: it tells those who wait as well.

        Args:
            waiting: connection whose server is asked, where there are several.
        """
        parameters = self._parameters | {"connect_timeout": int(ANSWER_SECONDS)}
        try:
            if self._asking is None or self._asking.closed:
                if isinstance(waiting, psycopg.Connection):
                    parameters |= _server_of(waiting)
                self._asking = psycopg.connect(autocommit=True, **parameters)
            return _is_answered(self._asking)
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            self.drop()
            return True

    def drop(self) -> None:
        """Close the watch's own connection."""
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def _end_waits(self) -> None:
        for connection in self._waits.copy():
            if not isinstance(connection, psycopg.Connection):
                continue  # it has a time-out
            # A thread that waits notices that its socket is shut down. The copy is shut down, so
            # that the number is still the connection's own when it is closed.
            with suppress(OSError, psycopg.Error):
                copy = socket.socket(fileno=os.dup(connection.pgconn.socket))
                with copy:
                    copy.shutdown(socket.SHUT_RDWR)


class _WatchedConnection(psycopg.Connection[Any]):
    """Connection that notes since when its thread waits for the server."""

    waits: dict[object, float] | None = None  # while it is being made

    def wait(self, *arguments: Any, **options: Any) -> Any:
        """Wait as psycopg does."""
        waits = self.waits
        if waits is None:
            return super().wait(*arguments, **options)
        waits[self] = time.monotonic()
        try:
            return super().wait(*arguments, **options)
        finally:
            del waits[self]


def _server_of(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return the parameters that lead to the server of a connection, whatever else it is."""
    info = connection.info
    return {"host": info.host, "port": info.port, "target_session_attrs": "any"}


def _is_answered(connection: psycopg.Connection[Any]) -> bool:
    """Ask the server something trivial; return False where it does not answer in time."""
    asking = connection.pgconn
    asking.send_query(b"SELECT 1")
    asking.flush()
    ends = time.monotonic() + ANSWER_SECONDS
    arrival = select.poll()
    arrival.register(asking.socket, select.POLLIN)
    while True:
        while not asking.is_busy():
            if asking.get_result() is None:
                return True
        left = ends - time.monotonic()
        if left <= 0 or not arrival.poll(1000 * left):
            return False
        asking.consume_input()


def _run(watch: "weakref.ref[ConnectionWatch]", stop: Event) -> None:
    """Look until stopped, or until nobody has the watch any more."""
    while not stop.wait(_LOOK_SECONDS):
        present = watch()
        if present is None:
            return
        try:
            present.look()
        except Exception:  # noqa: BLE001 - without it a silent server would keep every thread
            _log.exception("cannot watch the connections to the database")
        del present
    if (present := watch()) is not None:
        present.drop()

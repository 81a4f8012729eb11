"""A real server, as anybody would start it: `bandits serve` in a process of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import httpx
import pytest
from click.testing import CliRunner

from bandits.cli import main
from bandits.client import Client
from storage import open_store
from storage.accounts.roles import Scope
from tests.patience import CLIENT_LIMITS, LIMIT_SECONDS, wait_until

BANDITS = Path(sys.executable).with_name("bandits")
_ACTIVATION = """
import os, sys

os.dup2(int(sys.argv[1]), 3)  # as systemd hands a socket over
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="bandits.socket")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Server:
    """A running `bandits serve`, and the command line on the same database."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        database_url: str | None = None,
        listener: socket.socket | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.database = folder / "bandits.db"
        self.database_url = database_url or f"sqlite:///{self.database}"
        self.log = folder / "server.log"
        settings = {
            "BANDITS_SPOOL_FOLDER": str(folder / "spool"),
            "BANDITS_WAIT_SECONDS": str(LIMIT_SECONDS),  # on a busy machine
            **settings,
        }
        command = [BANDITS, "serve", "--database", self.database_url, "--port", "0", *options]
        descriptors: tuple[int, ...] = ()
        if listener is not None:
            descriptors = (listener.fileno(),)
            command = [sys.executable, "-ISc", _ACTIVATION, str(listener.fileno()), *command]
        with self.log.open("ab") as log:
            start = log.tell()
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(**settings),
                pass_fds=descriptors,
            )
        self.url = self._address(start)
        self._token = ""

    def _address(self, start: int) -> str:
        def announced() -> str:
            said = self.log.read_bytes()[start:].decode()
            if address := re.search(r"http://127\.0\.0\.1:\d+", said):
                return address[0]
            assert self.process.poll() is None, f"the server did not start:\n{said}"
            return ""

        try:
            return wait_until(announced, "address of the server")
        except AssertionError:
            self.process.kill()
            raise

    @property
    def worker(self) -> int:
        """The id of its web worker's process, which holds the lock."""
        return int(Path(f"{self.database}.lock").read_text())

    @property
    def token(self) -> str:
        """The token of an API key that may do everything."""
        if not self._token:
            with closing(open_store(self.database_url)) as store:
                made = store.accounts.keys.create(
                    "test", get_args(Scope), at=time.time(), by="test"
                )
            self._token = made.token
        return self._token

    def bandits(
        self, *arguments: str, check: bool = True, typed: str | None = None
    ) -> subprocess.CompletedProcess:
        """Run a command of ours on the server's database, without a process of its own.

        To start one takes longer than most commands; `bandits_process` does.
        """
        unset = dict.fromkeys(k for k in os.environ if k.startswith("BANDITS_"))
        settings = {**unset, "BANDITS_DATABASE_URL": self.database_url}
        status = 0
        with CliRunner().isolation(typed, settings) as (stdout, stderr, _):
            try:
                main(arguments)
            except SystemExit as end:
                status = int(end.code or 0)
        out, err = stdout.getvalue().decode(), stderr.getvalue().decode()
        if check and status:
            raise subprocess.CalledProcessError(status, arguments, out, err)
        return subprocess.CompletedProcess(arguments, status, out, err)

    def bandits_process(
        self, *arguments: str, check: bool = True, **given
    ) -> subprocess.CompletedProcess:
        """Run a command of ours on the server's database, in a process of its own."""
        return subprocess.run(
            [BANDITS, *arguments],
            check=check,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            env=environment(BANDITS_DATABASE_URL=self.database_url),
            **given,
        )

    def client(self, token: str | None = None) -> httpx.Client:
        """Open a client of the API, with a key that may do everything unless another is given."""
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=LIMIT_SECONDS)

    def sender(self) -> Client:
        """Open a sender's client that may do everything."""
        return Client(self.url, self.token, **CLIENT_LIMITS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it, and return its exit status."""
        self.process.send_signal(number)
        try:
            status = self.process.wait(LIMIT_SECONDS)
        finally:
            self.process.kill()
            self.process.communicate(timeout=LIMIT_SECONDS)
        return status


def environment(**added: str) -> dict[str, str]:
    """Return our environment without settings of the person who runs the tests."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("BANDITS_")}
    return {**own, **added}


@pytest.fixture
def start_server(tmp_path) -> Iterator[Callable[..., Server]]:
    """Start servers that a test may do to what it likes; they share a database."""
    started: list[Server] = []

    def start(
        *options: str,
        folder: Path = tmp_path,
        database_url: str | None = None,
        listener: socket.socket | None = None,
        **settings: str,
    ) -> Server:
        where = {"database_url": database_url, "listener": listener}
        started.append(Server(folder, *options, **where, **settings))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)
        server.process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """One server for all tests of this process: leave it running, and use keys of your own."""
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def api(server) -> Iterator[httpx.Client]:
    """A client of the shared server's API that may do everything."""
    with server.client() as client:
        yield client

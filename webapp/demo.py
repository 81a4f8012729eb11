"""Demo (`bandits demo`): a server, a sample experiment, and simulated recipients of its emails."""

import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Event, Thread
from typing import get_args

import click
import httpx
import numpy as np
from msgspec import Struct, json
from rich.status import Status

from bandits.cli import progress_console
from bandits.client import ApiError, Client
from bandits.errors import BanditsError, InvalidInput, NotFound, Unavailable
from bandits.schemas import Request
from storage import open_store, upgrade
from storage.accounts import AccountStore
from storage.accounts.api_keys import NewKey
from storage.accounts.roles import Scope
from webapp.passwords import hash_password
from webapp.sample import KEY, SampleRecipients, sample_experiment
from webapp.server import Address, PortInUse, reserve, serve
from webapp.settings import Settings

EMAIL = "demo@example.com"

_BY = "demo"
_WAVE = 300  # recipients a second at first: enough to see shares move within a minute
_LATER_WAVE = 30  # from then on, since the demo may run overnight
_FIRST_EMAILS = 60_000  # sent in waves of the first size
_WAVE_SECONDS = 1.0
_START_SECONDS = 60.0
_WORDS = "amber birch cedar clover fern hazel ivy juniper laurel maple olive poppy sage thyme"


class DemoStopped(Exception):
    """The demo is to end."""


class DemoLogin(Struct, frozen=True):
    """Address of the demo, password of its visitors and API key of its sender."""

    url: str
    password: str
    token: str


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen at")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="the port to listen at; 0 takes a free one",
)
@click.option(
    "--database",
    metavar="URL",
    help="keep the demo here and go on with it next time; else it is new and gone in the end",
)
def demo(host: str, port: int, database: str | None) -> None:
    """Serve a sample campaign whose simulated recipients answer through the API, until Ctrl-C."""
    try:
        with reserve(Address(host, port)) as free:
            pass  # fails now if it is in use
        with _database(database) as url:
            _run(Settings.read(os.environ, database_url=url), free, kept=database is not None)
    except InvalidInput:
        raise
    except PortInUse as error:
        raise click.ClickException(f"{error}; choose another with --port") from None
    except BanditsError as error:
        raise click.ClickException(str(error)) from None
    click.echo("The demo is stopped.", err=True)


@contextmanager
def _database(url: str | None) -> Iterator[str]:
    """Yield the URL of the database: `url`, or that of a new one that is removed in the end."""
    if url is not None:
        yield url
        return
    folder = Path(tempfile.mkdtemp(prefix="bandits-demo-"))
    try:
        yield f"sqlite:///{folder / 'demo.db'}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(settings: Settings, address: Address, *, kept: bool) -> None:
    """Serve in this thread and send emails in another, until a signal ends both."""
    upgrade(settings.database_url)
    with closing(open_store(settings.database_url)) as store:
        password, key = _accounts(store.accounts)
        login = DemoLogin(str(address.local), password, key.token)
        place = settings.database_url if kept else "a temporary folder, removed in the end"
        stop = Event()
        sender = Thread(target=_send, args=(login, place, stop), name="recipients", daemon=True)
        sender.start()
        try:
            serve(settings, address, 1)
        finally:
            stop.set()
            sender.join()
            store.accounts.keys.revoke(key.key.id, at=time.time(), by=_BY)


def _accounts(accounts: AccountStore) -> tuple[str, NewKey]:
    """Create the visitor's account and the sender's key."""
    password = "-".join(secrets.choice(_WORDS.split()) for _ in range(4))
    now = time.time()
    try:
        accounts.set_password(EMAIL, hash_password(password), at=now, by=_BY)
    except NotFound:
        accounts.add_user(EMAIL, hash_password(password), "admin", at=now, by=_BY)
    return password, accounts.keys.create("Demo sender", get_args(Scope), at=now, by=_BY)


def _send(login: DemoLogin, place: str, stop: Event) -> None:
    """Wait for the server, then send waves of emails and report the recipients' events."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the server has an access log of its own

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise DemoStopped

    try:
        _await_server(login.url, wait)
        _start_experiment(login)
        click.echo(_welcome(login, place))
        sys.stdout.flush()
        with Client(login.url, login.token, sleep=wait) as client, _status() as status:
            _send_waves(client, status, wait)
    except DemoStopped:
        pass
    except BanditsError as error:
        if not stop.is_set():
            click.echo(f"The simulated recipients stopped: {error}", err=True)


def _status() -> Status:
    return progress_console.status("The first emails leave …")


def _await_server(url: str, wait: Callable[[float], None]) -> None:
    """Wait until the server answers.

    Raises:
        Unavailable: it has not answered for a minute.
    """
    give_up_at = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up_at:
        try:
            if httpx.get(f"{url}/healthz").is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        wait(0.1)
    raise Unavailable("the server does not answer")


def _start_experiment(login: DemoLogin) -> None:
    """Create and start the sample experiment, unless a kept demo has it already."""
    headers = {"Authorization": f"Bearer {login.token}", "Content-Type": "application/json"}
    with httpx.Client(base_url=f"{login.url}/api/v1", headers=headers) as http:
        response = http.post("/experiments", content=json.encode(sample_experiment()))
        if response.is_success:
            http.post(f"/experiments/{KEY}/start").raise_for_status()


def _welcome(login: DemoLogin, place: str) -> str:
    return f"""
  The demo is running.

    Open       {login.url}/experiments/{KEY}
    E-mail     {EMAIL}
    Password   {login.password}
    API key    {login.token}

  A spring sale with 3 subject lines, 2 content blocks and 2 discounts is being sent to simulated
  recipients; watch the shares move. The database is {place}.
  Ctrl-C stops everything.
"""


def _send_waves(client: Client, status: Status, wait: Callable[[float], None]) -> None:
    recipients = SampleRecipients(np.random.default_rng())
    sent = reported = 0
    while True:
        start = time.monotonic()
        size = _WAVE if sent < _FIRST_EMAILS else _LATER_WAVE
        requests = [Request(f"recipient-{secrets.token_hex(8)}") for _ in range(size)]
        try:
            decisions = list(client.choose_many(KEY, requests))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            decisions = []  # paused or stopped in the browser
        recipients.receive(decisions, time.monotonic())
        sent += len(decisions)
        if events := recipients.reports(time.monotonic()):
            client.reward_many(events)
        reported += len(events)
        note = "" if decisions else " The campaign does not run at the moment."
        status.update(f"{sent:,} emails sent, {reported:,} reactions reported.{note}")
        wait(max(0.0, start + _WAVE_SECONDS - time.monotonic()))

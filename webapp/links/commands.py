"""Commands of tracked links."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.table import Table

from bandits.errors import InvalidInput
from storage import SqlStore, open_store, upgrade
from storage.connections import parse_keys
from storage.settings import database_option
from storage.tracked_links import StoredTrackingKey
from webapp.commands import read_name

_WIDE = 240
_BY = "command line"
_KEYS = "BANDITS_ENCRYPTION_KEY"
_number = click.argument("key_id", type=click.IntRange(1, 2**31 - 1), metavar="ID")


@click.group()
def tracking() -> None:
    """Keys of tracked links, and the hosts that these may lead to."""


@tracking.command("create")
@database_option
@click.argument("name", callback=read_name)
def create_command(database: str, name: str) -> None:
    """Make a key for the sender called NAME and print it, with its secret, this once."""
    upgrade(database)
    with _opened(database) as store:
        new = store.tracked_links.create(name, at=time.time(), by=_BY)
        if not store.connections.encrypts:
            click.echo(f"its secret is stored unencrypted: {_KEYS} is not set", err=True)
    click.echo(new.text)


@tracking.command("list")
@database_option
def list_command(database: str) -> None:
    """List keys and their state, without their secrets."""
    with _opened(database) as store:
        keys = store.tracked_links.all()
    heads = ("id", "begins with", "name", "made", "state", "last event", "counted", "machines")
    table = Table(*heads, box=None)
    for key in keys:
        table.add_row(*_row(key))
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:  # for programs: one line a key, nothing cut
        console = Console(width=_WIDE, markup=False, emoji=False)
    console.print(table)


@tracking.command("rotate")
@database_option
@_number
def rotate_command(database: str, key_id: int) -> None:
    """Make a key in place of ID and print it; links that ID signed go on to work and to count."""
    with _opened(database) as store:
        new = store.tracked_links.rotate(key_id, at=time.time(), by=_BY)
    click.echo(new.text)


@tracking.command("revoke")
@database_option
@_number
def revoke_command(database: str, key_id: int) -> None:
    """Count no click of the links of ID from now on, where it leaked; they lead on."""
    with _opened(database) as store:
        store.tracked_links.revoke(key_id, at=time.time(), by=_BY)


@tracking.command("hosts")
@database_option
@click.option("--allow", multiple=True, metavar="HOST", help="let links lead there; for each host")
@click.option("--remove", multiple=True, metavar="HOST", help="let no link lead there any more")
def hosts_command(*, database: str, allow: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """List the hosts that links may lead to, after changing them.

    HOST is shop.example, or *.shop.example for all below it.
    """
    upgrade(database)
    with _opened(database) as store:
        hosts = store.tracked_links.hosts()
        removed = {host.lower() for host in remove}
        if unknown := sorted(removed - set(hosts)):
            raise click.BadParameter(f"{unknown[0]} is not allowed now", param_hint="--remove")
        if allow or remove:
            left = [host for host in hosts if host not in removed]
            changed = [*left, *allow]
            hosts = store.tracked_links.set_hosts(changed, at=time.time(), by=_BY)
    for host in hosts:
        click.echo(host)


@contextmanager
def _opened(database: str) -> Iterator[SqlStore]:
    """Open the store with the keys of the environment.

    Raises:
        InvalidInput: a key is too short.
    """
    try:
        keys = parse_keys(os.environ.get(_KEYS, ""))
    except ValueError as error:
        raise InvalidInput.at(_KEYS, str(error)) from None
    store = open_store(database, keys)
    try:
        yield store
    finally:
        store.close()


def _row(key: StoredTrackingKey) -> list[str]:
    state = "signs" if key.signs else "revoked" if key.revoked_at is not None else "replaced"
    event = "none yet" if key.event_at is None else _minute(key.event_at)
    counts = (str(key.counts.recorded), str(key.counts.machine))
    return [str(key.id), key.key_id, key.name, _minute(key.created_at), state, event, *counts]


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))

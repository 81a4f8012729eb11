"""Commands of connections."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.table import Table

from bandits.cli import NumberRange
from bandits.errors import InvalidInput
from storage import SqlStore, open_store, upgrade
from storage.connections import Connection, parse_keys
from storage.settings import database_option
from webapp.signals.connection_kind import ConnectionKind
from webapp.signals.kind_registry import connection_kind
from webapp.webhooks.connection_setup import NewConnection, add_connection, rotate_connection

_WIDE = 240
_BY = "command line"
_KEYS = "BANDITS_ENCRYPTION_KEY"

_secret_option = click.option(
    "--secret", metavar="SECRET", help="the secret of a kind that has one"
)
_stdin_option = click.option(
    "--secret-stdin", is_flag=True, help="read that secret from standard input"
)
_values_option = click.option(
    "--value",
    "pairs",
    multiple=True,
    metavar="FIELD=VALUE",
    help="a field of the kind, as docs/connections has them; once for each",
)


@click.group()
def connection() -> None:
    """Connect mailers and shops that report events by themselves."""


@connection.command("add")
@database_option
@_secret_option
@_stdin_option
@_values_option
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="EVENT=METRIC",
    help="the metric that events of a name feed, if it is not the name itself",
)
@click.option(
    "--excludes-bounces",
    is_flag=True,
    help="leave out emails to addresses that do not exist; careful: content also decides what "
    "bounces, and where versions bounce differently the comparison is then biased",
)
@click.argument("kind")
@click.argument("key")
def add_command(  # noqa: PLR0913 - one for each option
    *,
    database: str,
    secret: str | None,
    secret_stdin: bool,
    pairs: Sequence[str],
    metrics: Sequence[str],
    excludes_bounces: bool,
    kind: str,
    key: str,
) -> None:
    """Add the connection KEY of a KIND, such as sendgrid; prints the path of its webhook."""
    declared = connection_kind(kind)
    upgrade(database)
    with opened_store(database) as store:
        new = add_connection(
            store.connections,
            kind,
            key,
            _values(declared, _secret(secret, from_stdin=secret_stdin), pairs),
            metrics=_pairs(metrics, "--metric"),
            excludes_bounces=excludes_bounces,
            at=time.time(),
            by=_BY,
        )
        _print_new(new)
        if not store.connections.encrypts:
            click.echo(f"its secrets are stored unencrypted: {_KEYS} is not set", err=True)


@connection.command("list")
@database_option
def list_command(database: str) -> None:
    """List connections and their state, without their secrets."""
    with opened_store(database) as store:
        connections = store.connections.all()
    heads = ("key", "kind", "state", "last event", "counted", "waiting", "refused", "rejected")
    table = Table(*heads, box=None)
    for row in map(_row, connections):
        table.add_row(*row)
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:  # for programs: one line a connection, nothing cut
        console = Console(width=_WIDE, markup=False, emoji=False)
    console.print(table)


@connection.command("pause")
@database_option
@click.argument("key")
def pause_command(database: str, key: str) -> None:
    """Take no events of KEY for now; its sender is asked to come again."""
    with opened_store(database) as store:
        store.connections.set_paused(key, paused=True, at=time.time(), by=_BY)


@connection.command("resume")
@database_option
@click.argument("key")
def resume_command(database: str, key: str) -> None:
    """Take events of KEY again."""
    with opened_store(database) as store:
        store.connections.set_paused(key, paused=False, at=time.time(), by=_BY)


@connection.command("rotate")
@database_option
@_secret_option
@_stdin_option
@_values_option
@click.option(
    "--grace-hours",
    type=NumberRange(0, 720),
    default=24.0,
    show_default=True,
    help="how long the secrets until now work beside the new ones; 0 where they leaked",
)
@click.argument("key")
def rotate_command(  # noqa: PLR0913 - one for each option
    *,
    database: str,
    secret: str | None,
    secret_stdin: bool,
    pairs: Sequence[str],
    grace_hours: float,
    key: str,
) -> None:
    """Give KEY new secrets."""
    with opened_store(database) as store:
        kind = connection_kind(store.connections.find(key).kind)
        new = rotate_connection(
            store.connections,
            key,
            _values(kind, _secret(secret, from_stdin=secret_stdin), pairs),
            grace_seconds=grace_hours * 3600,
            at=time.time(),
            by=_BY,
        )
    _print_new(new)


@connection.command("delete")
@database_option
@click.option("--yes", is_flag=True, help="do not ask")
@click.argument("key")
def delete_command(*, database: str, yes: bool, key: str) -> None:
    """Delete KEY with its secrets and refused events; what was counted stays counted."""
    with opened_store(database) as store:
        store.connections.find(key)
        if not yes:
            click.confirm(f"Delete the connection {key}?", abort=True, err=True)
        store.connections.delete(key, at=time.time(), by=_BY)


@connection.command("encrypt")
@database_option
def encrypt_command(database: str) -> None:
    """Encrypt all secrets and refused events under the first key of the server's settings.

    Afterwards, the other keys may be removed from there.
    """
    with opened_store(database) as store:
        if not store.connections.encrypts:
            raise click.UsageError(f"{_KEYS} is not set")
        count = store.connections.reseal()
        keys = store.tracked_links.reseal()
    click.echo(f"encrypted the secrets of {count} connections and {keys} tracking keys", err=True)


@contextmanager
def opened_store(database: str) -> Iterator[SqlStore]:
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


def _secret(secret: str | None, *, from_stdin: bool) -> str | None:
    return sys.stdin.readline().rstrip("\n") if from_stdin else secret


def _values(kind: ConnectionKind, secret: str | None, pairs: Sequence[str]) -> dict[str, str]:
    """Read the values of fields: those that are named, and the secret of a kind with one.

    Raises:
        click.UsageError: the kind has no single secret, or a value has no name.
    """
    values = _pairs(pairs, "--value")
    if secret is None:
        return values
    names = [field.name for field in kind.fields if field.secret and not field.optional]
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise click.UsageError(
            f"{kind.name} has not one secret ({listed}); use --value FIELD=VALUE"
        )
    return {**values, names[0]: secret}


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{option} takes NAME=VALUE")
        pairs[name.strip()] = value
    return pairs


def _print_new(new: NewConnection) -> None:
    click.echo(f"/webhooks/{new.connection.kind}/{new.connection.key}")
    for name, value in new.generated.items():
        click.echo(f"{name}: {value}")


def _row(connection: Connection) -> list[str]:
    event_at, counts = connection.event_at, connection.counts
    day = "none yet" if event_at is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(event_at))
    numbers = (counts.recorded, connection.unmatched, counts.refused, counts.rejected)
    state = "paused" if connection.paused else "active"
    return [connection.key, connection.kind, state, day, *map(str, numbers)]

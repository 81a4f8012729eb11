"""Commands of the server and of its accounts."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import cast, get_args

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bandits.cli import NumberRange
from bandits.errors import BanditsError, InvalidInput
from storage import open_store, upgrade
from storage.accounts import Role
from storage.accounts.api_keys import ApiKey, KeyName
from storage.accounts.roles import Scope
from storage.settings import database_option
from webapp.passwords import hash_password, refuse_password
from webapp.settings import Settings

SCOPES: tuple[Scope, ...] = get_args(Scope)
ROLES: tuple[Role, ...] = get_args(Role)

_WIDE = 240
_BY = "command line"
_ROWS = click.IntRange(1, 2**31 - 1)


def read_scopes(_: click.Context, __: click.Parameter, value: str) -> tuple[Scope, ...]:
    """Read scopes separated by commas.

    Raises:
        click.BadParameter: there is none, or one that is unknown.
    """
    scopes = [part.strip() for part in value.split(",") if part.strip()]
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        message = f"unknown scope {unknown[0]!r}" if unknown else "no scope given"
        raise click.BadParameter(f"{message}; known are {', '.join(SCOPES)}")
    return cast("tuple[Scope, ...]", tuple(dict.fromkeys(scopes)))


def read_name(_: click.Context, __: click.Parameter, value: str) -> str:
    """Read the name of a key.

    Raises:
        click.BadParameter: no key may have this name.
    """
    try:
        return msgspec.convert(value, KeyName)
    except msgspec.ValidationError:
        raise click.BadParameter("must be 1 to 100 characters, no control characters") from None


@click.command()
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen at")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="the port to listen at; 0 takes a free one",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="web processes; more than one only on PostgreSQL",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), help="[default: text]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning"]), help="[default: info]"
)
@click.option("--access-log", is_flag=True, default=None, help="log every request")
def serve(  # noqa: PLR0913 - one for each option
    *,
    database: str,
    host: str,
    port: int,
    workers: int,
    log_format: str | None,
    log_level: str | None,
    access_log: bool | None,
) -> None:
    """Serve the API, the pages and the learner; migrates the database first.

    A socket that systemd hands over comes before --host and --port.
    """
    # Other commands need no web server.
    from webapp.listener import activated_socket  # noqa: PLC0415
    from webapp.server import Address, serve  # noqa: PLC0415

    flag = None if access_log is None else "true"
    settings = Settings.read(
        os.environ,
        database_url=database,
        log_format=log_format,
        log_level=log_level,
        access_log=flag,
    )
    try:
        serve(settings, Address(host, port), workers, activated_socket(os.environ))
    except InvalidInput:
        raise
    except BanditsError as error:
        raise click.ClickException(str(error)) from None


@click.group()
def key() -> None:
    """Make, list, limit, rotate and revoke API keys."""


@key.command("create")
@database_option
@click.option(
    "--scopes",
    callback=read_scopes,
    required=True,
    metavar="SCOPE,SCOPE…",
    help=f"what it may do: {', '.join(SCOPES)}",
)
@click.option(
    "--name", default="made on the command line", callback=read_name, help="what it is for"
)
@click.option(
    "--rows-per-minute",
    type=_ROWS,
    help="recipients, events and ids that it may send to a web worker in a minute; the server's"
    " default unless given",
)
@click.option(
    "--dry-run", is_flag=True, help="answer its calls, and record nothing: to try a sender out"
)
def create_key(
    *,
    database: str,
    scopes: Sequence[Scope],
    name: str,
    rows_per_minute: int | None,
    dry_run: bool,
) -> None:
    """Make a key and print its token, which is never shown again."""
    upgrade(database)
    with closing(open_store(database)) as store:
        new_key = store.accounts.keys.create(
            name,
            scopes,
            at=time.time(),
            by=_BY,
            rows_per_minute=rows_per_minute,
            dry_run=dry_run,
        )
    click.echo(new_key.token)


@key.command("list")
@database_option
def list_keys(database: str) -> None:
    """List every key, without its token."""
    with closing(open_store(database)) as store:
        keys = store.accounts.keys.all()
    heads = ("id", "begins with", "name", "scopes", "rows a minute", "made", "last used", "state")
    table = Table(*heads, box=None)
    for api_key in keys:
        table.add_row(*_row(api_key))
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:  # for programs: one line a key, nothing cut
        console = Console(width=_WIDE, markup=False, emoji=False)
    console.print(table)


def _row(api_key: ApiKey) -> list[str]:
    return [
        str(api_key.id),
        api_key.start,
        api_key.name,
        ", ".join(api_key.scopes),
        "default" if api_key.rows_per_minute is None else f"{api_key.rows_per_minute:,}",
        _day(api_key.created_at),
        "never" if api_key.last_used_at is None else _day(api_key.last_used_at),
        "active" if api_key.revoked_at is None else "revoked",
    ]


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))


@key.command("rotate")
@database_option
@click.option(
    "--grace-hours",
    type=NumberRange(0, 720),
    default=24.0,
    show_default=True,
    help="how long the token until now works beside the new one; 0 where it leaked",
)
@click.argument("key_id", type=click.IntRange(1, 2**31 - 1), metavar="ID")
def rotate_key(database: str, grace_hours: float, key_id: int) -> None:
    """Give a key a new token and print it; ID is what `bandits key list` shows."""
    seconds = grace_hours * 3600
    with closing(open_store(database)) as store:
        new_key = store.accounts.keys.rotate(key_id, grace_seconds=seconds, at=time.time(), by=_BY)
    click.echo(new_key.token)


@key.command("limit")
@database_option
@click.argument("key_id", type=click.IntRange(1, 2**31 - 1), metavar="ID")
@click.argument("rows_per_minute", type=_ROWS, metavar="ROWS", required=False)
def limit_key(database: str, key_id: int, rows_per_minute: int | None) -> None:
    """Let a key send ROWS rows a minute to a web worker; without ROWS, the server's default."""
    with closing(open_store(database)) as store:
        store.accounts.keys.limit(key_id, rows_per_minute, at=time.time(), by=_BY)


@key.command("revoke")
@database_option
@click.argument("key_id", type=click.IntRange(1, 2**31 - 1), metavar="ID")
def revoke_key(database: str, key_id: int) -> None:
    """Refuse a key from now on; ID is what `bandits key list` shows."""
    with closing(open_store(database)) as store:
        store.accounts.keys.revoke(key_id, at=time.time(), by=_BY)


@click.group()
def user() -> None:
    """Add people who sign in to the pages."""


@user.command("add")
@database_option
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), required=True, help="what they may do")
@click.option("--password-stdin", is_flag=True, help="read the password from standard input")
def add_user(database: str, email: str, role: Role, *, password_stdin: bool) -> None:
    """Add a person, who signs in with EMAIL and a password."""
    if "@" not in email.strip("@"):
        raise click.BadParameter("must be an email address", param_hint="EMAIL")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if reason := refuse_password(password, email):
        raise click.UsageError(f"the password {reason}")
    upgrade(database)
    with closing(open_store(database)) as store:
        store.accounts.add_user(email, hash_password(password), role, at=time.time(), by=_BY)
    click.echo(f"added {email.strip()} as {role}", err=True)

"""Commands ``bandits listmonk``, ``mautic``, ``keila``: choices written into contacts."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import click

from bandits.actors import Actor, actor_of
from bandits.cli import NumberRange
from bandits.engine import Engine
from bandits.errors import InvalidInput
from storage import SqlStore
from storage.connections import Connection
from storage.settings import database_option
from webapp.egress import EgressGuard
from webapp.list_tools.keila_list import KeilaList, keila_api
from webapp.list_tools.listmonk_list import ListmonkList
from webapp.list_tools.mautic_list import MauticList, mautic_api
from webapp.list_tools.push import ContactList, ListPush, PushProgress
from webapp.list_tools.tool_api import ToolUnavailable
from webapp.listmonk.listmonk_api import ListmonkApi
from webapp.webhooks.commands import opened_store

_KEILA_KEY = "KEILA_API_KEY"

_connection_option = click.option(
    "--connection", "connection_key", metavar="KEY", required=True, help="with the API"
)
_sending_option = click.option(
    "--sending",
    metavar="NAME",
    required=True,
    help="names this email: the same name decides nothing anew, another one does",
)


class _ToolAccount(NamedTuple):
    """Account at a list tool, by its connection."""

    connection: Connection
    url: str
    user: str
    secret: str

    @property
    def actor(self) -> Actor:
        return actor_of("connection", self.connection.key)


class _PushOrder:
    """Order of a push, by the options that every push has, on an open store."""

    def __init__(self, store: SqlStore, experiment: str, *, after: str, dry_run: bool) -> None:
        self.experiment = experiment
        self.guard = EgressGuard(os.environ.get("BANDITS_EGRESS_NETWORKS", ""))
        self._store = store
        self._after = after
        self._dry_run = dry_run

    def account(self, kind: str, key: str) -> _ToolAccount:
        """Return the account of a connection.

        Raises:
            NotFound: there is no such connection.
            click.UsageError: it is of another kind, or has no address.
        """
        connection, secrets = self._store.connections.open(key, at=time.time())
        url = connection.fields.get("api_url", "")
        if connection.kind != kind or not url:
            raise click.UsageError(f"{key} is no connection of {kind} with the address of its API")
        user = connection.fields.get("api_user", "")
        return _ToolAccount(connection, url, user, secrets.current.get("api_token", ""))

    def run(self, contacts: ContactList, sending: str, actor: Actor) -> None:
        """Push, and tell after each page how far it is.

        Raises:
            InvalidInput: `after` is no place.
            ToolUnavailable: the tool does not answer; the message says where to go on.
        """
        if self._after and not self._after.isdecimal():
            raise InvalidInput.at("after", "give the number that the last push told")
        engine = Engine(self._store)
        push = ListPush(engine, self.experiment, contacts, sending=sending, actor=actor)
        progress = PushProgress(after=self._after)
        try:
            for progress in push.run(after=self._after, dry_run=self._dry_run):
                click.echo(_line(progress, dry_run=self._dry_run), err=True)
        except ToolUnavailable as error:
            begin = f"; go on with --after {progress.after}" if progress.after else ""
            raise ToolUnavailable(f"{error}; {progress.written:,} are written{begin}") from None
        click.echo(_summary(progress, dry_run=self._dry_run), err=True)


def _push_to(address: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a push of a function: with the options of every push, which it gets as an order.

    Args:
        address: the field of the tool's address, at which it is said that it cannot be used.
    """

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(
            *, database: str, experiment: str, after: str, dry_run: bool, **own: Any
        ) -> None:
            with opened_store(database) as store, _faults_at(address):
                function(_PushOrder(store, experiment, after=after, dry_run=dry_run), **own)

        for option in (
            click.argument("experiment"),
            click.option("--dry-run", is_flag=True, help="decide without recording, write nothing"),
            click.option(
                "--after",
                metavar="PLACE",
                default="",
                help="go on behind the place that was told last",
            ),
            database_option,
        ):
            command = option(command)
        return command

    return add


def _aliases(
    _context: click.Context, _option: click.Parameter, pairs: Sequence[str]
) -> dict[str, str]:
    """Read which field a slot has.

    Raises:
        click.BadParameter: one of them is no pair.
    """
    aliases = {}
    for pair in pairs:
        slot, equals, alias = pair.partition("=")
        if not (slot and equals and alias):
            raise click.BadParameter(f"write SLOT=ALIAS, not {pair!r}")
        aliases[slot] = alias
    return aliases


@click.group()
def listmonk() -> None:
    """Choose for subscribers of listmonk.

    The messenger and the pulling of clicks need no command: the server does both.
    """


@listmonk.command("push")
@_push_to("api_url")
@_connection_option
@click.option("--list", "list_id", type=NumberRange(min=1), required=True, help="number of a list")
@click.option(
    "--campaign", metavar="UUID", required=True, help="uuid of the campaign, so that clicks match"
)
def push_to_listmonk(
    order: _PushOrder, *, connection_key: str, list_id: int, campaign: str
) -> None:
    """Choose for the subscribers of a list, and write it into their attributes.

    A template reads them as ``.Subscriber.Attribs.bandits.EXPERIMENT.SLOT``: the text of a subject
    line, else the variant's key. Doing it again changes nothing.
    """
    account = order.account("listmonk", connection_key)
    with ListmonkApi(order.guard, account.url, account.user, account.secret) as api:
        subscribers = ListmonkList(
            api, account.connection, experiment=order.experiment, list_id=list_id
        )
        order.run(subscribers, campaign, account.actor)


@click.group()
def mautic() -> None:
    """Choose for contacts of Mautic."""


@mautic.command("push")
@_push_to("api_url")
@_connection_option
@click.option("--segment", metavar="ALIAS", required=True, help="alias of a segment")
@_sending_option
@click.option(
    "--subject",
    metavar="FIELD",
    default="email",
    show_default=True,
    help="what names a recipient: id, or the alias of a field",
)
@click.option(
    "--field",
    "aliases",
    multiple=True,
    metavar="SLOT=ALIAS",
    callback=_aliases,
    help="the field of a slot, if it is not bandits_SLOT; once for each",
)
def push_to_mautic(  # noqa: PLR0913 - one for each option
    order: _PushOrder,
    *,
    connection_key: str,
    segment: str,
    sending: str,
    subject: str,
    aliases: Mapping[str, str],
) -> None:
    """Choose for the contacts of a segment, and write it into their fields.

    A slot's field is ``bandits_SLOT``, the decision's is ``bandits_decision``. Doing it again
    changes nothing. Contacts who may not get emails are left out.
    """
    account = order.account("mautic", connection_key)
    sign_in = account.connection.fields.get("api_sign_in", "")
    with mautic_api(order.guard, account.url, account.user, account.secret, sign_in=sign_in) as api:
        contacts = MauticList(api, segment=segment, subject=subject, aliases=aliases)
        order.run(contacts, sending, account.actor)


@click.group()
def keila() -> None:
    """Choose for contacts of Keila."""


@keila.command("push")
@_push_to("url")
@click.option("--url", metavar="ADDRESS", required=True, help="of Keila: https://app.keila.io")
@click.option("--segment", metavar="ID", help="id of a segment; all active contacts without it")
@_sending_option
@click.option(
    "--subject",
    metavar="NAME",
    default="email",
    show_default=True,
    help="what names a recipient: email, id, external_id, or a name in a contact's data",
)
def push_to_keila(
    order: _PushOrder, *, url: str, segment: str | None, sending: str, subject: str
) -> None:
    """Choose for contacts, and write it into their data.

    A template reads it as ``contact.data.bandits.EXPERIMENT.SLOT``. Doing it again changes
    nothing. The API key is read from the environment: KEILA_API_KEY.
    """
    key = os.environ.get(_KEILA_KEY, "")
    if not key:
        raise click.UsageError(f"set {_KEILA_KEY} to an API key of the project")
    with keila_api(order.guard, url, key) as api:
        contacts = KeilaList(api, experiment=order.experiment, segment=segment, subject=subject)
        order.run(contacts, sending, actor_of("program", "keila"))


def _line(progress: PushProgress, *, dry_run: bool) -> str:
    verb = "would write" if dry_run else "wrote"
    done = f"{verb} {progress.written:,}, {progress.unchanged:,} had theirs already"
    return f"{done}; --after {progress.after} goes on from here"


def _summary(progress: PushProgress, *, dry_run: bool) -> str:
    """Sum a push up: contacts, then each variant."""
    verb = "would choose" if dry_run else "chose"
    lines = [f"{verb} for {progress.written + progress.unchanged:,} contacts"]
    if progress.skipped:
        lines.append(f"left out {progress.skipped:,} who may get no email")
    if progress.refused:
        reason = f": {progress.reason}" if progress.reason else ""
        lines.append(f"{progress.refused:,} were refused, and count as not sent{reason}")
    lines += [f"{slot}: {key}: {n:,}" for (slot, key), n in sorted(progress.variants.items())]
    return "\n".join(lines)


@contextmanager
def _faults_at(field: str) -> Iterator[None]:
    """Say of a tool that it cannot be used, at the field that has its address.

    Raises:
        InvalidInput: it cannot.
    """
    try:
        yield
    except (OSError, ToolUnavailable) as error:
        raise InvalidInput.at(field, str(error)) from None

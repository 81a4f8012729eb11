"""Commands ``bandits void``: what one actor did, taken out of the results, and put back."""

import time
from contextlib import closing
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from bandits.engine import Engine
from bandits.engine.voids import parse_actor
from bandits.schemas import VoidedExperiment, VoidReceipt
from bandits.store.values import Deeds
from storage import open_store
from storage.settings import database_option

_BY = "command line"
_WIDE = 240


def read_moment(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read a time in ISO 8601 as seconds since 1970; one without an offset is in UTC.

    Raises:
        click.BadParameter: it is no time.
    """
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} must look like 2026-11-22T09:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.group()
def void() -> None:
    """Take what one key or person did out of learning and results, and put it back.

    The log stays as it is; the sums are as if the rows had never been there.
    """


@void.command("add")
@database_option
@click.argument("actor", metavar="ACTOR")
@click.option(
    "--since",
    metavar="TIME",
    callback=read_moment,
    required=True,
    help="from when on, as 2026-11-22T09:00Z",
)
@click.option("--until", metavar="TIME", callback=read_moment, help="until when; now unless given")
@click.option("--experiment", metavar="KEY", help="of one experiment; of all unless given")
@click.option("--yes", is_flag=True, help="do not ask for confirmation")
def add_void(  # noqa: PLR0913 - one for each option
    *,
    database: str,
    actor: str,
    since: float,
    until: float | None,
    experiment: str | None,
    yes: bool,
) -> None:
    """Void what ACTOR did, such as key:3, after a look at what leaves and a confirmation."""
    with closing(open_store(database)) as store:
        engine = Engine(store)
        deeds = Deeds(parse_actor(actor), since, time.time() if until is None else until)
        preview = engine.void(deeds, by=_BY, experiment=experiment, dry_run=True)
        _print_receipt(preview)
        if not any(part.refused is None for part in preview.experiments):
            raise click.ClickException("nothing of this can be voided")
        if not yes:
            click.confirm("Void all of this?", abort=True, err=True)
        receipt = engine.void(deeds, by=_BY, experiment=experiment)
    for part in receipt.experiments:
        if part.void is not None:
            click.echo(f"{part.experiment}: void {part.void}; `bandits void restore {part.void}`")


@void.command("list")
@database_option
@click.option("--experiment", metavar="KEY", help="of one experiment; of all unless given")
def list_voids(database: str, experiment: str | None) -> None:
    """List what was voided, the newest first."""
    with closing(open_store(database)) as store:
        voids = Engine(store).voids(experiment)
    table = Table("id", "experiment", "actor", "since", "until", "emails", "by", "state", box=None)
    for entry in voids:
        restored = entry.restored_at
        state = "in force" if restored is None else f"restored {_text(restored)}"
        times = (_text(entry.since), _text(entry.until))
        columns = (entry.experiment, entry.actor, *times, f"{entry.decisions:,}", entry.by, state)
        table.add_row(str(entry.id), *columns)
    _print(table)


@void.command("restore")
@database_option
@click.argument("number", type=click.IntRange(1), metavar="ID")
def restore_void(database: str, number: int) -> None:
    """Put back what void ID took out."""
    with closing(open_store(database)) as store:
        entry = Engine(store).restore(number, by=_BY)
    click.echo(f"{entry.experiment}: {entry.decisions:,} emails of {entry.actor} count again")
    if entry.given_on:
        click.echo(
            f"{entry.given_on:,} of them have new ids: later emails were chosen under theirs, and"
            " keep them"
        )


def _print_receipt(receipt: VoidReceipt) -> None:
    since, until = _text(receipt.since), _text(receipt.until)
    title = f"{receipt.actor}, from {since} until {until}"
    table = Table("experiment", "arm", "emails", "events", box=None, title=title)
    for part in receipt.experiments:
        for row in _rows(part):
            table.add_row(*row)
    _print(table)


def _rows(part: VoidedExperiment) -> list[list[str]]:
    """List the rows of an experiment: its arms, then all that leaves or returns besides."""
    if part.refused is not None:
        return [[part.experiment, f"refused: {part.refused}", "", ""]]
    key = part.experiment
    rows = [
        [key, " · ".join(arm.variants.values()), f"{arm.decisions:,}", f"{arm.events:,}"]
        for arm in part.arms
    ]
    if part.held_out:
        rows.append([key, "control group", f"{part.held_out:,}", ""])
    rows.append([key, "in all", f"{part.decisions:,}", f"{part.events:,}"])
    if part.activated:
        rows.append([key, "not reported as sent any more", f"{part.activated:,}", ""])
    if part.cancelled:
        rows.append([key, "cancelled no more", f"{part.cancelled:,}", ""])
    if part.withdrawn:
        rows.append([key, "withdrawn no more", "", f"{part.withdrawn:,}"])
    if part.cancelled_before:
        rows.append([key, "cancelled before; ids become free", f"{part.cancelled_before:,}", ""])
    return rows


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _print(table: Table) -> None:
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:  # for programs: one line a row, nothing cut
        console = Console(width=_WIDE, markup=False, emoji=False)
    console.print(table)

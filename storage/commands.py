"""The commands ``bandits db``, ``bandits log`` and ``bandits verify``."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bandits.cli import progress_console
from storage.log.export import check_log_path, count_rows, export_log
from storage.migrate import current, newest, upgrade
from storage.settings import database_option
from storage.snapshots.verify import VerifyReport, compare, count_sent
from storage.store import SqlStore, open_store

_MOST_SHOWN = 20  # differences of one experiment


@click.group()
def db() -> None:
    """Bring the database's tables up to date, or tell what they are."""


@db.command("upgrade")
@database_option
def upgrade_command(database: str) -> None:
    """Make the database if there is none, and run the migrations that are missing."""
    click.echo(f"the database is at {upgrade(database)}")


@db.command("current")
@database_option
def current_command(database: str) -> None:
    """Print the migration that the database is at."""
    at, best = current(database) or "nothing", newest()
    click.echo(at if at == best else f"{at}; `bandits db upgrade` brings it to {best}")


@click.group()
def log() -> None:
    """Take an experiment's log out of the database."""


@log.command("export")
@database_option
@click.argument("key")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="A file that ends in .parquet or .csv; beside CSV, its description in .csv.json.",
)
def export_command(database: str, key: str, out: Path) -> None:
    """Write the decisions of experiment KEY, each with what it earned, to a file.

    Rows are those that a fold has counted: without cancelled, void and fallback decisions.
    Subjects are hashed anew, so that files of two experiments cannot be joined by them.
    """
    check_log_path(out)
    store = open_store(database)
    try:
        with _progress_bar() as bar:
            task = bar.add_task(key, total=count_rows(store, key))
            rows = export_log(store, key, out, lambda n: bar.advance(task, n))
    finally:
        store.close()
    click.echo(f"{rows:,} decisions are in {out}")


@click.command()
@database_option
@click.argument("key", required=False)
@click.pass_context
def verify(context: click.Context, database: str, key: str | None) -> None:
    """Rebuild every statistic from the log and compare; exit status 1 where they disagree.

    KEY names one experiment; without it, every one is verified.
    """
    store = open_store(database)
    try:
        keys = (
            [store.experiments.record(key).key]
            if key
            else [r.key for r in store.experiments.records()]
        )
        agree = [_verify(store, name) for name in keys]  # each, also after a difference
    finally:
        store.close()
    if not all(agree):
        context.exit(1)


def _progress_bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    silent = not progress_console.is_terminal  # a log has no use for a moving bar
    return Progress(*columns, console=progress_console, transient=True, disable=silent)


def _verify(store: SqlStore, key: str) -> bool:
    """Verify one experiment and print the comparison; return true where all agrees."""
    with store.snapshots.audit(key) as audit, _progress_bar() as bar:
        task = bar.add_task(key, total=count_sent(audit))
        compared = compare(audit, lambda n: bar.advance(task, n))
    version = 0 if audit.snapshot is None else audit.snapshot.version
    console = Console()
    console.print(_table(f"{key}, version {version}", compared))
    wrong = [difference for c in compared for difference in c.differences()]
    for place, logged, stored in wrong[:_MOST_SHOWN]:
        console.print(f"{place}: the log says {logged!r}, stored is {stored!r}", highlight=False)
    if len(wrong) > _MOST_SHOWN:
        console.print(f"and {len(wrong) - _MOST_SHOWN} more")
    return not wrong


def _table(title: str, compared: list[VerifyReport]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("from the log", "stored", "largest difference"):
        table.add_column(name, justify="right")
    table.add_column("")
    for report in compared:
        largest = abs(report.logged - report.stored).max(initial=0.0)
        verdict = "[red]differs" if report.wrong.any() else "agrees"
        sums = (f"{a.sum():,.10g}" for a in (report.logged, report.stored))
        table.add_row(report.name, *sums, f"{largest:.2g}", verdict)
    return table

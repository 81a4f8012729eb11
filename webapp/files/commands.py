"""Command `bandits choose`: a file of recipients in, a file of choices out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bandits.cli import NumberRange, progress_console
from bandits.client import Client
from webapp.files.choices import ChoiceRows, check_output
from webapp.files.choose_job import ChoiceCounts, ChooseJob
from webapp.files.choose_job import Progress as Advance
from webapp.files.recipients import RecipientColumns, RecipientFile, check_run, run_digest
from webapp.files.table_files import open_table

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def read_columns(
    _: click.Context, __: click.Parameter, values: Sequence[str]
) -> dict[str, str | None]:
    """Read ``FEATURE=COLUMN`` pairs.

    Raises:
        click.BadParameter: one has no ``=``.
    """
    columns: dict[str, str | None] = {}
    for value in values:
        feature, equals, column = value.partition("=")
        if not equals or not feature:
            raise click.BadParameter(f"{value!r} is not FEATURE=COLUMN")
        columns[feature] = column or None
    return columns


@click.command()
@click.argument("recipients", type=_FILE)
@click.option("--experiment", required=True, metavar="KEY", help="The experiment to choose in.")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the choices go: a .parquet or .csv file.",
)
@click.option(
    "--url",
    envvar="BANDITS_URL",
    show_envvar=True,
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Where the server is.",
)
@click.option(
    "--key",
    envvar="BANDITS_API_KEY",
    show_envvar=True,
    required=True,
    help="An API key with the scopes choose and read; better in the variable than on the line.",
)
@click.option(
    "--subject",
    default="subject_id",
    show_default=True,
    metavar="COLUMN",
    help="The column that tells who each row is.",
)
@click.option(
    "--context",
    multiple=True,
    callback=read_columns,
    metavar="FEATURE=COLUMN",
    help="Where a feature's column is not called like it; FEATURE= leaves it out. Repeatable.",
)
@click.option(
    "--run",
    metavar="NAME",
    help="A name for this run; the same file decides anew only under another. "
    "[default: a digest of the file]",
)
@click.option(
    "--patience",
    type=NumberRange(min=1),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a server that does not answer.",
)
def choose(  # noqa: PLR0913 - one for each option
    *,
    recipients: Path,
    experiment: str,
    out: Path,
    url: str,
    key: str,
    subject: str,
    context: dict[str, str | None],
    run: str | None,
    patience: float,
) -> None:
    """Choose the email for everybody in RECIPIENTS, a .csv or .parquet file.

    There must be a column for each feature that the experiment declares; a column eligible.SLOT may
    list, with | between them, the variants that a recipient may get. The whole file is checked
    before anybody is decided for. Broken off, the same command goes on where it stopped, and
    nobody is decided for twice.
    """
    check_output(out)
    columns = RecipientColumns(subject, context)
    digest = run_digest(recipients, experiment, columns)
    run_name = digest if run is None else check_run(run)
    table = open_table(recipients)
    with Client(url, key) as client:  # a wrong address fails sooner than after `patience`
        declaration = client.experiment(experiment).declaration
    with Client(url, key, deadline_seconds=patience) as client:
        people = RecipientFile(table, declaration, columns)
        job = ChooseJob(people, ChoiceRows(declaration), experiment, run_name, digest, out)
        with _bar("checking", None) as advance:
            total = people.count(advance)
        with _bar("choosing", total) as advance:
            counts = job.choose(client, advance)
    click.echo(_summary(total, counts, out), err=True)


def _summary(total: int, counts: ChoiceCounts, out: Path) -> str:
    sentences = [f"{total:,} choices are in {out}"]
    if counts.before:
        sentences.append(f"{counts.before:,} had been answered before this was broken off")
    if counts.repeated:
        sentences.append(f"{counts.repeated:,} had been decided before (--run NAME decides anew)")
    if counts.holdout:
        sentences.append(f"{counts.holdout:,} are held out and get the control")
    if counts.fallback:
        sentences.append(
            f"{counts.fallback:,} get a stand-in: the policy failed, or their row rules out what "
            "they must get"
        )
    return "; ".join(sentences)


@contextmanager
def _bar(description: str, total: int | None) -> Iterator[Advance]:
    """Show progress and the time left on standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    silent = not progress_console.is_terminal
    with Progress(*columns, console=progress_console, transient=True, disable=silent) as bars:
        task = bars.add_task(description, total=total)
        yield lambda n: bars.advance(task, n)

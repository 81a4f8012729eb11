"""Command `bandits choose`: a file of recipients in, a file of choices out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bandits.array_types import IntArray
from bandits.cli import NumberRange, progress_console
from bandits.client import Client
from bandits.errors import InvalidInput
from bandits.experiment import Experiment
from bandits.features import NumberFeature
from webapp.files.cell_values import CellForms, DecimalSign, find_decimal
from webapp.files.choices import ChoiceRows, check_output
from webapp.files.choose_job import ChoiceCounts, ChooseJob
from webapp.files.choose_job import Progress as Advance
from webapp.files.file_check import FileCheck, check_recipients
from webapp.files.recipients import RecipientColumns, RecipientFile, check_run, run_digest
from webapp.files.rejection_report import RejectionReport
from webapp.files.repeated_recipients import RepeatedRecipients
from webapp.files.table_files import RejectedRow, Table, TableFormat, open_table
from webapp.files.text_codec import ENCODINGS

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


def read_delimiter(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Read a sign that separates columns.

    Raises:
        click.BadParameter: it is not one sign.
    """
    sign = "\t" if value == "\\t" else value
    if sign is not None and (len(sign) != 1 or sign in '\r\n"' or sign.isalnum()):
        raise click.BadParameter(f"{value!r} is not one sign")
    return sign


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
    "--own-columns/--no-own-columns",
    default=True,
    show_default=True,
    help="Write all columns of RECIPIENTS behind the choices.",
)
@click.option(
    "--repeats",
    type=click.Choice(["one", "each"]),
    default="one",
    show_default=True,
    help="Whether somebody who is in several rows gets one version, or each row its own.",
)
@click.option(
    "--left-out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Leave rows out that do not fit, and write them to this .csv file: row, column, value and "
    "reason. Without it, one such row refuses all.",
)
@click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="The decimal sign of numbers.  [default: as the file shows]",
)
@click.option(
    "--encoding",
    type=click.Choice(list(ENCODINGS)),
    help="The encoding of a text file.  [default: as its bytes show]",
)
@click.option(
    "--delimiter",
    callback=read_delimiter,
    metavar="SIGN",
    help="What separates the columns of a text file; \\t for a tab.  [default: as its rows show]",
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
    own_columns: bool,
    repeats: str,
    left_out: Path | None,
    decimal: DecimalSign | None,
    encoding: str | None,
    delimiter: str | None,
    run: str | None,
    patience: float,
) -> None:
    """Choose the email for everybody in RECIPIENTS, an .xlsx, .csv or .parquet file.

    There must be a column for each feature that the experiment declares; a column eligible.SLOT may
    list, with | between them, the variants that a recipient may get. The whole file is checked
    before anybody is decided for. Broken off, the same command goes on where it stopped, and
    nobody is decided for twice.
    """
    check_output(out)
    columns = RecipientColumns(subject, context)
    table_format = TableFormat(encoding, delimiter)
    table = open_table(recipients, table_format=table_format)
    with Client(url, key) as client:  # a wrong address fails sooner than after `patience`
        declaration = client.experiment(experiment).declaration
    forms = CellForms(decimal=decimal or _found_decimal(table, declaration, columns))
    digest = run_digest(recipients, experiment, columns, forms, table_format)
    run_name = digest if run is None else check_run(run)
    people = RecipientFile(table, declaration, columns, forms)
    check, first = _check(people, declaration, left_out)
    own = list(zip(table.columns, table.types, strict=True)) if own_columns else []
    repeated = None
    if repeats == "one" and check.repeated:
        repeated = RepeatedRecipients(first)
    for sentence in _findings(check, repeats, left_out):
        click.echo(sentence, err=True)
    with Client(url, key, deadline_seconds=patience) as client:
        job = ChooseJob(
            people,
            ChoiceRows(declaration, own, subject),
            experiment,
            run_name,
            digest,
            out,
            None if left_out is None else _ignore,
            own_columns,
            repeated,
        )
        with _bar("choosing", check.usable) as advance:
            counts = job.choose(client, advance)
    click.echo(_summary(check.usable, counts, out), err=True)


def _found_decimal(
    table: Table, experiment: Experiment, columns: RecipientColumns
) -> DecimalSign | None:
    """Find the decimal sign in the first rows of the columns of numbers."""
    numbers = [f.name for f in experiment.context if isinstance(f, NumberFeature)]
    names = [columns.context.get(name, name) for name in numbers]
    used = [name for name in names if name is not None and table.columns.count(name) == 1]
    portion = next(table.portions(used, reject=_ignore), None) if used else None
    signs = {find_decimal(portion.cells[name]) for name in used} - {None} if portion else set()
    return signs.pop() if len(signs) == 1 else None


def _ignore(_: RejectedRow) -> None:
    """Leave a row out that is in the report."""


def _check(
    people: RecipientFile, experiment: Experiment, left_out: Path | None
) -> tuple[FileCheck, IntArray]:
    """Read the whole file; write rows that do not fit to `left_out`, if it is given.

    Raises:
        InvalidInput: rows are invalid and may not be left out, or no row fits.
    """
    with _bar("checking", None) as advance:
        if left_out is None:
            check, first = check_recipients(people, experiment, None, advance)
        else:
            try:
                file = left_out.open("w", encoding="utf-8", newline="")
            except OSError as error:
                words = f"cannot write {left_out}: {error.strerror}"
                raise InvalidInput.at("", words) from None
            with file:
                report = RejectionReport(file)
                check, first = check_recipients(people, experiment, report, advance)
    check.refuse_useless()
    return check, first


def _findings(check: FileCheck, repeats: str, left_out: Path | None) -> Iterator[str]:
    """Yield what was found in the file, in sentences."""
    if check.repeated:
        lines = ", ".join(map(str, check.repeated_lines))
        more = " and more" if check.repeated > len(check.repeated_lines) else ""
        gets = "each recipient gets one version" if repeats == "one" else "each row gets its own"
        yield (
            f"{check.repeated:,} rows are of recipients who came before in the list"
            f" (rows {lines}{more}); {gets}"
        )
    if check.left_out:
        yield f"{check.rows - check.usable:,} of {check.rows:,} rows are left out: see {left_out}"
    for finding in check.mended:
        values = ", ".join(repr(value) for value, _ in finding.examples)
        yield f"column {finding.column!r}: {finding.count:,} cells are {finding.problem} ({values})"


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

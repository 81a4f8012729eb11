"""The commands `simulate`, `replay` and `evaluate`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct, structs
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bandits.cli import progress_console
from bandits.errors import InvalidInput
from bandits.registry import make
from simulations.csv_log import LogColumns, read_log
from simulations.evaluation.evaluation import evaluate as run_evaluation
from simulations.evaluation.sequential_dr import LearningPolicy
from simulations.evaluation.targets import (
    FixedShares,
    FrozenPolicy,
    LoggedPolicy,
    Target,
    WithoutArm,
)
from simulations.log_reader import LogFileColumns
from simulations.log_reader import read_log as read_rounds
from simulations.replay import ReplayResult, sent_unequally
from simulations.replay import replay as run_replay
from simulations.reporting.evaluation_report import check_report_path, write_evaluations
from simulations.reporting.exports import check_path, export
from simulations.reporting.result import Result
from simulations.reporting.result_tables import WIDTH, difference_table, replay_table, result_table
from simulations.running import loop
from simulations.scenario import Scenario, load, parse, ready_scenarios
from simulations.simulate import simulate_run

_INTERRUPTED = 130  # the exit status of a program that the keyboard stopped


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[loop.Progress]:
    """Show progress and the time left on standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    console = progress_console
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task(title, total=total)
        yield lambda n: bars.advance(task, n)


@click.command()
@click.argument("scenario", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a file, too: a report with figures inside (.html), the regret curves (.png), or "
    "every replication (.parquet, .csv).",
)
@click.option("--seed", type=click.IntRange(0), help="Instead of the scenario's.")
@click.option("--replications", type=click.IntRange(1), help="Instead of the scenario's.")
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes."
)
@click.option(
    "--scheduler", help="A Dask scheduler, such as tcp://host:8786, instead of processes."
)
@click.option("--list", "listing", is_flag=True, help="List the ready scenarios.")
def simulate(  # noqa: PLR0913 - one for each option
    *,
    scenario: str | None,
    as_json: bool,
    report: Path | None,
    seed: int | None,
    replications: int | None,
    workers: int,
    scheduler: str | None,
    listing: bool,
) -> None:
    """Compare policies and A/B tests in SCENARIO: a TOML file, or a ready scenario's name."""
    if listing:
        scenarios = ready_scenarios()
        width = max(map(len, scenarios))
        for name, text in scenarios.items():
            click.echo(f"{name:{width}}  {parse(text).question}")
        return
    if scenario is None:
        raise InvalidInput.at("", "name a scenario file, or see `bandits simulate --list`")
    if report is not None:
        check_path(report)
    loaded = _override(load(scenario), seed, replications)
    run = loaded.run
    total = run.horizon * run.replications * len(loaded.policies)
    with progress_bar("simulating", total) as progress:
        result = simulate_run(
            loaded.environment,
            loaded.policies,
            run,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
    _show(result, loaded, as_json=as_json)
    if report is not None:
        export(report, result, loaded)
    if result.interrupted:
        raise SystemExit(_INTERRUPTED)


def _override(scenario: Scenario, seed: int | None, replications: int | None) -> Scenario:
    options = {"seed": seed, "replications": replications}
    changes = {name: value for name, value in options.items() if value is not None}
    return structs.replace(scenario, run=structs.replace(scenario.run, **changes))


def _show(result: Result, scenario: Scenario, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(result.report()).decode())
        return
    console = _console()
    if scenario.question:
        console.print(scenario.question, style="bold", highlight=False)
    console.print(result_table(result.outcomes, result.run, console.width))
    if len(result.outcomes) > 1:
        console.print()
        console.print(difference_table(result.outcomes))
    report = result.report()
    console.print(
        f"{result.seconds:.1f} s, {report.steps_per_second:,.0f} decisions a second",
        style="dim",
        highlight=False,
    )
    if result.interrupted:
        progress_console.print("interrupted: these are the replications that were finished")


def _console() -> Console:
    """Make the console of standard output, as wide as the terminal; a file has no width.

    A label or a question is written as it is, with all its brackets.
    """
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(width=WIDTH, markup=False, emoji=False)


class ReplayReport(Struct, frozen=True):
    """The JSON form of a replay."""

    policies: list[ReplayResult]
    rows: int
    arms: tuple[str, ...]
    seconds: float


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--arm", required=True, help="The column that says what was sent.")
@click.option("--reward", required=True, help="The column that says what it earned.")
@click.option("--context", default="", help="Columns that describe the recipient, with commas.")
@click.option("--propensity", help="The column with the probability of what was sent.")
@click.option("--policy", "names", multiple=True, required=True, help="A policy; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def replay(  # noqa: PLR0913 - one for each option
    *,
    log: Path,
    arm: str,
    reward: str,
    context: str,
    propensity: str | None,
    names: tuple[str, ...],
    as_json: bool,
    seed: int,
) -> None:
    """Estimate what policies would have earned on LOG, a CSV file of emails sent at random.

    Rejection replay (Li et al. 2011): where a policy chooses the arm that was sent, it earns the
    logged reward and learns. Without --propensity every arm must have been sent equally often.
    """
    policies = [make(name) for name in names]
    features = tuple(name.strip() for name in context.split(",") if name.strip())
    rows = read_log(log, LogColumns(arm, reward, features, propensity))
    if rows.propensities is None and sent_unequally(rows):
        progress_console.print(
            "warning: arms were not sent equally often; without --propensity this replay is biased"
        )
    began = time.perf_counter()
    with progress_bar("replaying", rows.n * len(policies)) as progress:
        results = [run_replay(rows, p, seed=seed, progress=progress) for p in policies]
    report = ReplayReport(results, rows.n, rows.arms, time.perf_counter() - began)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        _console().print(replay_table(results, rows.n))


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--policy", "names", multiple=True, help="Learns from the first part of the log.")
@click.option("--learning", multiple=True, help="A policy that learns along; may be repeated.")
@click.option("--always", multiple=True, metavar="ARM", help="One arm for everybody.")
@click.option("--without", multiple=True, metavar="ARM", help="As sent, less one arm.")
@click.option("--split", multiple=True, metavar="ARM=SHARE,…", help="Constant shares.")
@click.option("--as-sent", is_flag=True, help="The policy that sent the emails.")
@click.option(
    "--first",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.5,
    show_default=True,
    help="The share of rows that each --policy learns from; it is valued on the rest.",
)
@click.option("--floor", type=click.FloatRange(0, 1), default=0.0, help="Least share of an arm.")
@click.option("--estimator", "estimators", multiple=True, help="Instead of all of them.")
@click.option("--arm", help="Of a table of your own: the column that says what was sent.")
@click.option("--reward", help="The column that says what it earned.")
@click.option("--propensity", help="The column with the probability of what was sent.")
@click.option("--context", default="", help="Columns that describe the recipient, with commas.")
@click.option("--time", help="The column that says when; else rows are in the order of sending.")
@click.option("--low", type=float, help="The smallest reward possible.")
@click.option("--high", type=float, help="The largest reward possible.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a file, too: a page (.html) or everything (.json).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def evaluate(  # noqa: PLR0913 - one for each option
    *,
    log: Path,
    names: tuple[str, ...],
    learning: tuple[str, ...],
    always: tuple[str, ...],
    without: tuple[str, ...],
    split: tuple[str, ...],
    as_sent: bool,
    first: float,
    floor: float,
    estimators: tuple[Any, ...],
    arm: str | None,
    reward: str | None,
    propensity: str | None,
    context: str,
    time: str | None,
    low: float | None,
    high: float | None,
    report: Path | None,
    as_json: bool,
    seed: int,
) -> None:
    """Estimate what other policies would have earned on LOG.

    LOG is a file of `bandits log export`, of the Open Bandit Dataset or of VW (JSON lines), or a
    CSV or parquet table with --arm, --reward and --propensity. A value comes with its interval, or
    with the reason why the log cannot tell.
    """
    targets: list[Target | LearningPolicy] = [LoggedPolicy()] if as_sent else []
    targets += [FixedShares.always(of_arm) for of_arm in always]
    targets += [FixedShares(_shares(text)) for text in split]
    targets += [WithoutArm(of_arm) for of_arm in without]
    targets += [FrozenPolicy(make(name), first=first, floor=floor, seed=seed) for name in names]
    targets += [LearningPolicy(make(name), floor=floor) for name in learning]
    if not targets:
        options = "--policy, --learning, --always, --without, --split or --as-sent"
        raise InvalidInput.at("", f"name what to evaluate: {options}")
    if report is not None:
        check_report_path(report)
    rounds = read_rounds(
        log, _log_columns(arm, reward, propensity, context, time), low=low, high=high
    )
    with progress_bar("evaluating", len(targets)) as progress:
        evaluations = []
        for target in targets:
            evaluations.append(
                run_evaluation(rounds, target, estimators=estimators or None, seed=seed)
            )
            progress(1)
    if report is not None:
        write_evaluations(report, evaluations, f"Evaluation of {log.name}")
    if as_json:
        click.echo(msgspec.json.encode(evaluations).decode())
    else:
        click.echo("\n\n".join(map(str, evaluations)))


def _log_columns(
    arm: str | None, reward: str | None, propensity: str | None, context: str, time: str | None
) -> LogFileColumns | None:
    features = tuple(name.strip() for name in context.split(",") if name.strip())
    if arm is None and reward is None and propensity is None and not features and time is None:
        return None
    if arm is None or reward is None or propensity is None:
        raise InvalidInput.at("", "a table of your own needs --arm, --reward and --propensity")
    return LogFileColumns(arm, reward, propensity, features, time)


def _shares(text: str) -> dict[str, float]:
    """Read ``a=.5,b=.5``; an arm's name may have an equals sign in it, and no comma."""
    shares = {}
    for part in text.split(","):
        name, sign, number = part.rpartition("=")
        try:
            shares[name.strip()] = float(number)
        except ValueError:
            sign = ""
        if not sign:
            raise InvalidInput.at("/split", f"{part!r} is not of the form ARM=SHARE")
    return shares

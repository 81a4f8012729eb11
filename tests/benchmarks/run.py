"""Measure speed and memory side by side with a peer or a physical limit: ``make bench``.

Every benchmark is a module ``bench_*.py`` of this folder with ``run(rounds) -> list[Row]``, run in
a process of its own so that its peak of memory is its own.
"""

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
WIDTH = 150  # a narrower table breaks its words
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from measuring import Row  # noqa: E402 - found once these folders are on the path

from tests.patience import SOAK_SECONDS  # noqa: E402 - as above


def main() -> None:
    """Run what was asked for, and print one table."""
    names = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=names, action="append", help="one benchmark of them")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default 7)")
    parser.add_argument("--measure", choices=names, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        rows = import_module(f"bench_{given.measure}").run(given.rounds)
        sys.stdout.buffer.write(msgspec.json.encode(rows))
        return
    table = Table(title=f"Medians of {given.rounds} rounds, ours and the reference in turn")
    for column in (
        "measured",
        "a second",
        "goal",
        "beside",
        "a second",
        "ratio",
        "wanted",
        "peak MB",
    ):
        table.add_column(column, justify="left" if column in {"measured", "beside"} else "right")
    progress = Console(stderr=True)
    for name in given.only or names:
        with progress.status(f"measuring {name}"):
            for row in measured(name, given.rounds):
                table.add_row(*cells(row))
    Console(width=max(Console().width, WIDTH)).print(table)


def measured(name: str, rounds: int) -> list[Row]:
    """Run one benchmark in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, "--rounds", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=SOAK_SECONDS, check=True)
    return msgspec.json.decode(done.stdout, type=list[Row])


def cells(row: Row) -> list[str]:
    """Write a row for the table."""
    return [
        row.what,
        f"{row.rate:,.0f} {row.unit}",
        "" if row.goal is None else f"{row.goal:,.0f}",
        row.beside,
        f"{row.beside_rate:,.0f}",
        f"{row.ratio:,.2f}",
        "" if row.least_ratio is None else f"{row.least_ratio:g}",
        f"{row.peak_mb:,.0f}",
    ]


if __name__ == "__main__":
    main()

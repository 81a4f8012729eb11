"""Estimate the figures of the Hillstrom environment from the real file, and print them.

    python -m simulations.environments.hillstrom.estimate HILLSTROM.csv > hillstrom_figures.py

The file is that of Kevin Hillstrom's MineThatData E-Mail Analytics and Data Mining Challenge
(2008): a randomised email test on 64,000 customers. Only figures leave it, never a row.
"""

import csv
import sys
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path

import numpy as np

from bandits.array_types import AnyArray, FloatArray
from simulations.environments.hillstrom.design_matrix import (
    ARMS,
    CHANNELS,
    LEVELS,
    ZIP_CODES,
    design,
    group,
    third,
)

METRICS = ("visit", "conversion")


def logistic_fit(x: FloatArray, y: FloatArray) -> FloatArray:
    """Fit P(y = 1) = 1 / (1 + exp(−x·b)) by maximum likelihood, with Newton's method: b (d,)."""
    b = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ b))
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (y - p))
        b = b + step
        if np.abs(step).max() < 1e-10:  # noqa: PLR2004 - far below the digits printed
            break
    return b


class Customers:
    """The columns of the file as arrays."""

    def __init__(self, path: Path) -> None:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))

        def column(name: str, read: Callable[[str], float | int]) -> AnyArray:
            return np.array([read(row[name]) for row in rows])

        self.traits = np.stack(
            [
                column("mens", int),
                column("womens", int),
                column("newbie", int),
                column("zip_code", ZIP_CODES.index),
                column("channel", CHANNELS.index),
            ],
            axis=1,
        )
        self.recency = column("recency", int)
        self.history = column("history", float)
        self.arm = column("segment", ARMS.index)
        self.metrics = {metric: column(metric, float) for metric in METRICS}


def figures(customers: Customers) -> dict[str, list[list[str]]]:
    """Estimate every table of figures, rows of cells already written as text."""
    cells, counts = np.unique(customers.traits, axis=0, return_counts=True)
    groups, thirds = group(customers.traits), third(customers.recency)
    x = design(customers.traits, customers.recency, customers.history)
    months = [np.bincount(customers.recency[groups == g], minlength=13)[1:] for g in range(8)]
    return {
        "CELLS": [
            [*map(str, cell), f"{count / len(groups):.5f}"]
            for cell, count in zip(cells, counts, strict=True)
        ],
        "RECENCY": [_format_row(n / n.sum(), ".4f") for n in months],
        "HISTORY": [
            _format_row(
                np.quantile(customers.history[(groups == g) & (thirds == t)], LEVELS), ".2f"
            )
            for g in range(8)
            for t in range(3)
        ],
        **{
            metric.upper(): [
                _format_row(logistic_fit(x[customers.arm == a], y[customers.arm == a]), ".4f")
                for a in range(len(ARMS))
            ]
            for metric, y in customers.metrics.items()
        },
    }


_MEANINGS = {
    "CELLS": "mens, womens, newbie, zip code, channel (positions), share of customers",
    "RECENCY": "share of each month 1-12, by `group`",
    "HISTORY": "quantiles of dollars at LEVELS, by `group` and, within it, `third` of recency",
    "VISIT": "coefficients of `design`, by arm, for a visit within two weeks",
    "CONVERSION": "coefficients of `design`, by arm, for an order within two weeks",
}


def module(tables: dict[str, list[list[str]]]) -> str:
    """Write the figures as a Python module."""
    out = StringIO()
    out.write('"""Figures estimated by `estimate` from Hillstrom\'s file."""\n')
    for name, rows in tables.items():
        out.write(f'\n# {_MEANINGS[name]}\n{name} = """\n')
        out.writelines(" ".join(row) + "\n" for row in rows)
        out.write('"""\n')
    return out.getvalue()


def _format_row(values: Iterable[float], form: str) -> list[str]:
    return [format(value, form) for value in values]


if __name__ == "__main__":
    sys.stdout.write(module(figures(Customers(Path(sys.argv[1])))))

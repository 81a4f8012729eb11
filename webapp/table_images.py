"""Images of the pages' tables: Plotly figures that are drawn only to be saved.

The page shows them as tables, with their intervals drawn beside the numbers. The page's script
colours them as it does the charts, see `webapp.charts`.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

from bandits.inference.intervals import Finding
from webapp.charts import ArmStyle, Figure, escape_html

MAX_ROWS = 40  # more would not fit a slide; the CSV has them all
_ROW_PIXELS = 36
_AROUND_PIXELS = 120  # the title and the axis
_LINE_PIXELS = 20
_LINE_CHARACTERS = 110  # of the widest column, at the width a picture has


def interval_picture(rows: Sequence[tuple[ArmStyle, Finding]], *, is_rate: bool) -> Figure:
    """Draw estimates with their intervals, one row each, the first on top."""
    measurable = [(style, f) for style, f in rows if f.measurable]
    shown = measurable[:MAX_ROWS]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [f.estimate],
            "y": [escape_html(style.label)],
            "name": escape_html(style.label),
            "meta": style.label,
            "marker": {"size": 9, "color": style.colour},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [f.high - f.estimate],
                "arrayminus": [f.estimate - f.low],
                "color": style.colour,
                "thickness": 3,
                "width": 0,
            },
        }
        for style, f in shown
    ]
    left_out = len(measurable) - len(shown)
    layout: dict[str, Any] = {
        "margin": {"l": 52, "r": 40, "t": 12, "b": 44},
        "showlegend": False,
        "height": _AROUND_PIXELS + _ROW_PIXELS * len(shown),
        "xaxis": {
            "showgrid": True,
            "zeroline": True,
            **({"tickformat": ".1%"} if is_rate else {}),
            **({"title": {"text": f"and {left_out} more rows"}} if left_out else {}),
        },
        "yaxis": {"autorange": "reversed", "automargin": True},
    }
    return {"data": data, "layout": layout}


def text_picture(
    head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float]
) -> Figure:
    """Draw a table of sentences, whose last column is the widest and is wrapped."""
    columns = list(zip(*rows, strict=True)) or [()] * len(head)
    lines = sum(ceil(len(row[-1]) / _LINE_CHARACTERS) for row in rows)
    return {
        "data": [
            {
                "type": "table",
                "columnwidth": list(widths),
                "header": {"values": [escape_html(h) for h in head], "align": "left"},
                "cells": {
                    "values": [[escape_html(cell) for cell in column] for column in columns],
                    "align": "left",
                    "height": _LINE_PIXELS + 6,
                },
            }
        ]
        if rows
        else [],
        "layout": {
            "margin": {"l": 24, "r": 24, "t": 12, "b": 12},
            "height": _AROUND_PIXELS + _LINE_PIXELS * lines + 12 * len(rows),
        },
    }

"""Folder of uploads of the running application, and downloads of what is in it."""

import csv
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, current_app

from webapp.files.table_files import csv_lines
from webapp.jobs.uploads import Uploads, uploads_folder
from webapp.settings import Settings

BOM = "\ufeff".encode()  # a spreadsheet then reads the file as UTF-8
_NAME = "bandits.uploads"


def init(app: Flask, settings: Settings) -> None:
    """Give `app` its folder of uploads."""
    app.extensions[_NAME] = Uploads(uploads_folder(settings))


def upload_folder() -> Uploads:
    """Return the running application's uploads."""
    uploads: Uploads = current_app.extensions[_NAME]
    return uploads


def csv_download(content: Iterator[bytes], name: str) -> Response:
    """Answer with a CSV file of this name."""
    response = Response(content, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def spreadsheet_lines(path: Path) -> Iterator[bytes]:
    """Write an answer so that a spreadsheet runs no cell, and reads letters beyond ASCII."""
    yield BOM
    with path.open(encoding="utf-8", newline="") as file:
        for text in csv_lines(csv.reader(file)):
            yield text.encode()


def read_file(path: Path) -> Iterator[bytes]:
    """Read a file in blocks."""
    with path.open("rb") as file:
        while block := file.read(1 << 16):
            yield block

"""Spreadsheets: workbooks as tables, read by a child process that its limits can end alone."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO
from weakref import finalize

import msgspec

from bandits.errors import InvalidInput, Unavailable
from webapp.files.spreadsheet_child import CPU_SECONDS, REFUSED, SheetHead, SheetRow

AT_ONCE = 2  # children
_SECONDS = 3 * CPU_SECONDS  # a child may wait for a busy machine
_MOST_WORDS = 1000
_children = BoundedSemaphore(AT_ONCE)
_head = msgspec.json.Decoder(SheetHead)
_row = msgspec.json.Decoder(SheetRow)


class SheetFile:
    """Cells of a workbook's first sheet, as the child process wrote them."""

    def __init__(self, path: Path, name: str, cells: Path | None = None) -> None:
        """Read a workbook, unless the file `cells` is there, which an earlier reading wrote.

        Args:
            path: of the workbook.
            name: of the workbook in messages.
            cells: keeps what is read; without it, a file that ends with this object does.

        Raises:
            InvalidInput: it is no workbook, it is larger than the limits, or it is empty.
            Unavailable: as many workbooks as may be at once are being read.
        """
        self._cells = cells
        if cells is None:
            self._own = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object
            finalize(self, self._own.close)
            _read(path, name, self._own)
        elif not cells.exists():
            unfinished = cells.with_name(f".{cells.name}.unfinished")
            unfinished.unlink(missing_ok=True)
            with open(unfinished, "xb", opener=_open_private) as file:
                _read(path, name, file)
            unfinished.replace(cells)
        with self._opened() as file:
            self.head = _head.decode(file.readline())

    def rows(self) -> Iterator[SheetRow]:
        """Read the rows, from the first."""
        with self._opened() as file:
            file.readline()
            yield from map(_row.decode, file)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._cells is not None:
            with self._cells.open("rb") as file:
                yield file
        else:  # one reader at a time
            self._own.seek(0)
            yield self._own


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _read(path: Path, name: str, out: IO[bytes]) -> None:
    if not _children.acquire(timeout=_SECONDS):
        raise Unavailable("other workbooks are being read")
    try:
        with path.open("rb") as file:
            child = subprocess.run(
                [sys.executable, "-I", "-m", "webapp.files.spreadsheet_child"],
                stdin=file,
                stdout=out,
                stderr=subprocess.PIPE,
                timeout=_SECONDS,
                check=False,
                env={},
            )
    except subprocess.TimeoutExpired:
        raise InvalidInput.at("", f"{name}: takes too long to read; save it as CSV") from None
    finally:
        _children.release()
    if child.returncode == REFUSED:
        words = child.stderr[:_MOST_WORDS].decode(errors="replace")
        raise InvalidInput.at("", f"{name}: {words}")
    if child.returncode:
        detail = "needs more memory or time than a workbook may take; save it as CSV"
        raise InvalidInput.at("", f"{name}: {detail}")

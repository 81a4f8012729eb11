"""One server for one SQLite file: a lock of the operating system beside the database."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from bandits.errors import Unavailable

WAIT_SECONDS = 5.0
_RETRY_SECONDS = 0.05


class FileLock:
    """A lock that its process holds until it ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Lock the file at `path`, which is made where it is missing."""
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, wait_seconds: float = WAIT_SECONDS) -> None:
        """Take the lock, waiting for a holder that is just ending.

        Raises:
            Unavailable: somebody else holds on to it; the message names the process.
        """
        file = self.path.open("a+", encoding="ascii")
        deadline = time.monotonic() + wait_seconds
        while not _locked(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                file.close()
                raise Unavailable(f"process {holder} already serves {self.path.with_suffix('')}")
            time.sleep(_RETRY_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

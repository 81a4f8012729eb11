"""File lock: keeps a second server from an SQLite file, by a locked file beside it."""

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from bandits.errors import Unavailable

WAIT_SECONDS = 5.0
_RETRY_SECONDS = 0.05


class FileLock:
    """Lock of a process on a file, which ends at the latest with the process."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; `acquire` creates it if it is missing."""
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, wait_seconds: float = WAIT_SECONDS) -> None:
        """Take the lock, waiting for a holder that is just ending.

        Raises:
            Unavailable: another process keeps it; the message names that process.
        """
        file = self.path.open("a+", encoding="ascii")
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(file):
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
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

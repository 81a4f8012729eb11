"""Private files: files and folders that only the user who runs the program may read or write."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from bandits.errors import Unavailable

_FILE, _FOLDER = 0o600, 0o700
_OTHERS = 0o077


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file that is created private; a link in its place is refused.

    Raises:
        OSError: it cannot be opened.
    """
    return open(path, mode, opener=_open, **options)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE)


def open_own(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file that this user has or creates, and keep others from it from now on.

    Raises:
        Unavailable: it is somebody else's, or a link, or cannot be opened.
    """
    try:
        file = open_private(path, mode, **options)
    except OSError as error:
        raise Unavailable(f"{path} cannot be used: {error.strerror}") from None
    status = os.fstat(file.fileno())
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
        file.close()
        raise Unavailable(f"{path} is a file of another user; remove it")
    os.fchmod(file.fileno(), _FILE)
    return file


def make_private_folder(folder: Path) -> None:
    """Make a folder unless it is there, and keep others from it.

    Raises:
        Unavailable: it is somebody else's, or a link, or cannot be made.
    """
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise Unavailable(f"{folder} is a link or the folder of another user; remove it")
        if status.st_mode & _OTHERS:
            folder.chmod(_FOLDER)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be used: {error.strerror}") from None


def create_private(path: Path) -> None:
    """Create an empty private file unless there is one."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _FILE))


def make_private(path: Path) -> None:
    """Keep others from a file, where it is this user's."""
    with suppress(OSError):
        status = path.stat()
        if status.st_uid == os.geteuid() and status.st_mode & _OTHERS:
            path.chmod(_FILE)

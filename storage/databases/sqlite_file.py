"""The file of a SQLite database, which may be moved, removed or replaced while it is open."""

from pathlib import Path

from bandits.errors import NoDatabase


class DatabaseFile:
    """What connections are open on, and whether that is still what stands at its path.

    An open file outlives its name: what is committed to one that was removed is durable, and gone
    with the process.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        """Look at `path`; only where `create` may nothing be there before it is opened."""
        self._path = path
        self._create = create
        self._opened: tuple[int, int] | None = None

    def check(self) -> None:
        """Make sure that what is open, or is opened next, is what stands at the path.

        Raises:
            NoDatabase: nothing stands there, or another file.
        """
        found = self._found()
        if found is None and self._opened is not None:
            raise NoDatabase(f"there is no database {self._path} any more; bring it back")
        if found is None and not self._create:  # a slip makes no empty database
            raise NoDatabase(f"there is no database {self._path}; `bandits db upgrade` makes it")
        if found is not None and self._opened not in {None, found}:
            raise NoDatabase(
                f"there is no database {self._path} any more: another file stands in its place;"
                " stop whatever uses it, and start that again"
            )

    def note_opened(self, *_: object) -> None:
        """Remember what was opened first."""
        if self._opened is None:
            self._opened = self._found()

    def note_closed(self) -> None:
        """Forget what was open; whatever stands at the path may be opened next."""
        self._opened = None

    def _found(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

"""Where uploaded files are kept, and how far each of them has come."""

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import msgspec
from msgspec import Struct

from bandits.errors import InvalidInput, NotFound
from storage.settings import parse_database_url
from storage.stored_format import pack_json, unpack_json
from webapp.files.recipients import RecipientColumns
from webapp.files.reward_export import EventColumns
from webapp.settings import Settings

Kind = Literal["recipients", "results"]
# new: its columns are asked for. working: a thread is at it. refused: rows do not fit, nothing was
# done. broken: cut off on the way; to go on does nothing twice.
Stage = Literal["new", "working", "done", "refused", "broken"]

KEPT_SECONDS = 7 * 86_400.0
_ID_BYTES = 8
_COPY_BYTES = 1 << 20
_LOOKS, _LOOK_SECONDS = 5, 0.01  # a page that looks whether one works holds it for a moment
_DESCRIPTION, _LOCK = "upload.json", "working.lock"
_FORMAT = 1  # of the description


class Upload(Struct, frozen=True, kw_only=True):
    """A file that somebody uploaded, and what became of it so far.

    Attributes:
        name: what it is called on the computer that it comes from; its ending tells its form.
        columns: which column of recipients means what, once somebody said so.
        events: the same of results.
        subject: of results, the column that tells who a row is, where no decision id is in it.
        anew: recipients are decided for again, although the same file was there before.
        contents: the texts and blocks of variants are written out, not only their keys.
        version: the configuration that the rows written so far were written under.
        total: rows, once counted.
        done: rows dealt with.
        written: bytes of the answer that belong to them.
        faults: why it was refused, or where it was cut off.
        accepted, repeated, late, unmatched: of results, what became of their events.
    """

    id: str
    experiment: str
    kind: Kind
    name: str
    by: str
    created_at: float
    stage: Stage = "new"
    columns: RecipientColumns | None = None
    events: EventColumns | None = None
    subject: str | None = None
    anew: bool = False
    contents: bool = True
    version: int = 0
    total: int = 0
    done: int = 0
    written: int = 0
    faults: tuple[str, ...] = ()
    accepted: int = 0
    repeated: int = 0
    late: int = 0
    unmatched: int = 0


class Uploads:
    """The folder of one database's uploads; several processes may use it."""

    def __init__(self, folder: Path) -> None:
        """Keep files below `folder`, which is made when it is needed."""
        self._folder = folder

    def add(  # noqa: PLR0913 - what, whose and when
        self, experiment: str, kind: Kind, file: IO[bytes], name: str, *, at: float, by: str
    ) -> Upload:
        """Keep a file.

        Raises:
            InvalidInput: the disk does not take it.
        """
        made = Upload(
            id=secrets.token_hex(_ID_BYTES),
            experiment=experiment,
            kind=kind,
            name=name,
            by=by,
            created_at=at,
        )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._place(made).mkdir(mode=0o700)
        try:
            with self.file(made).open("wb") as kept:
                shutil.copyfileobj(file, kept, _COPY_BYTES)
            self.save(made)
        except OSError as error:
            self.remove(made)
            raise InvalidInput.at("", f"cannot keep {name}: {error.strerror or error}") from None
        return made

    def find(self, experiment: str, upload_id: str) -> Upload:
        """Read what is known of one.

        Raises:
            NotFound: there is none of this id for this experiment, or no longer.
        """
        found = self._read(self._folder / upload_id)
        if found is None or found.experiment != experiment:
            raise NotFound("file", upload_id)
        return found

    def every(self, experiment: str) -> list[Upload]:
        """Read what is known of each of an experiment's, the newest first."""
        found = [u for u in self._all() if u.experiment == experiment]
        return sorted(found, key=lambda u: (-u.created_at, u.id))

    def save(self, upload: Upload) -> None:
        """Note how far one has come; it is noted whole, or not at all."""
        place = self._place(upload)
        unfinished = place / f".{_DESCRIPTION}"
        content = msgspec.json.encode(upload).decode()
        unfinished.write_text(pack_json(content, _FORMAT))
        unfinished.replace(place / _DESCRIPTION)

    def remove(self, upload: Upload) -> None:
        """Forget one, its file and its answer."""
        shutil.rmtree(self._place(upload), ignore_errors=True)

    def sweep(self, now: float) -> None:
        """Forget those that are too old."""
        for upload in self._all():
            if upload.created_at < now - KEPT_SECONDS and not self.is_worked_on(upload):
                self.remove(upload)

    def file(self, upload: Upload) -> Path:
        """Say where the uploaded file is."""
        return self._place(upload) / "file"

    def answer(self, upload: Upload) -> Path:
        """Say where the answer is written: chosen variants, or rows without a match."""
        return self._place(upload) / "answer.csv"

    def is_worked_on(self, upload: Upload) -> bool:
        """Tell whether a thread of any process is at it."""
        try:
            self._lock(upload).close()
        except BlockingIOError:
            return True
        return False

    def hold(self, upload: Upload) -> IO[bytes] | None:
        """Keep every other thread and process from working on it until the answer is closed.

        Returns:
            What to close, or None where one works on it already.
        """
        for _ in range(_LOOKS):
            try:
                return self._lock(upload)
            except BlockingIOError:
                time.sleep(_LOOK_SECONDS)
        return None

    def _lock(self, upload: Upload) -> IO[bytes]:
        file = (self._place(upload) / _LOCK).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        return file

    def _place(self, upload: Upload) -> Path:
        return self._folder / upload.id

    def _all(self) -> Iterator[Upload]:
        places = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        for place in places:
            found = self._read(place)
            if found is not None:
                yield found

    def _read(self, place: Path) -> Upload | None:
        with suppress(OSError, msgspec.MsgspecError):
            text = (place / _DESCRIPTION).read_text()
            content = unpack_json(text, f"{_DESCRIPTION} of an upload", _FORMAT)
            return msgspec.json.decode(content, type=Upload)
        return None


def folder_of(settings: Settings) -> Path:
    """Say where a server keeps uploads: beside SQLite's file unless it is told another place."""
    if settings.files_folder is not None:
        return Path(settings.files_folder)
    url = parse_database_url(settings.database_url)
    if url.drivername.startswith("sqlite"):
        return Path(f"{url.database}.files")
    mark = hashlib.blake2b(settings.database_url.encode(), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"bandits-files-{os.getuid()}-{mark}"

"""Uploads: files that users have uploaded, and the progress of their jobs."""

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import msgspec
from msgspec import Struct

from bandits.errors import InvalidInput, NotFound
from storage.private_files import make_private_folder, open_private
from storage.settings import data_folder
from storage.stored_format import pack_json, unpack_json
from webapp.files.cell_values import CellForms
from webapp.files.file_check import FileCheck
from webapp.files.recipients import RecipientColumns
from webapp.files.reward_export import EventColumns
from webapp.files.table_files import Table, TableFormat, open_table
from webapp.jobs.column_map import SavedMappings
from webapp.jobs.waves import Wave
from webapp.settings import Settings

Kind = Literal["recipients", "results"]
# new: its columns are not named yet. working: a thread processes it. checked: somebody has to look
# at what was found in it. refused: no row is valid and nothing was recorded. broken: stopped on the
# way; to resume records nothing twice. waves: its waves are chosen for one after the other.
Stage = Literal["new", "working", "checked", "waves", "done", "refused", "broken"]

KEPT_SECONDS = 7 * 86_400.0
_ID_BYTES = 8
_ID = re.compile(r"[0-9a-f]{16}")
_COPY_BYTES = 1 << 20
_ATTEMPTS, _RETRY_SECONDS = 5, 0.01  # `is_worked_on` holds the lock for a moment
_DESCRIPTION, _LOCK = "upload.json", "working.lock"
_FORMAT = 1  # of the description


class Upload(Struct, frozen=True, kw_only=True):
    """Uploaded file, and the progress of its job.

    Attributes:
        name: on the computer that it comes from; its ending determines its format.
        columns: of a file of recipients, once they are named.
        events: columns of an export of results, once they are named.
        subject: of results, the column of subject ids, if there is none of decision ids.
        anew: decide again for recipients of a file that was uploaded before.
        contents: write the texts and blocks of variants, too, not only their keys.
        format: of a text file, where somebody has chosen it.
        forms: how its cells are written.
        own: write the list's own columns, too.
        one_each: decide once for a recipient who is in several rows.
        totals: values of metrics that add up are totals so far.
        check: what was found when the whole file was read.
        confirmed: go on, whatever was found.
        version: of the configuration that `written` was written under.
        total: number of rows, once they are counted.
        done: number of rows processed.
        written: bytes of the answer file for these rows.
        faults: reasons why it was refused or stopped.
        sent: somebody says that the emails of its choices are sent.
        reported: number of choices whose emails are reported as sent.
        in_waves: it is to be sent in waves,
        waves: which these are, once they are planned.
        best_last: the last of them gets the version that does best until then.
        accepted, repeated, late, unmatched: numbers of events of results, by their outcome.
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
    format: TableFormat = TableFormat()
    forms: CellForms = CellForms(zone="UTC")  # as files were read before it was asked for
    own: bool = False
    one_each: bool = False
    totals: bool = False
    check: FileCheck | None = None
    confirmed: bool = True
    version: int = 0
    total: int = 0
    done: int = 0
    written: int = 0
    faults: tuple[str, ...] = ()
    sent: bool = False
    reported: int = 0
    in_waves: bool = False
    waves: tuple[Wave, ...] = ()
    best_last: bool = False
    accepted: int = 0
    repeated: int = 0
    late: int = 0
    unmatched: int = 0


class Uploads:
    """Folder of one database's uploads; several processes may use it."""

    def __init__(self, folder: Path) -> None:
        """Store files below `folder`, which the first upload creates."""
        self._folder = folder
        self.mappings = SavedMappings(folder)

    def add(  # noqa: PLR0913 - the fields of an upload
        self, experiment: str, kind: Kind, file: IO[bytes], name: str, *, at: float, by: str
    ) -> Upload:
        """Store a file.

        Raises:
            InvalidInput: the disk refuses it.
            Unavailable: the folder is not this user's.
        """
        upload = Upload(
            id=secrets.token_hex(_ID_BYTES),
            experiment=experiment,
            kind=kind,
            name=name,
            by=by,
            created_at=at,
        )
        make_private_folder(self._folder)
        make_private_folder(self._place(upload))
        try:
            with open_private(self.file(upload), "wb") as copy:
                shutil.copyfileobj(file, copy, _COPY_BYTES)
            self.save(upload)
        except OSError as error:
            self.remove(upload)
            raise InvalidInput.at("", f"cannot keep {name}: {error.strerror or error}") from None
        return upload

    def find(self, experiment: str, upload_id: str) -> Upload:
        """Read an upload.

        Raises:
            NotFound: this experiment has no upload of this id, or no longer.
        """
        upload = self._read(self._folder / upload_id) if _ID.fullmatch(upload_id) else None
        if upload is None or upload.experiment != experiment:
            raise NotFound("file", upload_id)
        return upload

    def list_for(self, experiment: str) -> list[Upload]:
        """Read the uploads of an experiment, the newest first."""
        uploads = [u for u in self._all() if u.experiment == experiment]
        return sorted(uploads, key=lambda u: (-u.created_at, u.id))

    def planned(self) -> list[Upload]:
        """Read the uploads that have waves to be chosen for, the oldest first."""
        uploads = [u for u in self._all() if u.stage == "waves"]
        return sorted(uploads, key=lambda u: (u.created_at, u.id))

    def save(self, upload: Upload) -> None:
        """Write an upload's description, whole or not at all."""
        place = self._place(upload)
        unfinished = place / f".{_DESCRIPTION}"
        content = msgspec.json.encode(upload).decode()
        with open_private(unfinished, "w", encoding="utf-8") as file:
            file.write(pack_json(content, _FORMAT))
        unfinished.replace(place / _DESCRIPTION)

    def remove(self, upload: Upload) -> None:
        """Delete an upload, its file and its answer."""
        shutil.rmtree(self._place(upload), ignore_errors=True)

    def sweep(self, now: float) -> None:
        """Delete uploads that are older than a week, or whose last wave is."""
        for upload in self._all():
            last = max([upload.created_at, *(wave.at for wave in upload.waves)])
            if last < now - KEPT_SECONDS and not self.is_worked_on(upload):
                self.remove(upload)

    def file(self, upload: Upload) -> Path:
        """Return the path of the uploaded file."""
        return self._place(upload) / "file"

    def answer(self, upload: Upload, wave: int | None = None) -> Path:
        """Return the path of the answer: chosen variants, also of a wave, or unmatched rows."""
        name = "answer.csv" if wave is None else f"answer-{wave + 1}.csv"
        return self._place(upload) / name

    def report(self, upload: Upload) -> Path:
        """Return the path of the report of rows that do not fit."""
        return self._place(upload) / "report.csv"

    def open_report(self, upload: Upload) -> IO[str]:
        """Open the report anew."""
        return open_private(self.report(upload), "w", encoding="utf-8", newline="")

    def open_table(self, upload: Upload) -> Table:
        """Open the uploaded file as a table.

        Raises:
            InvalidInput: it cannot be read.
            Unavailable: as many workbooks as may be at once are being read.
        """
        cells = self._place(upload) / "cells.jsonl"
        return open_table(self.file(upload), upload.name, upload.format, cells=cells)

    def open_answer(self, upload: Upload, wave: int | None = None) -> IO[bytes]:
        """Open the answer to be continued."""
        return open_private(self.answer(upload, wave), "ab")

    def is_worked_on(self, upload: Upload) -> bool:
        """Return True while a thread of any process works on it."""
        try:
            self._lock(upload).close()
        except BlockingIOError:
            return True
        return False

    def hold(self, upload: Upload) -> IO[bytes] | None:
        """Lock an upload against other threads and processes.

        Returns:
            A file to close at the end, or None if another thread works on the upload.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._lock(upload)
            except BlockingIOError:
                time.sleep(_RETRY_SECONDS)
        return None

    def _lock(self, upload: Upload) -> IO[bytes]:
        file = open_private(self._place(upload) / _LOCK, "ab")
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
            upload = self._read(place)
            if upload is not None:
                yield upload

    def _read(self, place: Path) -> Upload | None:
        with suppress(OSError, msgspec.MsgspecError):
            if place.lstat().st_uid != os.geteuid() or place.is_symlink():
                return None
            with open_private(place / _DESCRIPTION, "r", encoding="utf-8") as file:
                text = file.read()
            content = unpack_json(text, f"{_DESCRIPTION} of an upload", _FORMAT)
            return msgspec.json.decode(content, type=Upload)
        return None


def uploads_folder(settings: Settings) -> Path:
    """Return the folder of a server's uploads."""
    if settings.files_folder is not None:
        return Path(settings.files_folder)
    return data_folder(settings.database_url, "files")

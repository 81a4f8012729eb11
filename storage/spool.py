"""Spool: events that were answered and are not in the database yet, in files of one folder.

A worker appends a group of records to a file of its own, and syncs it to the disk, before any of
them is answered. The launcher's thread takes whole files out of use, records what is in them, and
removes them; where it breaks off, it begins with the file again, and what is recorded counts once.

Whoever writes to a live file, or takes it out of use by another name, holds its lock meanwhile. So
nothing is written to a file that was taken, and no writer waits for the database.
"""

import fcntl
import logging
import os
import re
import time
from binascii import crc32
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct as Layout
from threading import Lock
from typing import IO

import msgspec
from msgspec import Struct

from bandits.errors import Unavailable
from bandits.ids import random_bytes
from bandits.waits import BatchingQueue
from storage.connections.encryption import Cipher, NoEncryptionKey
from storage.connections.marks import names_in, normalise
from storage.private_files import make_private_folder, open_own
from storage.schema.metadata import SubjectData

SUBJECT_DATA_OF_SPOOL = SubjectData(
    export="`SubjectStore.signals`, by the names in a record",
    erasure="`SubjectStore.erase_signals`, by the same",
    retention="`Spool.drain`, seconds after it was written, or once the database is back",
)
MOST_BYTES = 1_000_000_000
_SEGMENT_BYTES = 16_000_000  # of one file, so that not all of an hour is read again after a crash
_MOST_RECORDS = 1000  # in a portion that is recorded together,
_PORTION_BYTES = 8_000_000  # which ends with the record that exceeds this: a webhook may have 4 MB
_MEASURED_SECONDS = 1.0
_EMPTY_SECONDS = 60.0  # for so long a file is left to whoever is about to write its first record
_ATTEMPTS = 5  # to write before a file is taken away
_HEAD = b"bandits spool 1\n"
_LAYOUT = Layout("<II")  # length and CRC-32 of what follows: one group, sealed
_LIVE, _SEALED, _NEW = ".live", ".sealed", ".new"
_SEALED_NAME = re.compile(r"(?P<due>\d{14})-[0-9a-f]{20}\.sealed")
_LOCK = "drain.lock"
_log = logging.getLogger(__name__)


class SpoolRecord(Struct, frozen=True, array_like=True):
    """One event, or one delivery of a sender.

    Attributes:
        topic: which of the receivers it is for.
        received_at: seconds since 1970.
        head: of the receiver's own.
        text: the part that may name a subject.
    """

    topic: str
    received_at: float
    head: bytes
    text: bytes


class SpoolFull(Unavailable):
    """The spool takes no more: its folder or the disk is full."""


class UnreadableFile(Unavailable):
    """A file in the folder is none of ours, or of another version."""


class Spool:
    """Folder of records; several processes of one machine may use it."""

    def __init__(self, folder: Path, cipher: Cipher, *, most_bytes: int = MOST_BYTES) -> None:
        """Use `folder`, which the first record creates.

        Args:
            folder: on a disk of this machine.
            cipher: seals what is written.
            most_bytes: of all files together; beyond, nothing is taken.
        """
        self.folder = folder
        self._cipher = cipher
        self._most_bytes = most_bytes
        self._writing = Lock()
        self._live: _LiveFile | None = None
        self._measured = (-_MEASURED_SECONDS, 0)  # a time, and the folder's bytes since then
        self._queue = BatchingQueue[SpoolRecord, None](self._append_one, self._append)
        self._decoder = msgspec.msgpack.Decoder(list[SpoolRecord])

    def append(self, record: SpoolRecord) -> None:
        """Write a record, together with those of other threads; it is durable then.

        Raises:
            SpoolFull: there is no room.
            Unavailable: the folder cannot be written.
        """
        self._queue.do(record)

    def drain(
        self,
        handle: Callable[[Sequence[SpoolRecord]], Sequence[SpoolRecord]],
        *,
        now: float,
        wait_seconds: float,
    ) -> int:
        """Hand over every record that is due, and remove it; return how many.

        Where `handle` raises, the file that it was reading stays, and so do those behind it.

        Args:
            handle: stores records, twice without harm; returns those that are to wait.
            now: seconds since 1970.
            wait_seconds: after which records that wait are handed over again.
        """
        if not self.folder.exists():
            return 0
        with self._drain_lock():
            for path in self.folder.glob(f"*{_NEW}"):  # what a crash left of a file
                path.unlink()
            count = self._drain_due(handle, now, wait_seconds)
            self._seal_live(now)
            return count + self._drain_due(handle, now, wait_seconds)

    def _drain_due(
        self,
        handle: Callable[[Sequence[SpoolRecord]], Sequence[SpoolRecord]],
        now: float,
        wait_seconds: float,
    ) -> int:
        count = 0
        for path in self._sealed_files(due_at=now):
            waiting: list[SpoolRecord] = []
            try:
                for portion in _portions(self._records(path)):
                    waiting += handle(portion)
                    count += len(portion)
            except (NoEncryptionKey, UnreadableFile) as error:
                _log.warning("cannot read %s: %s", path, error)
                continue
            if waiting:
                self._write_sealed(waiting, due_at=now + wait_seconds)
            path.unlink()
        return count

    def find(self, names: Iterable[str]) -> list[SpoolRecord]:
        """Read the records that name any of these: a subject, or a decision.

        Raises:
            Unavailable: a file cannot be read.
        """
        return self._search(names, erase=False)

    def erase(self, names: Iterable[str]) -> int:
        """Remove the records that name any of these; return how many there were.

        Raises:
            Unavailable: a file cannot be read.
        """
        return len(self._search(names, erase=True))

    def _search(self, names: Iterable[str], *, erase: bool) -> list[SpoolRecord]:
        if not self.folder.exists():
            return []
        searched = {normalise(name) for name in names if name.strip()}
        matches: list[SpoolRecord] = []
        with self._drain_lock():
            self._seal_live(0.0)
            for path in self._sealed_files():
                records = list(self._records(path))
                naming = [r for r in records if not searched.isdisjoint(_names_of(r))]
                matches += naming
                if erase and naming:
                    kept = [record for record in records if record not in naming]
                    if kept:
                        self._replace(path, kept)
                    else:
                        path.unlink()
        return matches

    def close(self) -> None:
        """Close the file that is written to; the next record begins another one."""
        with self._writing:
            self._close()

    def size(self) -> int:
        """Measure the bytes of all files."""
        total = 0
        with suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_size
        return total

    def _append_one(self, record: SpoolRecord) -> None:
        self._append([record])

    def _append(self, records: Sequence[SpoolRecord]) -> Sequence[None]:
        frame = self._frame(records)
        with self._writing:
            self._make_room(len(frame))
            try:
                self._write(frame)
            except OSError as error:
                self._close()
                raise SpoolFull(f"{self.folder} cannot be written: {error.strerror}") from None
        return [None] * len(records)

    def _make_room(self, needed: int) -> None:
        measured_at, size = self._measured
        if time.monotonic() - measured_at >= _MEASURED_SECONDS:
            make_private_folder(self.folder)
            measured_at, size = time.monotonic(), self.size()
        if size + needed > self._most_bytes:
            self._measured = measured_at, size
            raise SpoolFull(f"{self.folder} has {size:,} bytes; at most {self._most_bytes:,}")
        self._measured = measured_at, size + needed

    def _write(self, frame: bytes) -> None:
        """Append a frame to the live file, to another one where it was taken.

        Raises:
            OSError: it cannot be written; nothing of it is there.
        """
        for _ in range(_ATTEMPTS):
            if self._live is None:
                self._live = _LiveFile.create(self.folder)
            if self._live.append(frame):
                return
            self._close()
        raise OSError(0, "its files are taken away all the time")

    def _close(self) -> None:
        if self._live is not None:
            self._live.close()
            self._live = None

    def _frame(self, records: Sequence[SpoolRecord]) -> bytes:
        content = self._cipher.seal(msgspec.msgpack.encode(records))
        return _LAYOUT.pack(len(content), crc32(content)) + content

    def _records(self, path: Path) -> Iterator[SpoolRecord]:
        """Read a file's records, up to where a crash cut it off: no more was answered.

        Raises:
            NoEncryptionKey: it is encrypted under a key that is not here.
            UnreadableFile: it is of another version.
        """
        with path.open("rb") as file:
            head = file.read(len(_HEAD))
            if head != _HEAD:
                if _HEAD.startswith(head):  # a crash cut it off
                    return
                raise UnreadableFile(f"{path} is of another version of the spool")
            while layout := file.read(_LAYOUT.size):
                if len(layout) < _LAYOUT.size:
                    break
                length, checksum = _LAYOUT.unpack(layout)
                content = file.read(length)
                if len(content) < length or crc32(content) != checksum:
                    break
                yield from self._decoder.decode(self._cipher.unseal(content))
            else:
                return
            _log.warning("%s ends within a record, as after a crash", path)

    def _sealed_files(self, due_at: float | None = None) -> list[Path]:
        """List the files that were taken out of use, the oldest first."""
        names = [path.name for path in self.folder.iterdir() if _SEALED_NAME.fullmatch(path.name)]
        limit = None if due_at is None else f"{_milliseconds(due_at):014}~"
        return [self.folder / name for name in sorted(names) if limit is None or name < limit]

    def _seal_live(self, now: float) -> None:
        """Take every live file out of use, also those of workers that have ended."""
        for path in self.folder.glob(f"*{_LIVE}"):
            with suppress(FileNotFoundError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                status = os.fstat(file.fileno())
                if not _is_at(path, file.fileno()):
                    continue
                if status.st_size > len(_HEAD):
                    path.rename(self._sealed_name(now))
                elif time.time() - status.st_mtime > _EMPTY_SECONDS:
                    path.unlink()

    def _sealed_name(self, due_at: float) -> Path:
        name = f"{_milliseconds(due_at):014}-{random_bytes().hex()}{_SEALED}"
        return self.folder / name

    def _write_sealed(self, records: Sequence[SpoolRecord], *, due_at: float) -> None:
        self._replace(self._sealed_name(due_at), records)

    def _replace(self, path: Path, records: Sequence[SpoolRecord]) -> None:
        """Write a whole file, in place of the one at the path if there is one."""
        fresh = path.with_suffix(_NEW)
        with open_own(fresh, "wb") as file:
            file.write(_HEAD)
            for portion in _portions(iter(records)):
                file.write(self._frame(portion))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        _sync_folder(self.folder)

    @contextmanager
    def _drain_lock(self) -> Iterator[None]:
        """Hold the folder: one drains or searches it at a time."""
        with open_own(self.folder / _LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _LiveFile:
    """File that one worker appends to, until it is taken out of use."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    @classmethod
    def create(cls, folder: Path) -> "_LiveFile":
        """Create a file.

        Raises:
            OSError: it cannot be created.
        """
        make_private_folder(folder)
        path = folder / f"{os.getpid()}-{random_bytes().hex()}{_LIVE}"
        file = open(  # noqa: SIM115 - it stays open
            path, "xb", buffering=0, opener=lambda p, flags: os.open(p, flags, 0o600)
        )
        try:
            file.write(_HEAD)
            _sync_folder(folder)
        except OSError:
            file.close()
            with suppress(OSError):
                path.unlink()
            raise
        return cls(path, file)

    def append(self, frame: bytes) -> bool:
        """Append a frame and sync it; return False where the file was taken out of use.

        Raises:
            OSError: it cannot be written; nothing of it is there.
        """
        number = self._file.fileno()
        fcntl.flock(number, fcntl.LOCK_EX)
        try:
            end = os.fstat(number).st_size
            if end >= _SEGMENT_BYTES or not _is_at(self._path, number):
                return False
            try:
                _write_all(number, frame)
                os.fsync(number)
            except OSError:
                os.ftruncate(number, end)
                raise
        finally:
            fcntl.flock(number, fcntl.LOCK_UN)
        return True

    def close(self) -> None:
        """Close it; what is in it is recorded by whoever drains."""
        self._file.close()


def _portions(records: Iterator[SpoolRecord]) -> Iterator[list[SpoolRecord]]:
    portion: list[SpoolRecord] = []
    size = 0
    for record in records:
        portion.append(record)
        size += len(record.head) + len(record.text)
        if len(portion) == _MOST_RECORDS or size >= _PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _names_of(record: SpoolRecord) -> set[str]:
    return {normalise(name) for name in names_in(record.text)}


def _write_all(number: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(number, left) :]


def _is_at(path: Path, number: int) -> bool:
    """Return True where an open file is still the one at its path."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(number))


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 0)

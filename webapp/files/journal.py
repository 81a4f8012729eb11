"""What a run got answered so far, in a file that a crash at any moment leaves readable."""

import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa

from bandits.errors import InvalidInput

ENDING = ".part"
_FRAME = struct.Struct(">QQ16s")  # length of the content, its rows, its digest


class Journal:
    """Portions of rows, each written whole with its length and digest, and synchronised.

    The first frame says what run the rows are of; a torn last one is cut off when it is opened.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        """Open the journal at `path`, or begin it; `rows` are in it already.

        Raises:
            InvalidInput: it is of another run, in use, or cannot be written.
        """
        self.path = path
        self.rows = 0
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise InvalidInput.at("", f"cannot write {path}: {error.strerror}") from None
        try:
            self._open(dict(identity))
        except BaseException:
            self._file.close()
            raise

    def _open(self, identity: dict[str, str]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInput.at("", f"another command is writing {self.path}") from None
        end = 0
        for content, rows, at in self._frames():
            if end == 0 and msgspec.json.decode(content) != identity:
                detail = (
                    f"{self.path} is of another run, or of recipients that have changed: finish"
                    " that one as it was, or take the file away"
                )
                raise InvalidInput.at("", detail)
            self.rows += rows
            end = at
        self._file.truncate(end)
        if end == 0:
            self._write(msgspec.json.encode(identity), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows, durable on return.

        Raises:
            InvalidInput: the disk does not take them; nothing is lost, since the same run is
                answered the same again.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        self._write(sink.getvalue().to_pybytes(), batch.num_rows)
        self.rows += batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read every row again, as it was added."""
        frames = self._frames()
        next(frames)
        for content, _, _ in frames:
            with pa.ipc.open_stream(content) as reader:
                yield from reader

    def remove(self) -> None:
        """Take it away: its rows are elsewhere."""
        self.path.unlink()

    def _write(self, content: bytes, rows: int) -> None:
        digest = blake2b(content, digest_size=16).digest()
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(_FRAME.pack(len(content), rows, digest) + content)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InvalidInput.at("", f"cannot write {self.path}: {error.strerror}") from None

    def _frames(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield the content, rows and end of every whole frame, up to the first that is not."""
        at = 0
        while True:
            self._file.seek(at)
            head = self._file.read(_FRAME.size)
            if len(head) < _FRAME.size:
                return
            length, rows, digest = _FRAME.unpack(head)
            content = self._file.read(length)
            if len(content) < length or blake2b(content, digest_size=16).digest() != digest:
                return
            at += _FRAME.size + length
            yield content, rows, at

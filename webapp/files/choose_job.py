"""Choose job: decisions for a file of recipients through the API, resumed where it broke off."""

import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import pyarrow as pa
from msgspec import Struct

from bandits.client import Client
from bandits.errors import BanditsError, InvalidInput
from bandits.schemas import Decision, Request
from webapp.files.choices import ChoiceRows, write_table
from webapp.files.recipients import RecipientFile
from webapp.files.repeated_recipients import RepeatedRecipients, choose_once
from webapp.files.table_files import Reject

ENDING = ".part"
_FRAME = struct.Struct(">QQ16s")  # length of the content, its rows, its digest


class Journal:
    """Journal of a choose job: portions of rows, each durable with its length and digest.

    The first frame identifies the run; a torn last frame is cut off when the journal is opened.
    """

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        """Open or begin the journal at `path`; `rows` is the number of its rows.

        Raises:
            InvalidInput: it belongs to another run, is in use, or cannot be written.
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
        for content, rows, frame_end in self._frames():
            if end == 0 and msgspec.json.decode(content) != identity:
                detail = (
                    f"{self.path} is of another run, or of recipients that have changed: finish"
                    " that one as it was, or take the file away"
                )
                raise InvalidInput.at("", detail)
            self.rows += rows
            end = frame_end
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
        """Append rows, durable on return.

        Raises:
            InvalidInput: the disk refuses them; nothing is lost, since the same run gets the same
                decisions again.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        self._write(sink.getvalue().to_pybytes(), batch.num_rows)
        self.rows += batch.num_rows

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the appended batches."""
        frames = self._frames()
        next(frames)
        for content, _, _ in frames:
            with pa.ipc.open_stream(content) as reader:
                yield from reader

    def remove(self) -> None:
        """Delete the journal, whose rows are written elsewhere."""
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


Progress = Callable[[int], None]


class ChooseInterrupted(BanditsError):
    """The server refused or did not answer for too long; the same run resumes where it stopped."""

    def __init__(self, error: BanditsError, done: int, journal: Path) -> None:
        self.done = done
        again = f"{done:,} are done and kept in {journal}: the same command goes on from there"
        super().__init__(f"{error}; {again}")


class ChoiceCounts(Struct):
    """Numbers of the decisions of a run, without those of an earlier part of it."""

    before: int = 0  # rows of an earlier part
    new: int = 0
    repeated: int = 0
    holdout: int = 0
    fallback: int = 0

    def add(self, decisions: list[Decision]) -> None:
        """Count decisions."""
        for decision in decisions:
            self.repeated += decision.repeat
            self.new += not decision.repeat
            self.holdout += decision.holdout
            self.fallback += decision.fallback


class ChooseJob(Struct, frozen=True):
    """Choose job: a file of recipients, its digest, an experiment, a run and the output file.

    Attributes:
        reject: takes each row that does not fit, which is then left out; None for none.
        own: write the columns of the list, too.
        repeated: decide once for a recipient who is in several rows; None for each row by itself.
    """

    recipients: RecipientFile
    rows: ChoiceRows
    experiment: str
    run: str
    digest: str
    out: Path
    reject: Reject | None = None
    own: bool = False
    repeated: RepeatedRecipients | None = None

    def choose(self, client: Client, progress: Progress) -> ChoiceCounts:
        """Choose for every recipient who is not in the journal yet, then write the file of choices.

        Args:
            client: of the server.
            progress: is called with the number of rows that were done.

        Raises:
            ChooseInterrupted: the server refused or did not answer.
            InvalidInput: a file cannot be read or written, or the journal belongs to another run.
        """
        identity = {
            "experiment": self.experiment,
            "run": self.run,
            "file": self.digest,
            "columns": str(self.rows.schema),
            "repeats": "each" if self.repeated is None else "one",
        }
        counts = ChoiceCounts()
        with Journal(self.out.with_name(self.out.name + ENDING), identity) as journal:
            counts.before = journal.rows
            progress(journal.rows)
            choose = partial(client.choose_many, self.experiment)
            end = 0
            for portion in self.recipients.portions(self.run, reject=self.reject, own=self.own):
                requests: Sequence[Request] = portion.requests
                if self.repeated is not None:
                    requests = self.repeated.replaced(requests)
                before, end = end, end + len(requests)
                first = max(journal.rows - before, 0)
                requests = requests[first:]
                if not requests:
                    continue
                try:
                    decisions = choose_once(choose, requests)
                except InvalidInput:
                    raise
                except BanditsError as error:
                    raise ChooseInterrupted(error, journal.rows, journal.path) from error
                own_cells = portion.own[first:]
                journal.append(self.rows.batch(portion.requests[first:], decisions, own_cells))
                counts.add(decisions)
                progress(len(requests))
            write_table(self.out, self.rows.schema, journal.batches())
            journal.remove()
        return counts

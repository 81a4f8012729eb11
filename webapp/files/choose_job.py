"""Choosing for a file of recipients through the API: nobody twice, however often it breaks off."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from bandits.client import Client
from bandits.errors import BanditsError, InvalidInput
from bandits.schemas import Decision
from webapp.files.choices import ChoiceRows, write_table
from webapp.files.journal import ENDING, Journal
from webapp.files.recipients import RecipientFile

Progress = Callable[[int], None]


class ChooseInterrupted(BanditsError):
    """The server refused or was gone for too long; the same run goes on where it stopped."""

    def __init__(self, error: BanditsError, done: int, journal: Path) -> None:
        self.done = done
        again = f"{done:,} are done and kept in {journal}: the same command goes on from there"
        super().__init__(f"{error}; {again}")


class ChoiceCounts(Struct):
    """What became of the rows of this run, without those of an earlier part of it."""

    before: int = 0  # rows that an earlier part had done
    made: int = 0
    repeated: int = 0
    holdout: int = 0
    fallback: int = 0

    def add(self, decisions: list[Decision]) -> None:
        """Count decisions."""
        for decision in decisions:
            self.repeated += decision.repeat
            self.made += not decision.repeat
            self.holdout += decision.holdout
            self.fallback += decision.fallback


class ChooseJob(Struct, frozen=True):
    """Whom to choose for, in which experiment, and where the choices go; `digest` is the file's."""

    recipients: RecipientFile
    rows: ChoiceRows
    experiment: str
    run: str
    digest: str
    out: Path

    def choose(self, client: Client, progress: Progress) -> ChoiceCounts:
        """Choose for every recipient who has no answer yet, then write the file of choices.

        Args:
            client: of the server.
            progress: is told how many rows are done.

        Raises:
            BrokenOff: an answer did not come.
            InvalidInput: a file cannot be read or written, or the journal is of another run.
        """
        identity = {
            "experiment": self.experiment,
            "run": self.run,
            "file": self.digest,
            "columns": str(self.rows.schema),
        }
        counts = ChoiceCounts()
        with Journal(self.out.with_name(self.out.name + ENDING), identity) as journal:
            counts.before = journal.rows
            progress(journal.rows)
            for asked in self.recipients.portions(self.run):
                requests = asked.requests[max(journal.rows - asked.first, 0) :]
                if not requests:
                    continue
                try:
                    decisions = list(client.choose_many(self.experiment, requests))
                except InvalidInput:
                    raise
                except BanditsError as error:
                    raise ChooseInterrupted(error, journal.rows, journal.path) from error
                journal.append(self.rows.batch(requests, decisions))
                counts.add(decisions)
                progress(len(requests))
            write_table(self.out, self.rows.schema, journal.batches())
            journal.remove()
        return counts

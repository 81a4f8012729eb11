"""Deciding for every recipient of an uploaded file, and writing the choices as they are made."""

from collections.abc import Sequence

from msgspec.structs import replace

from bandits.engine import Engine
from bandits.experiment import Experiment
from bandits.schemas import Decision, Request
from webapp.files.choices import ChoiceRows
from webapp.files.csv_safe import csv_lines
from webapp.files.recipients import RecipientColumns, RecipientFile, run_of
from webapp.files.tables import open_table
from webapp.jobs.uploads import Upload, Uploads

PORTION = 1000  # recipients in a transaction: others wait for it only shortly


def choose(uploads: Uploads, upload: Upload, engine: Engine) -> None:
    """Decide for the rows that are left; the same rows again get the same answers.

    Raises:
        InvalidInput: rows do not fit; nobody was decided for.
        WrongState: the experiment does not choose now.
        Unavailable: the database does not answer; to go on later does nothing twice.
    """
    path = uploads.file(upload)
    configuration = engine.store.record(upload.experiment).configuration
    columns = upload.columns or RecipientColumns()
    recipients = RecipientFile(open_table(path, upload.name), configuration.experiment, columns)
    if upload.version != configuration.version:  # what was written has other columns
        upload = replace(upload, version=configuration.version, done=0, written=0)
        upload = replace(upload, total=recipients.count())
        uploads.save(upload)
    run = run_of(path, upload.experiment, columns)
    portions = recipients.portions(f"{run}-{upload.id}" if upload.anew else run, PORTION)
    rows = _Rows(configuration.experiment, contents=upload.contents)
    with uploads.answer(upload).open("ab") as answer:
        answer.truncate(upload.written)  # a portion that was cut off is asked for again
        if not upload.written:
            answer.write(rows.head())
        for asked in portions:
            if asked.first < upload.done:
                continue
            decisions = engine.choose(upload.experiment, asked.requests)
            answer.write(rows.lines(asked.requests, decisions))
            answer.flush()
            done = asked.first + len(asked.requests)
            upload = replace(upload, done=done, written=answer.tell())
            uploads.save(upload)


class _Rows:
    """The lines of a file of choices."""

    def __init__(self, experiment: Experiment, *, contents: bool) -> None:
        self._choices = ChoiceRows(experiment)
        named = {s.key for s in experiment.slots}
        columns: list[str] = self._choices.schema.names
        self._kept = [
            c for c in columns if contents or c.partition(".")[0] not in named or c in named
        ]

    def head(self) -> bytes:
        return "".join(csv_lines([self._kept])).encode()

    def lines(self, requests: Sequence[Request], decisions: Sequence[Decision]) -> bytes:
        batch = self._choices.batch(requests, decisions)
        columns = [batch.column(name).to_pylist() for name in self._kept]
        return "".join(csv_lines(zip(*columns, strict=True))).encode()

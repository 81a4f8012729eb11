"""Wave job: choices for one wave of a list, after what came of earlier waves is learned."""

import csv
import logging
from collections.abc import Sequence
from functools import partial
from itertools import islice
from threading import Thread

import numpy as np
from msgspec.structs import replace

from bandits.actors import actor_of
from bandits.engine import Engine
from bandits.errors import BanditsError, InvalidInput, Unavailable, WrongState
from bandits.experiment import Combination
from bandits.schemas import Request
from webapp.files.recipients import RecipientColumns, RecipientFile, run_digest
from webapp.files.repeated_recipients import choose_once
from webapp.jobs.runner import (
    RECIPIENTS_A_TRANSACTION,
    ChoiceLines,
    UploadListener,
    batched,
    ignore_row,
    repeated_recipients,
)
from webapp.jobs.uploads import Upload, Uploads
from webapp.jobs.waves import (
    LATE_SECONDS,
    Wave,
    changed,
    due_wave,
    moved,
    wave_digests,
    wave_of_rows,
)

_log = logging.getLogger(__name__)


def prepare_due_waves(uploads: Uploads, engine: Engine, ended: UploadListener) -> int:
    """Prepare each wave whose turn it is, of every list; return how many are ready now."""
    count = 0
    for upload in uploads.planned():
        number = due_wave(upload.waves, engine.clock())
        try:
            if number is not None and _chooses(engine, upload.experiment):
                count += prepare_wave(uploads, upload, engine, number, ended)
        except BanditsError as error:  # the next list may do better
            _log.warning("a wave of %s waits: %s", upload.experiment, error)
    return count


def _chooses(engine: Engine, key: str) -> bool:
    """Return True for an experiment that chooses now; a paused one's waves wait."""
    record = engine.store.experiments.record(key)
    return record.state == "running" or (record.state == "stopped" and record.shipped is not None)


def start_wave(
    uploads: Uploads, upload: Upload, engine: Engine, number: int, ended: UploadListener
) -> None:
    """Prepare a wave in a thread, whatever its time."""
    arguments = (uploads, upload, engine, number, ended)
    Thread(target=prepare_wave, args=arguments, name="wave", daemon=True).start()


def prepare_wave(
    uploads: Uploads, upload: Upload, engine: Engine, number: int, ended: UploadListener
) -> bool:
    """Learn what came of earlier waves, and choose for the recipients of one.

    It goes on where it was interrupted: rows that were chosen for get the same choices. Nothing is
    done while another thread works on the list, or where the wave is not open, or not the next.

    Returns:
        True where the wave is ready now.
    """
    lock = uploads.hold(upload)
    if lock is None:
        return False
    with lock:
        upload = uploads.find(upload.experiment, upload.id)
        if not upload.waves[number].is_open or any(w.is_open for w in upload.waves[:number]):
            return False
        waves, late = upload.waves, engine.clock() - upload.waves[number].at
        if waves[number].stage == "waiting" and late > LATE_SECONDS:
            waves = moved(waves, late)  # results need their time to come in
        waves = changed(waves, number, lambda w: replace(w, stage="working", faults=()))
        upload = replace(upload, waves=waves)
        uploads.save(upload)
        try:
            engine.learn(upload.experiment)
            upload = _choose(uploads, upload, engine, number)
        except Unavailable as error:
            return _end(uploads, upload, number, "waiting", str(error))
        except (WrongState, InvalidInput, BanditsError, OSError) as error:
            return _end(uploads, upload, number, "broken", str(error))
        except Exception:  # noqa: BLE001 - the page shows every failure
            _log.exception("a wave of %s failed", upload.experiment)
            words = "something of ours failed; the server's log tells what"
            return _end(uploads, upload, number, "broken", words)
        at = engine.clock()
        ready = changed(upload.waves, number, lambda w: replace(w, stage="ready", prepared_at=at))
        done = upload.done + ready[number].rows
        stage = "waves" if any(wave.is_open for wave in ready) else "done"
        upload = replace(upload, waves=ready, done=done, stage=stage)
        uploads.save(upload)
    try:
        ended(upload)
    except BanditsError as error:
        _log.warning("cannot tell that a wave of %s is ready: %s", upload.experiment, error)
    return True


def _end(uploads: Uploads, upload: Upload, number: int, stage: str, fault: str) -> bool:
    """Note that a wave is not ready, and why."""
    upload = uploads.find(upload.experiment, upload.id)  # as far as it came
    kept = changed(upload.waves, number, lambda w: replace(w, stage=stage, faults=(fault,)))
    uploads.save(replace(upload, waves=kept))
    return False


def _choose(uploads: Uploads, upload: Upload, engine: Engine, number: int) -> Upload:
    """Choose for the rows of a wave that are not chosen for yet."""
    record = engine.store.experiments.record(upload.experiment)
    configuration, columns = record.configuration, upload.columns or RecipientColumns()
    experiment, wave = configuration.experiment, upload.waves[number]
    if wave.version != configuration.version:  # rows written before have other columns
        last = number == len(upload.waves) - 1
        only = wave.only or (_best_version(engine, upload) if last and upload.best_last else None)
        wave = replace(wave, version=configuration.version, read=0, rows=0, written=0, only=only)
        upload = _with_wave(uploads, upload, number, wave)
    table = uploads.open_table(upload)
    recipients = RecipientFile(table, experiment, columns, upload.forms)
    digests = [
        wave_digests(upload.id, (request.subject_id for request in portion.requests))
        for portion in recipients.portions("deal", reject=ignore_row)
    ]
    of_rows = wave_of_rows(digests, upload.waves)
    run = run_digest(uploads.file(upload), upload.experiment, columns, upload.forms, upload.format)
    own = list(zip(table.columns, table.types, strict=True)) if upload.own else []
    lines = ChoiceLines(experiment, own, columns.subject, contents=upload.contents)
    repeated = repeated_recipients(recipients, upload)
    decide = partial(engine.choose, upload.experiment, actor=actor_of("person", upload.by))
    portions = recipients.portions(
        f"{run}-{upload.id}" if upload.anew else run,
        RECIPIENTS_A_TRANSACTION,
        reject=ignore_row,
        own=upload.own,
    )
    at = 0
    with uploads.open_answer(upload, number) as answer:
        answer.truncate(wave.written)
        if not wave.written:
            answer.write(lines.header())
        for portion in portions:
            requests: Sequence[Request] = portion.requests
            if repeated is not None:
                requests = repeated.replaced(requests)
            rows = np.flatnonzero(of_rows[at : at + len(requests)] == number).tolist()
            at += len(requests)
            if portion.first < wave.read:
                continue
            if rows:
                within = _within(engine, upload.experiment, [requests[i] for i in rows], wave.only)
                answer.write(lines.rows(portion.take(rows), choose_once(decide, within)))
                answer.flush()
            read = portion.first + portion.n_rows
            wave = replace(wave, read=read, rows=wave.rows + len(rows), written=answer.tell())
            upload = _with_wave(uploads, upload, number, wave)
    return upload


def _with_wave(uploads: Uploads, upload: Upload, number: int, wave: Wave) -> Upload:
    upload = replace(upload, waves=changed(upload.waves, number, lambda _: wave))
    uploads.save(upload)
    return upload


def _best_version(engine: Engine, upload: Upload) -> Combination | None:
    """Return the version that does best so far, None where that cannot be told yet."""
    results = engine.results(upload.experiment)
    arm = results.verdict.arm
    record = engine.store.experiments.record(upload.experiment)
    if arm is None or record.configuration.policy.statistic.contextual:
        return None
    return record.configuration.variants_of(arm)


def _within(
    engine: Engine, key: str, requests: Sequence[Request], only: Combination | None
) -> Sequence[Request]:
    """Restrict requests to one version, but for the control group, and where they exclude it."""
    if only is None:
        return requests
    eligible = {slot: [variant] for slot, variant in only.items()}
    held_out = engine.held_out(key, [request.subject_id for request in requests])
    return [
        request
        if is_held_out or any(only[s] not in v for s, v in (request.eligible or {}).items())
        else replace(request, eligible=eligible)
        for request, is_held_out in zip(requests, held_out, strict=True)
    ]


def start_reporting(uploads: Uploads, upload: Upload, engine: Engine, number: int) -> None:
    """Report the emails of a wave as sent, in a thread."""
    arguments = (uploads, upload, engine, number)
    Thread(target=report_wave_sent, args=arguments, name="wave sent", daemon=True).start()


def report_wave_sent(uploads: Uploads, upload: Upload, engine: Engine, number: int) -> None:
    """Report the emails of a wave as sent, which starts the clocks that wait for it.

    Where the database does not answer, pressing the button again goes on from there.
    """
    lock = uploads.hold(upload)
    if lock is None:
        return
    with lock:
        upload = uploads.find(upload.experiment, upload.id)
        wave = upload.waves[number]
        actor = actor_of("person", upload.by)
        try:
            with uploads.answer(upload, number).open(encoding="utf-8", newline="") as file:
                decisions = (row["decision_id"] for row in csv.DictReader(file))
                left = islice(decisions, wave.reported, None)
                for ids in batched(left, RECIPIENTS_A_TRANSACTION):
                    engine.activate(ids, actor=actor)
                    wave = replace(wave, reported=wave.reported + len(ids))
                    upload = _with_wave(uploads, upload, number, wave)
        except (BanditsError, OSError) as error:
            _log.warning("a wave of %s is not reported as sent: %s", upload.experiment, error)
            return
        _with_wave(uploads, upload, number, replace(wave, sent=True))

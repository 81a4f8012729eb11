"""Web worker: a process that serves the application and ends with its parent."""

import fcntl
import gc
import logging
import logging.config
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import IO

from flask import Flask
from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from bandits.engine import Engine
from bandits.errors import Unavailable
from storage import open_store
from storage.private_files import open_own
from storage.settings import parse_database_url
from webapp import log_config
from webapp.app import create_app
from webapp.listener import drain_when_told
from webapp.metrics import FoldMetrics
from webapp.services import Services
from webapp.settings import Settings
from webapp.slow_bodies import BodyReads, SlowBodies, Sweeper

WAIT_SECONDS = 5.0
_RETRY_SECONDS = 0.05


class FileLock:
    """Lock of a process on a file, which ends at the latest with the process."""

    def __init__(self, path: Path) -> None:
        """Use the file at `path`; `acquire` creates it if it is missing."""
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, wait_seconds: float = WAIT_SECONDS) -> None:
        """Take the lock, waiting for a holder that is just ending.

        Raises:
            Unavailable: another process keeps it, which the message names; or the file is not
                this user's.
        """
        file = open_own(self.path, "a+", encoding="ascii")
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                file.close()
                raise Unavailable(f"process {holder} already serves {self.path.with_suffix('')}")
            time.sleep(_RETRY_SECONDS)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_DRAIN_SECONDS = 3.0  # shorter than a successor waits for the lock
_log = logging.getLogger(__name__)


def load(settings: Settings, folds: FoldMetrics, listener: int | None = None) -> Flask:
    """Make the application in a process of its own.

    Args:
        settings: of the server.
        folds: counts of the launcher's fold worker, which `/metrics` shows.
        listener: descriptor of the socket that outlives the server, where there is one.

    Raises:
        SystemExit: another server serves this SQLite file.
    """
    os.setpgrp()  # an interrupt from the keyboard goes to the launcher, which ends its workers
    logging.config.dictConfig(log_config.configuration(settings.log_format, settings.log_level))
    use_one_processor()
    set_batch_scheduling()
    Thread(target=_end_with_parent, name="parent", daemon=True).start()
    lock = database_lock(settings.database_url)
    if lock is not None:
        lock.acquire()
    app = application(settings, folds)
    app.extensions["bandits.lock"] = lock  # it is held for as long as the application lives
    reads = BodyReads(settings.request_seconds)
    app.wsgi_app = SlowBodies(app.wsgi_app, reads)  # type: ignore[method-assign]  # as its manual does
    Thread(target=Sweeper(reads).run, args=(Event(),), name="slow bodies", daemon=True).start()
    if listener is not None:
        drain_when_told(app, listener)
    gc.freeze()  # imported modules stay: collections may pass them over
    return app


def use_one_processor() -> None:
    """Keep BLAS to one thread in this process.

    Threads of BLAS wait for each other at every small matrix: beside other work, linear choices for
    10,000 recipients take eight times as long on two threads as on one (docs/adr/0013).
    """
    threadpool_limits(1, user_api="blas")


def set_batch_scheduling() -> None:
    """Schedule the threads of this process as a batch on Linux: waking one stops no other.

    The threads that wait for a commit are woken together, and each has little left to do
    (docs/adr/0036).
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a container may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def application(settings: Settings, folds: FoldMetrics | None = None) -> Flask:
    """Make the application on the database of `settings`, which is migrated already."""
    store = open_store(settings.database_url, settings.encryption_keys, settings.spool_path)
    if settings.secret_key is None:
        settings = replace(settings, secret_key=store.secret("sessions").hex())
    services = Services(
        Engine(store),
        store.accounts,
        store.drafts,
        store.connections,
        store.tracked_links,
        store.spool,
        store.outgoing,
        folds=folds or FoldMetrics(),
        progress=store.database.progress,
    )
    return create_app(services, settings)


def database_lock(database_url: str) -> FileLock | None:
    """Return the lock of an SQLite database, None for another one.

    Raises:
        InvalidInput: the URL is unsupported.
    """
    url = parse_database_url(database_url)
    if not url.drivername.startswith("sqlite"):
        return None
    return FileLock(Path(f"{url.database}.lock"))


def _end_with_parent() -> None:
    """End this process when the launcher has ended: an orphan would answer beside a successor."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    _log.warning("the launcher is gone; ending")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_DRAIN_SECONDS)
    os._exit(1)

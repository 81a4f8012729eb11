"""Server launcher: migrates, then starts the web workers with the fold worker beside them."""

import errno
import logging
import logging.config
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from ipaddress import ip_address
from threading import Event, Thread
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from msgspec import Struct

from bandits.engine import Engine
from bandits.errors import InvalidInput, Unavailable
from storage import SqlStore, open_store, upgrade
from storage.settings import parse_database_url
from webapp import log_config, worker
from webapp.egress import EgressGuard
from webapp.fold_worker import FoldWorker
from webapp.jobs.uploads import Uploads, uploads_folder
from webapp.listener import ActivatedServer
from webapp.listmonk.pull_worker import PullWorker
from webapp.metrics import FoldMetrics
from webapp.middleware import AT_ONCE
from webapp.notices.alert_watch import AlertWatch
from webapp.notices.file_alerts import file_alerts
from webapp.notices.outbox_worker import OutboxWorker
from webapp.settings import Settings
from webapp.spool_worker import SpoolWorker
from webapp.wave_worker import WaveWorker
from webapp.webhooks.match_worker import MatchWorker

_SPARE_THREADS = 8  # for what needs no database, while it keeps all others waiting
_KILL_SECONDS = 30
_OTHERS = 0o077  # have no right to any file that the server creates
_ANNOUNCE_SECONDS = 0.05
_ANSWER_SECONDS = 30.0
_WITHOUT_TLS = (
    "%s is open to other machines without TLS: who is on the way can read passwords and keys; put a"
    " proxy with TLS before it, and name that in BANDITS_TRUSTED_PROXIES"
)
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened at
_SET_UP = """
  Nobody has an account here yet. Create the first one, an admin's, in your browser:

    {}

  The link works once, for 24 hours. Restart the server for a new one.
"""
_log = logging.getLogger(__name__)


class Address(Struct, frozen=True):
    """Address that a server listens at; port 0 takes a free one."""

    host: str
    port: int

    @property
    def local(self) -> "Address":
        """The address at which this machine reaches it."""
        return Address(_EVERYWHERE.get(self.host, self.host), self.port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class PortInUse(Unavailable):
    """The address has a listener already."""


def serve(
    settings: Settings, address: Address, workers: int, listener: socket.socket | None = None
) -> None:
    """Serve until a signal ends it.

    Args:
        settings: of the server.
        address: to listen at, unless there is a listener.
        workers: web processes.
        listener: that systemd opened, and that others may serve before and after.

    Raises:
        InvalidInput: the database's URL is unsupported, or SQLite is to have several workers.
        Unavailable: the database cannot be reached, another server serves it, or the port is
            in use.
    """
    logging.config.dictConfig(log_config.configuration(settings.log_format, settings.log_level))
    os.umask(_OTHERS)
    lock = worker.database_lock(settings.database_url)
    if lock is not None:
        if workers > 1:
            raise InvalidInput.at("", "SQLite takes one worker; more need PostgreSQL")
        lock.acquire()  # fails now, in one line, rather than later in a worker
        lock.release()
    upgrade(settings.database_url)
    store = open_store(settings.database_url, settings.encryption_keys, settings.spool_path)
    reserved = reserve(address) if listener is None else nullcontext(_address_of(listener))
    with reserved as bound, closing(store):
        warn_if_open(bound, settings.trusted_proxies)
        _run(settings, bound, workers, store, listener)


def _run(
    settings: Settings,
    address: Address,
    workers: int,
    store: SqlStore,
    listener: socket.socket | None,
) -> None:
    worker.use_one_processor()  # for the fold worker
    # A forked worker would inherit the fold worker's locks as they happen to be.
    multiprocessing.set_start_method("spawn", force=True)
    granian: Callable[..., Any] = Granian
    if listener is not None:
        granian = partial(ActivatedServer, listener, settings.drain_seconds)
    server = granian(
        "webapp.worker",
        address.host,
        address.port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=AT_ONCE + _SPARE_THREADS,
        http=HTTPModes.http1,  # a connection of either kind may stay silent for ever
        http1_settings=HTTP1Settings(header_read_timeout=int(1000 * settings.request_seconds)),
        respawn_failed_workers=True,
        workers_kill_timeout=_KILL_SECONDS,
        log_dictconfig=log_config.configuration(settings.log_format, settings.log_level),
        log_level=LogLevels.warning,
    )
    stop, folds = Event(), FoldMetrics()
    learner = FoldWorker(Engine(store), stop, folds, max_snapshot_bytes=settings.max_snapshot_bytes)
    fold_thread = Thread(target=learner.run, name="learner")
    matcher = MatchWorker(Engine(store), store.connections, stop)
    match_thread = Thread(target=matcher.run, name="matcher")
    puller = PullWorker(
        Engine(store), store.connections, EgressGuard(settings.egress_networks), stop
    )
    pull_thread = Thread(target=puller.run, name="puller")
    spool_thread = Thread(target=SpoolWorker(Engine(store), store, stop).run, name="spool")
    watch = AlertWatch(Engine(store), store.accounts, store.connections, store.outgoing, stop)
    watch_thread = Thread(target=watch.run, name="alerts")
    sender = OutboxWorker(
        Engine(store),
        store.accounts,
        store.outgoing,
        guard=EgressGuard(settings.egress_networks),
        public_url=settings.public_url,
        stop=stop,
    )
    sender_thread = Thread(target=sender.run, name="outbox")
    tell = file_alerts(Engine(store), store.accounts, store.outgoing)
    waves = WaveWorker(Uploads(uploads_folder(settings)), Engine(store), tell, stop)
    wave_thread = Thread(target=waves.run, name="waves")
    threads = (
        fold_thread,
        match_thread,
        pull_thread,
        spool_thread,
        watch_thread,
        sender_thread,
        wave_thread,
    )
    for thread in threads:
        server.on_startup(thread.start)
    announced = (settings, address, listener, create_set_up_link(settings, address, store))
    server.on_startup(Thread(target=_announce, args=announced, daemon=True).start)
    try:
        descriptor = None if listener is None else listener.fileno()
        loader = partial(worker.load, settings, folds, descriptor)
        server.serve(target_loader=loader, wrap_loader=False)
    finally:
        stop.set()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        _log.info("stopped")


def create_set_up_link(settings: Settings, address: Address, store: SqlStore) -> str | None:
    """Return a new link to make the first account by, None where somebody has one.

    A provider says by its claims who is an admin, so no link is needed beside it.
    """
    if settings.oidc_issuer is not None:
        return None
    code = store.accounts.links.create_set_up(at=time.time(), by="server")
    if code is None:
        return None
    root = settings.public_url or f"{address.local}{settings.url_prefix}"
    return f"{root.rstrip('/')}/set-up#{code}"


def _announce(
    settings: Settings, address: Address, listener: socket.socket | None, set_up_link: str | None
) -> None:
    """Log the address of the server once a worker accepts connections; print its set-up link."""
    while not _accepts(address, queued=listener is not None):
        time.sleep(_ANNOUNCE_SECONDS)
    database = parse_database_url(settings.database_url)  # which hides a password
    _log.info("serving %s at %s", database, address)
    if set_up_link is None:
        return
    if settings.log_format == "json":  # every line of the output is a record then
        _log.warning("nobody has an account yet: create the first one at %s", set_up_link)
    else:
        sys.stderr.write(_SET_UP.format(set_up_link) + "\n")


def _accepts(address: Address, *, queued: bool) -> bool:
    """Return True once a worker accepts connections, or answers where they are queued before."""
    try:
        with socket.create_connection((address.host, address.port), timeout=1) as connection:
            if queued:
                connection.settimeout(_ANSWER_SECONDS)
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return bool(connection.recv(1))
            return True
    except OSError:
        return False


def _address_of(listener: socket.socket) -> Address:
    host, port, *_ = listener.getsockname()
    return Address(host, port)


def warn_if_open(address: Address, trusted_proxies: str) -> None:
    """Warn of an address that other machines may reach, unless a proxy is named."""
    try:
        is_local = ip_address(address.host).is_loopback
    except ValueError:
        is_local = address.host == "localhost"
    if not is_local and not trusted_proxies:
        _log.warning(_WITHOUT_TLS, address)


@contextmanager
def reserve(address: Address) -> Iterator[Address]:
    """Reserve an address for workers that bind it too; yield it with its actual port.

    Raises:
        PortInUse: somebody listens there already.
        Unavailable: it is cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with _bind(family, address, shared=False) as unshared:
        port = unshared.getsockname()[1]
    with _bind(family, Address(address.host, port), shared=True):
        yield Address(address.host, port)


def _bind(family: int, address: Address, *, shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        port = f"port {address.port} of {address.host}"
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{port} is in use") from None
        raise Unavailable(f"{port} cannot be used: {error.strerror}") from None
    return bound

"""Webhook receiver: proves a delivery, records its events, and answers as its sender expects.

Senders differ in which answers make them come again, and one kind never does after a 5xx. So each
refusal is the kind's own, and whatever fails here is answered with its "come again". While the
database is away, deliveries that can be proved all the same go to the spool.
"""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, TooManyRequests

from bandits.errors import NotFound, Unavailable
from storage.connections import Connection, ConnectionSecrets, ConnectionStore
from webapp.body_places import BodyPlaces
from webapp.services import Services, services
from webapp.settings import Settings
from webapp.signals.certificates import CertificateCache
from webapp.signals.connection_kind import ConnectionKind, FieldValues, ProofContext
from webapp.signals.delivery import MAX_BODY_BYTES, Delivery, DeliveryRefused, RefusalCause
from webapp.signals.kind_registry import connection_kind
from webapp.signals.receive import check_head, receive
from webapp.signals.signal_event import SignalBatch
from webapp.slow_bodies import BODY_SECONDS
from webapp.webhooks.certificate_fetcher import fetch
from webapp.webhooks.connection_setup import field_values
from webapp.webhooks.signal_recorder import SignalRecorder
from webapp.webhooks.spooled_delivery import spool_record

PATH = "/webhooks/<kind>/<connection>"
AT_ONCE = 32  # half the places for requests that a worker has
_OF_ONE_ADDRESS = 8
_OF_ONE_CONNECTION = 12  # so that who knows one address fills the places of no other
_UNPROVED_SECONDS = 5.0  # for a body whose sender is proved by it alone; a long one has more
_NOTED_SECONDS = 10.0  # rejections of one connection are written at most this often
_RECEIVER = "bandits.webhooks"
_log = logging.getLogger(__name__)

webhooks = Blueprint("webhooks", __name__)


class RejectionLog:
    """Requests that were not verified, counted here and written now and then.

    Anybody can send one, so not each may cost a transaction.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = Lock()
        self._counts: dict[int, int] = {}
        self._noted: dict[int, float] = {}

    def note(self, store: ConnectionStore, connection_id: int, reason: str, *, at: float) -> None:
        """Count a rejection, and write those counted where that was not done just before."""
        with self._lock:
            count = self._counts[connection_id] = self._counts.get(connection_id, 0) + 1
            now = time.monotonic()
            if now - self._noted.get(connection_id, -_NOTED_SECONDS) < _NOTED_SECONDS:
                return
            self._noted[connection_id] = now
            self._counts[connection_id] = 0
        try:
            store.note_rejections(connection_id, count, reason, at=at)
        except (NotFound, Unavailable):  # the count is lost, the rejection stands
            _log.warning("cannot count %d rejected deliveries", count)


class WebhookReceiver:
    """Receiver of the deliveries of one application."""

    def __init__(self, public_url: str | None) -> None:
        """Receive at `public_url`, where the settings name one."""
        self.public_url = public_url
        self.certificates = CertificateCache(fetch)
        self._places = BodyPlaces(AT_ONCE, _OF_ONE_ADDRESS, _OF_ONE_CONNECTION)
        self.rejections = RejectionLog()

    def answer(self, services: Services, kind: ConnectionKind, key: str) -> Response:
        """Answer Flask's current request.

        Raises:
            NotFound: there is no such connection of this kind.
        """
        store, at = services.connections, services.engine.clock()
        try:
            connection, secrets = store.open(key, at=at)
        except Unavailable as error:
            _log.warning("webhook %s: %s", key, error)
            remembered = store.recall(key)
            if remembered is None:
                return _respond(kind, RefusalCause.UNAVAILABLE)
            connection, secrets = remembered
        if connection.kind != kind.name:
            raise NotFound("connection", key)
        try:
            delivery, batch = self._receive(kind, connection, secrets, at)
        except DeliveryRefused as error:
            if error.cause is not RefusalCause.UNAVAILABLE:
                self.rejections.note(store, connection.id, str(error), at=at)
            return _respond(kind, error.cause)
        if request.method != "POST":
            return _respond(kind)
        try:
            SignalRecorder(services.engine).deliver(store, connection, batch, at=at)
        except Unavailable as error:
            _log.warning("webhook %s is kept in the spool: %s", key, error)
            try:
                services.spool.append(spool_record(kind.name, key, delivery, at=at))
            except Unavailable as full:
                _log.warning("webhook %s cannot be kept: %s", key, full)
                return _respond(kind, RefusalCause.UNAVAILABLE)
        return _respond(kind)

    def _receive(
        self, kind: ConnectionKind, connection: Connection, secrets: ConnectionSecrets, at: float
    ) -> tuple[Delivery, SignalBatch]:
        """Read the current request's body where there is a place, and prove it.

        Raises:
            DeliveryRefused: it is not proved, too large, the connection is paused, or no place is
                free.
        """
        if request.method == "POST" and connection.paused:
            raise DeliveryRefused(RefusalCause.UNAVAILABLE, "the connection is paused")
        request.max_content_length = MAX_BODY_BYTES
        values = self.values(kind, connection, secrets)
        context = ProofContext(datetime.fromtimestamp(at, UTC), self.certificates)
        if request.method == "POST":
            check_head(kind, Delivery.of("POST", request.headers, b""), values, context)
            if not kind.password:
                request.environ[BODY_SECONDS] = _UNPROVED_SECONDS
        try:
            with self._places.taken(request.remote_addr or "", connection.key):
                body = request.get_data(cache=False) if request.method == "POST" else b""
                delivery = Delivery.of(request.method, request.headers, body)
                batch = receive(
                    kind,
                    delivery,
                    values,
                    now=context.now,
                    certificates=self.certificates,
                )
                return delivery, batch
        except TooManyRequests:
            raise DeliveryRefused(RefusalCause.UNAVAILABLE, "too many at once") from None
        except RequestEntityTooLarge:
            detail = f"at most {MAX_BODY_BYTES:,} bytes are taken"
            raise DeliveryRefused(RefusalCause.TOO_LARGE, detail) from None

    def values(
        self, kind: ConnectionKind, connection: Connection, secrets: ConnectionSecrets
    ) -> FieldValues:
        """Return the values of a connection's fields, those of its secrets before included."""
        return field_values(kind, connection, secrets, self.address(connection))

    def address(self, connection: Connection) -> str:
        """Return the address that a sender sends a connection's events to."""
        return self.address_of(connection.kind, connection.key)

    def address_of(self, kind: str, key: str) -> str:
        """Return the address that a connection of a kind has under a key."""
        root = self.public_url or request.url_root
        return f"{root.rstrip('/')}/webhooks/{kind}/{key}"


@webhooks.route(PATH, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def receive_delivery(kind: str, connection: str) -> Response:
    """Answer a delivery."""
    return receiver().answer(services(), connection_kind(kind), connection)


def receiver() -> WebhookReceiver:
    """Return the running application's receiver."""
    own: WebhookReceiver = current_app.extensions[_RECEIVER]
    return own


@webhooks.errorhandler(Exception)
def _fail(error: Exception) -> Response:
    """Answer an error: an unknown address is told so, after any other the sender comes again."""
    arguments: Mapping[str, str] = request.view_args or {}
    if isinstance(error, NotFound):
        return Response("there is no such connection\n", 404, mimetype="text/plain")
    if not isinstance(error, HTTPException):  # a connection that broke off is no failure of ours
        _log.error("webhook %s failed", arguments.get("connection"), exc_info=error)
    return _respond(connection_kind(arguments["kind"]), RefusalCause.UNAVAILABLE)


def _respond(kind: ConnectionKind, cause: RefusalCause | None = None) -> Response:
    answer = kind.answer(cause)
    text = "ok" if cause is None else cause.value
    return Response(f"{text}\n", answer.status, dict(answer.headers), mimetype="text/plain")


def init(app: Flask, settings: Settings) -> None:
    """Add the webhooks to `app`."""
    app.extensions[_RECEIVER] = WebhookReceiver(settings.public_url)
    app.register_blueprint(webhooks)

"""Messenger of listmonk: chooses for a message, puts the choice in, and sends it by SMTP.

listmonk repeats nothing that was not answered 200. So a message is always sent: where nothing can
be decided, with the control. It is noted before the mail server takes it, so that one that comes
again is not sent twice (`storage.connections.sent_messages`).
"""

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Lock

from flask import Blueprint, Flask, Response, current_app, request
from msgspec import Struct
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from bandits.actors import Actor, actor_of
from bandits.errors import BanditsError, IdReused, NotFound, Unavailable
from bandits.experiment import Experiment
from bandits.schemas import Request, SlotChoice
from storage.connections import Connection, ConnectionSecrets
from webapp.listmonk.blocks import BlockTemplate
from webapp.listmonk.mail import Unsendable, make_mail
from webapp.listmonk.postback import Postback, Recipient, read_postback
from webapp.listmonk.subscribers import context_of, subject_id_of
from webapp.services import Services, services
from webapp.settings import Settings
from webapp.signals.connection_kind import ConnectionKind, ProofContext
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.kind_registry import connection_kind
from webapp.smtp import MailDeferred, MailRefused, MailSubmission, parse_smtp_url
from webapp.webhooks.connection_setup import field_values
from webapp.webhooks.receiver import receiver

PATH = "/messengers/<kind>/<connection>"
_MESSENGER = "bandits.messenger"
_MOST_UNNOTED = 100_000
_UNPROCESSABLE = 422
_log = logging.getLogger(__name__)

messengers = Blueprint("messengers", __name__)


class Choice(Struct, frozen=True):
    """Subject and body of a message, and the decision that they are of, None without one.

    Attributes:
        activate: the decision waits to be told that it was sent.
    """

    subject: str
    body: str
    decision_id: str | None = None
    activate: bool = False


class SendingTwice(Exception):
    """A message is being sent just now by another request, or was sent meanwhile."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__("the message is sent already" if sent else "the message is being sent")
        self.sent = sent


class Messenger:
    """Messenger of one application."""

    def __init__(self, submission: MailSubmission | None) -> None:
        """Send by `submission`; without one, every message is refused."""
        self._submission = submission
        self._known: dict[str, tuple[Connection, ConnectionSecrets]] = {}
        self._experiments: dict[str, Experiment] = {}
        self._lock = Lock()
        self._unnoted: dict[str, None] = {}  # messages sent while the database was away
        self._unactivated: SimpleQueue[tuple[str, Actor]] = SimpleQueue()

    def answer(self, services: Services, kind: ConnectionKind, key: str) -> Response:
        """Answer Flask's current request.

        Raises:
            NotFound: there is no such connection of this kind.
            DeliveryRefused: it is not listmonk's, or cannot be read.
            MailRefused: the mail server will never take it.
            MailDeferred: the mail server does not take it now.
            Unsendable: no mail can be made of it.
        """
        connection = self._proved(services, kind, key)
        submission = self._submission
        if submission is None:
            raise MailDeferred("BANDITS_SMTP_URL is not set")
        try:
            postback = read_postback(request.get_data(cache=False))
        except RequestEntityTooLarge:
            raise DeliveryRefused(RefusalCause.TOO_LARGE, "the message is too large") from None
        for recipient in postback.recipients:
            self._send(services, submission, connection, postback, recipient)
        return Response('{"sent": true}\n', mimetype="application/json")

    def _proved(self, services: Services, kind: ConnectionKind, key: str) -> Connection:
        """Read the connection, as it was known last where the database is away, and prove."""
        at = services.engine.clock()
        try:
            self._known[key] = services.connections.open(key, at=at)
        except Unavailable:
            if key not in self._known:
                raise MailDeferred("the database is away") from None
        connection, secrets = self._known[key]
        if connection.kind != kind.name or not kind.messenger:
            raise NotFound("connection", key)
        if request.method != "POST":
            raise DeliveryRefused(RefusalCause.METHOD, "POST is taken")
        delivery = Delivery.of("POST", request.headers, b"")
        values = field_values(kind, connection, secrets, receiver().address(connection))
        context = ProofContext(datetime.fromtimestamp(at, UTC), receiver().certificates)
        try:
            kind.verify(delivery, values, context)
        except DeliveryRefused as error:
            receiver().rejections.note(services.connections, connection.id, str(error), at=at)
            raise
        return connection

    def _send(
        self,
        services: Services,
        submission: MailSubmission,
        connection: Connection,
        postback: Postback,
        recipient: Recipient,
    ) -> None:
        """Choose for a recipient and hand the mail over, unless that was done before."""
        message_id = postback.message_id(recipient)
        if message_id is not None and self._is_sent(services, message_id):
            return
        choice = self._choose(services, connection, postback, recipient)
        mail = make_mail(postback, recipient, subject=choice.subject, body=choice.body)
        subject_id = subject_id_of(connection, recipient.uuid, recipient.email, recipient.attribs)

        def note() -> None:
            if message_id is not None:
                self._note(services, connection, message_id, subject_id)

        try:
            submission.send(mail.sender, mail.recipient, mail.content, before_data=note)
        except SendingTwice as error:
            if error.sent:
                return
            raise MailDeferred(str(error)) from None
        except (MailRefused, MailDeferred):
            if message_id is not None:
                self._forget(services, message_id)
            raise
        self._confirm(services, message_id, choice, actor_of("connection", connection.key))

    def _choose(
        self,
        services: Services,
        connection: Connection,
        postback: Postback,
        recipient: Recipient,
    ) -> Choice:
        """Choose what a recipient gets; the control where nothing can be decided."""
        template = BlockTemplate.parse(postback.body)
        if template.broken:
            unclosed = ", ".join(sorted(template.broken))
            _log.warning("messenger %s: blocks of %s are not closed", connection.key, unclosed)
        key, decision_id = postback.experiment, postback.message_id(recipient)
        experiment = None if key is None else self._experiment(services, key)
        if experiment is None or decision_id is None:
            return Choice(postback.subject, template.render({}))
        slot = connection.fields.get("subject_slot", "subject_line")
        names = (s.key for s in experiment.slots)
        control = dict(zip(names, experiment.control_variants(), strict=True))
        if connection.paused:
            return _filled(experiment, control, slot, postback, template)
        able = _able(experiment, control, slot, template)
        request = Request(
            subject_id_of(connection, recipient.uuid, recipient.email, recipient.attribs),
            context_of(experiment, recipient.attribs),
            decision_id,
            _restriction(experiment, able),
        )
        actor = actor_of("connection", connection.key)
        try:
            slots = _decide(services, experiment.key, decision_id, request, actor)
        except BanditsError as error:
            _log.warning("messenger %s sends the control: %s", connection.key, error)
            return _filled(experiment, control, slot, postback, template)
        chosen = {name: choice["variant"] for name, choice in slots.items()}
        chosen = {n: v if v in able[n] else control[n] for n, v in chosen.items()}
        filled = _filled(experiment, chosen, slot, postback, template)
        waits = experiment.await_activation
        return Choice(filled.subject, filled.body, decision_id, activate=waits)

    def _experiment(self, services: Services, key: str) -> Experiment | None:
        """Read an experiment, as it was known last where the database is away."""
        try:
            record = services.engine.store.experiments.recent(key)
            self._experiments[key] = record.configuration.experiment
        except NotFound:
            _log.warning("messenger: a campaign has the tag bandits:%s, and there is none", key)
            return None
        except Unavailable as error:
            _log.warning("messenger: %s", error)
        return self._experiments.get(key)

    def _is_sent(self, services: Services, message_id: str) -> bool:
        """Tell whether a message is sent.

        Raises:
            MailDeferred: it is being sent just now.
        """
        if message_id in self._unnoted:
            return True
        try:
            state = services.connections.sent_messages.state(message_id, at=services.engine.clock())
        except Unavailable:
            return False
        if state == "sending":
            raise MailDeferred("the message is being sent")
        return state == "sent"

    def _note(
        self, services: Services, connection: Connection, message_id: str, subject_id: str
    ) -> None:
        """Note that a message is about to be sent; in memory where the database is away.

        Raises:
            SendingTwice: it is noted already.
        """
        at = services.engine.clock()
        try:
            sent = services.connections.sent_messages
            state = sent.begin(connection.id, message_id, subject_id, at=at)
        except Unavailable:
            with self._lock:
                if message_id in self._unnoted:
                    raise SendingTwice(sent=False) from None
                self._unnoted[message_id] = None
                while len(self._unnoted) > _MOST_UNNOTED:
                    del self._unnoted[next(iter(self._unnoted))]
            return
        if state is not None:
            raise SendingTwice(sent=state == "sent")

    def _forget(self, services: Services, message_id: str) -> None:
        """Note that a message was not sent."""
        with self._lock:
            self._unnoted.pop(message_id, None)
        try:
            services.connections.sent_messages.remove(message_id)
        except Unavailable as error:  # it counts as sent after a while
            _log.warning("messenger: cannot note that a message was not sent: %s", error)

    def _confirm(
        self, services: Services, message_id: str | None, choice: Choice, actor: Actor
    ) -> None:
        """Note that a message was sent, and that its decision's clock starts."""
        try:
            if message_id is not None and message_id not in self._unnoted:
                services.connections.sent_messages.confirm(message_id, at=services.engine.clock())
            if choice.activate and choice.decision_id is not None:
                services.engine.activate([choice.decision_id], actor=actor, own_only=True)
        except Unavailable as error:
            if choice.activate and choice.decision_id is not None:
                self._unactivated.put((choice.decision_id, actor))
            _log.warning("messenger: cannot note that a message was sent: %s", error)
        else:
            self._activate_waiting(services)

    def _activate_waiting(self, services: Services) -> None:
        """Start the clocks of what was sent while the database was away."""
        with suppress(Empty):
            while True:
                decision_id, actor = self._unactivated.get_nowait()
                try:
                    services.engine.activate([decision_id], actor=actor, own_only=True)
                except Unavailable:
                    self._unactivated.put((decision_id, actor))
                    return


def _decide(
    services: Services, experiment: str, decision_id: str, request: Request, actor: Actor
) -> Mapping[str, SlotChoice]:
    """Choose for a message; one that came before stays what it was, whatever its body says now.

    Raises:
        IdReused: the id is of another actor's decision, or of one in another experiment. Whoever
            sees a link of the email knows the id, and may have used it first.
    """
    engine = services.engine
    try:
        (decision,) = engine.choose(experiment, [request], actor=actor)
    except IdReused:
        slots = None
    else:
        if not decision.repeat:
            return decision.slots
        slots = decision.slots
    earlier = engine.store.log.decisions([decision_id]).get(decision_id)
    if earlier is not None and (earlier.experiment, earlier.actor) != (experiment, actor):
        raise IdReused("decision", decision_id)
    return engine.receipt(decision_id).slots if slots is None else slots


def _able(
    experiment: Experiment, control: Mapping[str, str], subject_slot: str, template: BlockTemplate
) -> dict[str, Collection[str]]:
    """Return by slot the variants that a message can show.

    The control may have no block: then it shows nothing. A slot without any block, or with one
    that is not closed, shows the control alone.
    """
    able: dict[str, Collection[str]] = {}
    for slot in experiment.slots:
        shown = {control[slot.key]}
        if slot.key == subject_slot:
            shown |= {v.key for v in slot.variants if _text(v.payload) is not None}
        elif slot.key not in template.broken:
            shown |= set(template.variants(slot.key))
        able[slot.key] = shown
    return able


def _restriction(
    experiment: Experiment, able: Mapping[str, Collection[str]]
) -> dict[str, list[str]] | None:
    """Return the variants that may be chosen, of the slots where not all may; None where all."""
    eligible = {}
    for slot in experiment.slots:
        variants = [variant.key for variant in slot.variants]
        kept = [variant for variant in variants if variant in able[slot.key]]
        if kept != variants:
            eligible[slot.key] = kept
    return eligible or None


def _filled(
    experiment: Experiment,
    chosen: Mapping[str, str],
    subject_slot: str,
    postback: Postback,
    template: BlockTemplate,
) -> Choice:
    """Return subject and body with the chosen variants.

    A variant without a text leaves the subject as it is.
    """
    subject = postback.subject
    for slot in experiment.slots:
        if slot.key == subject_slot:
            (payload,) = (v.payload for v in slot.variants if v.key == chosen[slot.key])
            subject = _text(payload) or subject
    return Choice(subject, template.render(chosen))


def _text(payload: Mapping[str, object]) -> str | None:
    """Return the text of a subject line; None where there is none that fits on a line."""
    text = payload.get("text")
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        return None
    return text


@messengers.route(PATH, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def receive_message(kind: str, connection: str) -> Response:
    """Answer a message."""
    messenger: Messenger = current_app.extensions[_MESSENGER]
    return messenger.answer(services(), connection_kind(kind), connection)


@messengers.errorhandler(Exception)
def _fail(error: Exception) -> Response:
    """Answer an error; listmonk counts each and repeats none, so that people look at its log."""
    headers: Mapping[str, str] = {}
    if isinstance(error, NotFound):
        status, text = 404, "there is no such connection"
    elif isinstance(error, DeliveryRefused):
        answer = connection_kind("listmonk").answer(error.cause)
        status, headers, text = answer.status, answer.headers, str(error)
    elif isinstance(error, MailRefused | Unsendable):
        status, text = _UNPROCESSABLE, str(error)
    elif isinstance(error, MailDeferred):
        status, headers, text = 503, {"Retry-After": "60"}, str(error)
    elif isinstance(error, HTTPException):
        status, text = error.code or 500, error.name
    else:
        _log.error("messenger failed", exc_info=error)
        status, text = 500, "internal error"
    return Response(f"{text}\n", status, dict(headers), mimetype="text/plain")


def init(app: Flask, settings: Settings) -> None:
    """Add the messengers to `app`."""
    submission = None
    if settings.smtp_url:
        submission = MailSubmission(parse_smtp_url(settings.smtp_url))
    app.extensions[_MESSENGER] = Messenger(submission)
    app.register_blueprint(messengers)

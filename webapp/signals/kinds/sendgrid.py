"""SendGrid (Twilio): batches of events, signed with an elliptic-curve key."""

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from webapp.signals.bounces import bounce_class
from webapp.signals.connection_kind import (
    ConnectionField,
    ConnectionKind,
    FieldValues,
    ProofContext,
)
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.json_fields import (
    decoded_list,
    event_id,
    loose_text,
    message_id_at,
    part_at,
    passed_ids,
    required_text,
    text_at,
    unix_time_at,
)
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import (
    BounceClass,
    EventIgnored,
    EventUnreadable,
    SignalBatch,
    SignalEvent,
    read_batch,
)

SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
_NAMES = {
    "delivered": "delivered",
    "open": "open",
    "click": "click",
    "unsubscribe": "unsubscribe",
    "group_unsubscribe": "unsubscribe",
    "spamreport": "complaint",
    "bounce": "bounce",
    "dropped": "bounce",
}
_IGNORED = {"processed", "deferred", "group_resubscribe"}
# What a bounce is classified as, or the reason of what was dropped before sending.
_CLASSES: dict[str, BounceClass] = {
    "Invalid Address": "address",
    "Mailbox Unavailable": "address",
    "Content": "content",
    "Bounced Address": "address",
    "Unsubscribed Address": "address",
    "Spam Reporting Address": "address",
    "Invalid": "address",
    "Spam Content": "content",
}
_BY_A_PERSON = {"open", "click", "unsubscribe"}  # other events' `ip` is SendGrid's own


def _public_key(text: str) -> EllipticCurvePublicKey | None:
    """Read a verification key: base64 of a DER SubjectPublicKeyInfo; None if it is none."""
    try:
        key = load_der_public_key(b64decode(text, validate=True))
    except ValueError:
        return None
    return key if isinstance(key, EllipticCurvePublicKey) else None


def _key_fault(text: str) -> str | None:
    if _public_key(text) is None:
        return "is not a verification key: SendGrid shows one that begins with MFkw"
    return None


def _verify(delivery: Delivery, values: FieldValues, _: ProofContext) -> None:
    """Check the signature, ECDSA with SHA-256 over the timestamp's header and the raw body."""
    signature, timestamp = delivery.headers.get(SIGNATURE), delivery.headers.get(TIMESTAMP)
    if not signature or not timestamp:
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_MISSING,
            "turn on Signed Event Webhook at SendGrid: the delivery has no signature",
        )
    signed = timestamp.encode("utf-8", "replace") + delivery.body
    for text in values["verification_key"]:
        key = _public_key(text)
        try:
            if key is not None:
                key.verify(b64decode(signature, validate=True), signed, ECDSA(SHA256()))
                return
        except (InvalidSignature, ValueError):
            continue
    raise DeliveryRefused(
        RefusalCause.SIGNATURE_WRONG, "the delivery is not signed by the verification key"
    )


def _parse(delivery: Delivery) -> SignalBatch:
    return read_batch(decoded_list(delivery.body), _events, _alone)


def _alone(item: Any) -> Delivery:
    return Delivery("POST", {}, msgspec.json.encode([item]))


def _events(item: Any) -> Iterator[SignalEvent]:
    sent_name = required_text(item, "event")
    if sent_name in _IGNORED or (sent_name, part_at(item, "type")) == ("bounce", "blocked"):
        raise EventIgnored(sent_name)
    if sent_name not in _NAMES:
        raise EventUnreadable(f"unknown event {sent_name!r}")
    name = _NAMES[sent_name]
    machine = name == "open" and part_at(item, "sg_machine_open") is True
    message_id = message_id_at(item, "sg_message_id")
    occurred_at = unix_time_at(item, "timestamp")
    recipient = text_at(item, "email")
    link = loose_text(item, "url") if name == "click" else None
    own_id = text_at(item, "sg_event_id")
    identity = (
        (own_id, sent_name)  # one id may stand for two events of different names
        if own_id
        else (message_id, sent_name, recipient, part_at(item, "timestamp"), link)
    )
    yield SignalEvent(
        name="machine_open" if machine else name,
        event_id=event_id("sendgrid", *identity),
        occurred_at=occurred_at,
        decision_ids=passed_ids(item),
        message_id=message_id.partition(".")[0] if message_id else message_id_at(item, "smtp-id"),
        recipient=recipient,
        link=link,
        agent=loose_text(item, "useragent"),
        network_address=loose_text(item, "ip") if name in _BY_A_PERSON else None,
        machine=machine,
        bounce=_bounce_class(item) if name == "bounce" else None,
    )


def _bounce_class(item: Any) -> BounceClass | None:
    classified = part_at(item, "bounce_classification")
    reason = part_at(item, "reason")
    for text in (classified, reason):
        if isinstance(text, str) and text in _CLASSES:
            return _CLASSES[text]
    return bounce_class(part_at(item, "status"), reason)


_SAMPLE = """\
httpx.post(
    "https://api.sendgrid.com/v3/mail/send",
    headers={"Authorization": f"Bearer {os.environ['SENDGRID_API_KEY']}"},
    json={
        "personalizations": [{"to": [{"email": "ida@shop.example"}], "custom_args": passed}],
        "from": {"email": "news@shop.example"},
        "subject": subject,
        "content": [{"type": "text/html", "value": html}],
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="sendgrid",
    label="SendGrid",
    purpose="Events of emails that Twilio SendGrid sends for you.",
    fields=(
        ConnectionField(
            name="verification_key",
            label="Verification key",
            help="SendGrid shows it once Signed Event Webhook is on; it begins with MFkw.",
            fault=_key_fault,
        ),
    ),
    steps=(
        (
            "In SendGrid, open Settings, Mail Settings, Event Webhooks, and create a webhook with"
            " `{address}` as Post URL."
        ),
        (
            "Tick Delivered, Opened, Clicked, Bounced, Dropped, Spam Reports, Unsubscribed and"
            " Group Unsubscribes."
        ),
        ("Turn on Signed Event Webhook, save, and copy the verification key into the connection."),
    ),
    passing=(
        'Send each email with the custom argument `bandits_decision`: `"custom_args":'
        ' {"bandits_decision": "…"}`. An email of several campaigns has `bandits_1`, `bandits_2`'
        " and so on."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "SendGrid puts custom arguments beside its own fields, and its own win. So keep to the"
            " names `bandits_decision` and `bandits_1`."
        ),
        (
            "One event id of SendGrid's may stand for two events of different names. Both count"
            " here."
        ),
        (
            "SendGrid sends its test event without a decision. It is verified and counts for"
            " nothing."
        ),
        (
            "`sg_machine_open` marks Apple's prefetched opens only. Scanners still click; [how"
            " they are set aside](../machines.md)."
        ),
    ),
    proof=(
        "SendGrid signs the timestamp and the raw body with its own key (ECDSA). Old signatures"
        " are accepted, because SendGrid retries for a day."
    ),
    retries="SendGrid retries for 24 hours, at growing intervals, until it gets a 2xx answer.",
    names={
        **_NAMES,
        "open with `sg_machine_open`": "machine_open",
        **dict.fromkeys(sorted(_IGNORED), ""),
        "bounce of the type `blocked`": "",
    },
    verify=_verify,
    proof_headers=(SIGNATURE,),
    parse=_parse,
)

"""Resend: one event a delivery, signed as Standard Webhooks are."""

from collections.abc import Iterator, Mapping
from email.utils import parseaddr
from typing import Any

from webapp.signals.bounces import bounce_class
from webapp.signals.connection_kind import ConnectionField, ConnectionKind
from webapp.signals.delivery import Delivery
from webapp.signals.json_fields import (
    event_id,
    iso_time_at,
    loose_text,
    message_id_at,
    part_at,
    passed_ids,
    required_text,
    text_at,
)
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import (
    BounceClass,
    EventIgnored,
    EventUnreadable,
    SignalBatch,
    SignalEvent,
)
from webapp.signals.standard_signature import (
    PROOF,
    SIGNATURE_HEADERS,
    TOLERANCE,
    read_alone,
    secret_fault,
    verify_standard_signature,
)

_NAMES = {
    "email.delivered": "delivered",
    "email.opened": "open",
    "email.clicked": "click",
    "contact.updated": "unsubscribe",
    "email.complained": "complaint",
    "email.bounced": "bounce",
    "email.suppressed": "bounce",
    "email.failed": "bounce",
}
_IGNORED = {
    "contact.created",
    "contact.deleted",
    "domain.created",
    "domain.deleted",
    "domain.updated",
    "email.delivery_delayed",
    "email.received",
    "email.scheduled",
    "email.sent",
}
_TEMPORARY = {"Transient", "Undetermined"}
_CLASSES: dict[str, BounceClass] = {
    "NoEmail": "address",
    "Suppressed": "address",
    "OnAccountSuppressionList": "address",
    "ContentRejected": "content",
    "AttachmentRejected": "content",
    "MessageTooLarge": "content",
}


def _parse(delivery: Delivery) -> SignalBatch:
    return read_alone(delivery, _events)


def _events(own_id: str | None, item: Any) -> Iterator[SignalEvent]:
    sent_name = required_text(item, "type")
    data = part_at(item, "data")
    if sent_name in _IGNORED or _is_nothing(sent_name, data):
        raise EventIgnored(sent_name)
    if sent_name not in _NAMES:
        raise EventUnreadable(f"unknown event {sent_name!r}")
    name = _NAMES[sent_name]
    message_id = message_id_at(data, "email_id")
    recipient = _recipient(data)
    identity = (
        (own_id,) if own_id else (message_id, sent_name, recipient, text_at(item, "created_at"))
    )
    click = part_at(data, "click")
    yield SignalEvent(
        name=name,
        event_id=event_id("resend", *identity),
        # The inner created_at is when the email was sent.
        occurred_at=iso_time_at(click, "timestamp") or iso_time_at(item, "created_at"),
        decision_ids=passed_ids(_tags(data)),
        message_id=message_id,
        recipient=recipient,
        link=loose_text(click, "link"),
        agent=loose_text(click, "userAgent"),
        network_address=loose_text(click, "ipAddress"),
        bounce=_bounce_class(sent_name, data) if name == "bounce" else None,
    )


def _is_nothing(sent_name: str, data: Any) -> bool:
    """Return True for a bounce that is not for good, and a contact who still subscribes."""
    if sent_name == "email.bounced":
        kind = part_at(data, "bounce", "type")
        return isinstance(kind, str) and kind in _TEMPORARY
    return sent_name == "contact.updated" and part_at(data, "unsubscribed") is not True


def _recipient(data: Any) -> str | None:
    """Return whose event it is; None where the email went to several."""
    addresses = part_at(data, "to")
    if isinstance(addresses, list):
        only = text_at({"to": addresses[0]}, "to") if len(addresses) == 1 else None
        return parseaddr(only)[1] or None if only else None
    return text_at(data, "email")


def _tags(data: Any) -> Mapping[str, Any]:
    """Return the tags by name, of a mapping or of a list of names and values."""
    tags = part_at(data, "tags")
    if isinstance(tags, dict):
        return tags
    entries = tags if isinstance(tags, list) else []
    return {str(part_at(tag, "name")): part_at(tag, "value") for tag in entries}


def _bounce_class(sent_name: str, data: Any) -> BounceClass | None:
    if sent_name == "email.suppressed":
        return "address"
    kind = part_at(data, "bounce", "subType")
    if isinstance(kind, str) and kind in _CLASSES:
        return _CLASSES[kind]
    return bounce_class(part_at(data, "bounce", "message"))


_SAMPLE = """\
httpx.post(
    "https://api.resend.com/emails",
    headers={"Authorization": f"Bearer {os.environ['RESEND_API_KEY']}"},
    json={
        "from": "news@shop.example",
        "to": ["ida@shop.example"],
        "subject": subject,
        "html": html,
        "tags": [{"name": name, "value": value} for name, value in passed.items()],
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="resend",
    label="Resend",
    purpose="Events of emails that Resend sends for you.",
    fields=(
        ConnectionField(
            name="signing_secret",
            label="Signing secret",
            help="Resend shows it on the webhook's page; it begins with whsec_.",
            fault=secret_fault,
        ),
    ),
    steps=(
        "In Resend, open Webhooks, and add a webhook with `{address}` as endpoint URL.",
        (
            "Choose the events email.delivered, email.opened, email.clicked, email.bounced,"
            " email.complained, email.failed, email.suppressed and contact.updated."
        ),
        "Copy the signing secret into the connection.",
    ),
    passing=(
        'Send each email with the tag `bandits_decision`: `"tags": [{"name": "bandits_decision",'
        ' "value": "…"}]`. An email of several campaigns has `bandits_1`, `bandits_2` and so on.'
        " Resend allows only letters, digits, `_` and `-` in a tag, so an id of your own must keep"
        " to them."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        "Opens and clicks are tracked for domains where that is turned on. It is off at first.",
        ("A signature older than five minutes is refused, so this server's clock has to be right."),
        (
            "An unsubscription is of a contact and names no email. It is matched by the recipient,"
            " where a campaign counts such events."
        ),
    ),
    proof=PROOF,
    retries=(
        "Resend retries after 5 seconds, 5 and 30 minutes and 2, 5, 10 and 10 hours, until it"
        " gets a 2xx answer. Each retry has a new signature."
    ),
    limits=(
        "Machine opens cannot be recognised, because Resend reports neither agent nor network"
        " address of an open. Send each email to one recipient; with several, Resend does not say"
        " whose event it is."
    ),
    names={
        **{name: ours for name, ours in _NAMES.items() if name != "contact.updated"},
        "email.bounced of the type Transient or Undetermined": "",
        "contact.updated, `unsubscribed` true": "unsubscribe",
        **dict.fromkeys(sorted(_IGNORED), ""),
    },
    verify=verify_standard_signature,
    proof_headers=SIGNATURE_HEADERS,
    parse=_parse,
    oldest=TOLERANCE,
)

"""Mailgun: one event a delivery, with a signature of its own in the body."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from hmac import digest
from typing import Any

from webapp.signals.bounces import bounce_class
from webapp.signals.comparison import is_one_of
from webapp.signals.connection_kind import (
    ConnectionField,
    ConnectionKind,
    FieldValues,
    ProofContext,
)
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.json_fields import (
    decoded_object,
    event_id,
    loose_text,
    message_id_at,
    number_of,
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

NEVER_AGAIN = 406  # every other refusal makes Mailgun come again
# The body is not signed, so who saw one signature could put any event beside it. Retries end after
# eight hours.
OLDEST = timedelta(days=1)
_NAMES = {
    "delivered": "delivered",
    "opened": "open",
    "clicked": "click",
    "unsubscribed": "unsubscribe",
    "complained": "complaint",
    "failed": "bounce",
}
_IGNORED = {"accepted"}


def _verify(delivery: Delivery, values: FieldValues, context: ProofContext) -> None:
    """Check the HMAC-SHA256 over timestamp and token; a subaccount's parent signs beside it."""
    block = part_at(decoded_object(delivery.body), "signature")
    timestamp, token = part_at(block, "timestamp"), part_at(block, "token")
    signatures = [part_at(block, name) for name in ("signature", "parent-signature")]
    actual = [text.lower() for text in signatures if isinstance(text, str)]
    if not isinstance(timestamp, str) or not isinstance(token, str) or not actual:
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_MISSING, "the body has no signature with timestamp and token"
        )
    signed = f"{timestamp}{token}".encode("utf-8", "replace")
    expected = [digest(k.encode(), signed, sha256).hex().encode() for k in values["signing_key"]]
    if not any(is_one_of(one, expected) for one in actual):
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_WRONG, "the delivery is not signed by the webhook signing key"
        )
    if abs(context.now.timestamp() - (number_of(timestamp) or 0)) > OLDEST.total_seconds():
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_STALE, "the delivery was signed more than a day ago"
        )


def _parse(delivery: Delivery) -> SignalBatch:
    item = part_at(decoded_object(delivery.body), "event-data")
    return read_batch([item], _events, lambda _: Delivery("POST", {}, delivery.body))


def _events(item: Any) -> Iterator[SignalEvent]:
    sent_name = required_text(item, "event")
    if sent_name in _IGNORED or _is_temporary(item):
        raise EventIgnored(sent_name)
    if sent_name not in _NAMES:
        raise EventUnreadable(f"unknown event {sent_name!r}")
    name = _NAMES[sent_name]
    yield SignalEvent(
        name=name,
        # Its own id is unique within a day only.
        event_id=event_id(
            "mailgun", text_at(item, "id"), sent_name, number_of(part_at(item, "timestamp"))
        ),
        occurred_at=unix_time_at(item, "timestamp"),
        decision_ids=passed_ids(part_at(item, "user-variables")),
        message_id=message_id_at(item, "message", "headers", "message-id"),
        recipient=text_at(item, "recipient"),
        link=loose_text(item, "url"),
        agent=loose_text(item, "client-info", "user-agent"),
        network_address=loose_text(item, "ip"),
        bounce=_bounce_class(item) if name == "bounce" else None,
    )


def _is_temporary(item: Any) -> bool:
    return bool(part_at(item, "event") == "failed" and part_at(item, "severity") != "permanent")


def _bounce_class(item: Any) -> BounceClass | None:
    reason = part_at(item, "reason")
    if isinstance(reason, str) and reason.startswith("suppress-"):
        return "address"
    status = part_at(item, "delivery-status")
    return bounce_class(part_at(status, "enhanced-code"), part_at(status, "message"))


_SAMPLE = """\
httpx.post(
    "https://api.mailgun.net/v3/shop.example/messages",
    auth=("api", os.environ["MAILGUN_API_KEY"]),
    data={
        "from": "news@shop.example",
        "to": "ida@shop.example",
        "subject": subject,
        "html": html,
        "o:tracking": "yes",
        **{f"v:{name}": value for name, value in passed.items()},
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="mailgun",
    label="Mailgun",
    purpose="Events of emails that Mailgun sends for you.",
    fields=(
        ConnectionField(
            name="signing_key",
            label="HTTP webhook signing key",
            help="Mailgun shows it under API security; it is not an API key.",
        ),
    ),
    steps=(
        (
            "In Mailgun, open API security, and copy the HTTP webhook signing key into the"
            " connection."
        ),
        ("Open Sending, Webhooks, choose your domain, and add a webhook with `{address}` as URL."),
        (
            "Add it for Delivered messages, Opens, Clicks, Unsubscribes, Spam complaints and"
            " Permanent failure."
        ),
    ),
    passing=(
        "Send each email with the variable `v:bandits_decision`. An email of several campaigns"
        " has `v:bandits_1`, `v:bandits_2` and so on."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "The signing key is one for the whole account and is no API key. If you renew it at"
            " Mailgun, rotate the connection's at once."
        ),
        (
            "Mailgun does not sign the event itself, only a token. Keep the connection's address"
            " to yourself."
        ),
        "Accounts in the EU call `api.eu.mailgun.net`. Webhooks are set for each domain.",
    ),
    proof=(
        "Mailgun signs a timestamp and a token (HMAC), but not the event itself. So signatures"
        " older than a day are refused; Mailgun's own retries end before that."
    ),
    retries=(
        "Mailgun retries after 5, 10 and 15 minutes and 1, 2 and 4 hours, until it gets 200."
        " After 406 it never retries: that is the answer to a body that cannot be read."
    ),
    limits=(
        "Form posts of Mailgun's old webhooks (before 2018) are not supported. Machine opens are"
        " not marked."
    ),
    names={
        **{name: ours for name, ours in _NAMES.items() if name != "failed"},
        "failed, `severity` permanent": "bounce",
        "failed, `severity` temporary": "",
        **dict.fromkeys(sorted(_IGNORED), ""),
    },
    verify=_verify,
    parse=_parse,
    oldest=OLDEST,
    max_body_bytes=256 * 1024,
    statuses={
        RefusalCause.UNREADABLE: NEVER_AGAIN,
        RefusalCause.TOO_LARGE: NEVER_AGAIN,
        RefusalCause.MEDIA_TYPE: NEVER_AGAIN,
        RefusalCause.SIGNATURE_STALE: NEVER_AGAIN,
    },
)

"""Brevo: single events or batches, proved by a password; one wrong answer loses them."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from webapp.signals.bounces import bounce_class
from webapp.signals.connection_kind import ConnectionKind
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.json_fields import (
    decoded,
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
from webapp.signals.password_proof import PASSWORD_FIELDS, PROOF, verify_password
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import (
    BounceClass,
    EventIgnored,
    EventUnreadable,
    SignalBatch,
    SignalEvent,
    read_batch,
)

COME_AGAIN = 429  # Brevo discards an event for good after any other answer of 4xx or 5xx
_NAMES = {
    "delivered": "delivered",
    "opened": "open",
    "unique_opened": "open",
    "proxy_open": "machine_open",
    "unique_proxy_open": "machine_open",
    "click": "click",
    "unsubscribe": "unsubscribe",
    "unsubscribed": "unsubscribe",
    "spam": "complaint",
    "complaint": "complaint",
    "hard_bounce": "bounce",
    "invalid_email": "bounce",
    "blocked": "bounce",
}
_IGNORED = {"request", "sent", "deferred", "soft_bounce", "error", "list_addition"}
_OF_THE_ADDRESS = {"invalid_email", "blocked"}
_TIMES = ("ts_epoch", "s_epoch", "ts_event", "ts")  # the first two are UTC for certain
_MILLISECONDS_FROM = 1e11  # as seconds that is the year 5138; ts_epoch is in either
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _parse(delivery: Delivery) -> SignalBatch:
    body = decoded(delivery.body)
    if not isinstance(body, dict | list):
        raise DeliveryRefused(RefusalCause.UNREADABLE, "the body is no JSON object or array")
    return read_batch(body if isinstance(body, list) else [body], _events, _alone)


def _alone(item: Any) -> Delivery:
    return Delivery("POST", {}, msgspec.json.encode([item]))


def _events(item: Any) -> Iterator[SignalEvent]:
    sent_name = required_text(item, "event")
    if sent_name in _IGNORED:
        raise EventIgnored(sent_name)
    if sent_name not in _NAMES:
        raise EventUnreadable(f"unknown event {sent_name!r}")
    name = _NAMES[sent_name]
    message_id = message_id_at(item, "message-id")
    recipient = text_at(item, "email")
    link = loose_text(item, "link")
    occurred_at = _time(item)
    time = None if occurred_at is None else occurred_at.timestamp()
    yield SignalEvent(
        name=name,
        event_id=event_id("brevo", message_id, sent_name, recipient, time, link),
        occurred_at=occurred_at,
        decision_ids=_passed_ids(text_at(item, "X-Mailin-custom")),
        message_id=message_id,
        recipient=recipient,
        link=link,
        agent=loose_text(item, "user_agent"),
        machine=name == "machine_open",
        bounce=_bounce_class(sent_name, item) if name == "bounce" else None,
    )


def _time(item: Any) -> datetime | None:
    """Return the time, by the first field that holds one: in seconds, or in milliseconds."""
    for field in _TIMES:
        if (number := number_of(part_at(item, field))) is not None:
            return unix_time_at(item, field, milliseconds=number >= _MILLISECONDS_FROM)
    return None


def _passed_ids(custom: str | None) -> tuple[str, ...]:
    """Return the decisions of the one text that passes through Brevo.

    It is an id of ours; or ``bandits_1:ID|bandits_2:ID``, as Brevo advises for several values; or a
    JSON object. Any other text is the sender's own and names none.
    """
    if custom is None:
        return ()
    if _UUID.fullmatch(custom):
        return (custom,)
    if custom.startswith("{"):
        try:
            return passed_ids(decoded_object(custom))
        except DeliveryRefused:
            return ()
    pairs = (part.partition(":") for part in custom.split("|"))
    return passed_ids({name.strip(): value.strip() for name, _colon, value in pairs})


def _bounce_class(sent_name: str, item: Any) -> BounceClass | None:
    if sent_name in _OF_THE_ADDRESS:
        return "address"
    return bounce_class(part_at(item, "reason"))


_SAMPLE = """\
httpx.post(
    "https://api.brevo.com/v3/smtp/email",
    headers={"api-key": os.environ["BREVO_API_KEY"]},
    json={
        "sender": {"email": "news@shop.example"},
        "to": [{"email": "ida@shop.example"}],
        "subject": subject,
        "htmlContent": html,
        "headers": {"X-Mailin-custom": passed.get("bandits_decision", "")},
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="brevo",
    label="Brevo",
    purpose="Events of transactional emails that Brevo sends for you.",
    fields=PASSWORD_FIELDS,
    steps=(
        (
            "In Brevo, open Transactional, Settings, Webhook, and add a webhook with `{address}`"
            " as URL."
        ),
        (
            "As authentication, choose basic with the connection's user name and password, or"
            " token with the password alone."
        ),
        (
            "Tick Delivered, Opened, First opening, Proxy open, Unique proxy open, Clicked,"
            " Unsubscribed, Complaint, Hard bounce, Invalid email and Blocked."
        ),
    ),
    passing=(
        "Send each email with the header `X-Mailin-custom`, and the decision's id as its value."
        " An email of several campaigns has `bandits_1:…|bandits_2:…` there. Write an id of your"
        " own as `bandits_decision:…`."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "A wrong password loses events: Brevo drops an event for good after 401, as after any"
            " error but 429."
        ),
        (
            "Brevo's campaigns have webhooks of their own, which know no `X-Mailin-custom`. This"
            " connection is for transactional emails."
        ),
        "Times by the account's clock may be off by hours, so only `ts_epoch` is read.",
    ),
    proof=PROOF,
    retries=(
        "Brevo retries after 10 minutes and 1, 2 and 8 hours, but only after 429 or no answer."
        " After any other error it drops the event for good. So change the password here first,"
        " and at Brevo while the old one is still accepted."
    ),
    limits="Brevo does not report the network address of an open or a click.",
    names={**_NAMES, **dict.fromkeys(sorted(_IGNORED), "")},
    verify=verify_password,
    parse=_parse,
    statuses={RefusalCause.UNAVAILABLE: COME_AGAIN},
    retry_after_seconds=600,
    password=True,
)

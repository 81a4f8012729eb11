"""Standard Webhooks: events that a shop, or anything of one's own, signs and sends."""

from collections.abc import Iterator
from typing import Any

import msgspec

from bandits.identifiers import Key
from bandits.rewards import LISTED_EVENTS
from webapp.signals.connection_kind import ConnectionField, ConnectionKind
from webapp.signals.delivery import Delivery
from webapp.signals.json_fields import (
    any_time_at,
    event_id,
    loose_text,
    message_id_at,
    number_of,
    part_at,
    passed_ids,
    required_text,
    text_at,
)
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import EventUnreadable, SignalBatch, SignalEvent
from webapp.signals.standard_signature import (
    PROOF,
    SECRET_PREFIX,
    SIGNATURE_HEADERS,
    TOLERANCE,
    read_alone,
    secret_fault,
    verify_standard_signature,
)

_NAME = "standard_webhooks"


def _parse(delivery: Delivery) -> SignalBatch:
    return read_alone(delivery, _events)


def _events(own_id: str | None, item: Any) -> Iterator[SignalEvent]:
    name = required_text(item, "type")
    try:
        msgspec.convert(name, Key)
    except msgspec.ValidationError:
        raise EventUnreadable("type is not the name of an event or metric") from None
    data = part_at(item, "data")
    if not isinstance(data, dict):
        raise EventUnreadable("data is not an object")
    sent_value = data.get("value", 1.0)
    value = None if isinstance(sent_value, str) else number_of(sent_value)
    if value is None:
        raise EventUnreadable("data.value is not a number")
    subject_id, message_id = text_at(data, "subject_id"), message_id_at(data, "message_id")
    decision_ids = passed_ids(data)
    sent_time = part_at(item, "timestamp")
    stamp = repr(sent_time) if isinstance(sent_time, float) else text_at(item, "timestamp")
    identity = (own_id,) if own_id else (name, stamp, subject_id, message_id, *decision_ids, value)
    as_of = any_time_at(data, "as_of")
    if as_of is not None and not own_id:
        identity = (*identity, as_of.isoformat())
    original_id = text_at(data, "original_id")
    yield SignalEvent(
        name=name,
        event_id=event_id(_NAME, *identity),
        occurred_at=any_time_at(item, "timestamp"),
        decision_ids=decision_ids,
        message_id=message_id,
        recipient=text_at(data, "email"),
        subject_id=subject_id,
        value=value,
        link=loose_text(data, "url"),
        original_event_id=None if original_id is None else event_id(_NAME, original_id),
        as_of=as_of,
    )


_IMPORTS = """\
import json
import os
import time
from base64 import b64decode, b64encode
from hashlib import sha256
from hmac import digest

import httpx
"""
_SAMPLE = """\
decision_id = passed.get("bandits_decision", "")
link = f"https://shop.example/?bandits_decision={decision_id}"  # in the email

# In the shop, once the order is paid; it kept the id that came with the visit.
event = {
    "type": "order",
    "timestamp": time.time(),
    "data": {"bandits_decision": link.partition("bandits_decision=")[2], "value": 49.9},
}
body, own_id, at = json.dumps(event).encode(), "order-1001", str(int(time.time()))
key = b64decode(os.environ["SHOP_SIGNING_SECRET"].removeprefix("whsec_"))
signature = digest(key, f"{own_id}.{at}.".encode() + body, sha256)
httpx.post(
    "https://bandits.example/webhooks/standard_webhooks/newsletter",
    content=body,
    headers={
        "Content-Type": "application/json",
        "webhook-id": own_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{b64encode(signature).decode()}",
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name=_NAME,
    label="Shop or own system (Standard Webhooks)",
    purpose=(
        "Orders, refunds and other events from your shop or your own program, signed as Standard"
        " Webhooks (standardwebhooks.com)."
    ),
    fields=(
        ConnectionField(
            name="signing_secret",
            label="Signing secret",
            help="The secret that the sender signs with.",
            generated=True,
            prefix=SECRET_PREFIX,
            fault=secret_fault,
        ),
    ),
    steps=(
        (
            "Leave the signing secret empty, and copy the one that is shown into your shop or"
            " program; or put in the one that it shows."
        ),
        (
            'Let it POST each event to `{address}`, as JSON: `{"type": "order", "timestamp":'
            ' "2027-03-01T09:30:00Z", "data": {"bandits_decision": "…", "value": 49.9}}`.'
            " A `timestamp` may also be a number of seconds, or of milliseconds, since 1970."
        ),
        (
            "Sign it by a library of Standard Webhooks: headers `webhook-id`, the same whenever"
            " an event is sent again, `webhook-timestamp` and `webhook-signature`."
        ),
    ),
    passing=(
        "`data.bandits_decision` is the decision's id. An event of an email of several campaigns"
        " has `data.bandits_1`, `data.bandits_2` and so on. `data.value` is the amount of an order"
        " or refund, 1 if missing. `data.message_id`, `data.subject_id`, `data.email` and"
        " `data.url` are optional. Where your shop knows the customer alone, send `data.subject_id`"
        " and `timestamp`, and let a campaign count such orders. `data.original_id` of a refund is"
        " the `webhook-id` of its order. `data.as_of`, a time like `timestamp`, says since when"
        " `data.value` holds; metrics that count their latest value need it."
    ),
    sample=SendSample(_SAMPLE, imports=_IMPORTS),
    traps=(
        (
            "`webhook-id` names the event. A second order with the same id is taken for the first,"
            " and does not count."
        ),
        (
            "Sign the very bytes that you send. JSON that is written anew for the signature may"
            " differ."
        ),
        "A signature older than five minutes is refused, so both clocks have to be right.",
    ),
    proof=PROOF,
    retries=(
        "The sender should retry until it gets a 2xx answer, with a new signature and the same"
        " `webhook-id`."
    ),
    names={**{name: name for name in LISTED_EVENTS}, "a metric of the campaign": "that metric"},
    verify=verify_standard_signature,
    proof_headers=SIGNATURE_HEADERS,
    parse=_parse,
    oldest=TOLERANCE,
)

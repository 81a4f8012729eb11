"""SparkPost: batches of events, proved by a password."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from webapp.signals.connection_kind import ConnectionKind
from webapp.signals.delivery import Delivery
from webapp.signals.json_fields import (
    decoded_list,
    event_id,
    iso_time_at,
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

_NAMES = {
    "delivery": "delivered",
    "open": "open",
    "initial_open": "open",
    "amp_open": "open",
    "amp_initial_open": "open",
    "click": "click",
    "amp_click": "click",
    "list_unsubscribe": "unsubscribe",
    "link_unsubscribe": "unsubscribe",
    "spam_complaint": "complaint",
    "bounce": "bounce",
    "out_of_band": "bounce",
    "policy_rejection": "bounce",
    "generation_rejection": "bounce",
    "generation_failure": "bounce",
}
_IGNORED = {"injection", "delay"}
_CLASSIFIED = {"bounce", "out_of_band"}
# Bounce classes of SparkPost that are for good; all others may be delivered yet, or are no bounce.
_CLASSES: dict[str, BounceClass] = {
    "10": "address",  # invalid recipient
    "30": "address",  # no such recipient
    "51": "content",  # spam block
    "52": "content",  # spam content
    "53": "content",  # prohibited attachment
}
_UNSUBSCRIBE_CLASS = "90"


def _parse(delivery: Delivery) -> SignalBatch:
    return read_batch(decoded_list(delivery.body), _events, _alone)


def _alone(item: Any) -> Delivery:
    return Delivery("POST", {}, msgspec.json.encode([item]))


def _events(item: Any) -> Iterator[SignalEvent]:
    envelope = part_at(item, "msys")
    if envelope == {}:
        raise EventIgnored("ping")
    inner = next(iter(envelope.values())) if isinstance(envelope, dict) else None
    sent_name = required_text(inner, "type")
    name = _name(sent_name, inner)
    email_id = text_at(inner, "message_id")
    recipient = text_at(inner, "raw_rcpt_to") or text_at(inner, "rcpt_to")
    transmission_id = message_id_at(inner, "transmission_id")
    link = loose_text(inner, "target_link_url")
    own_id = text_at(inner, "event_id")
    identity: tuple[str | float | None, ...]
    if name == "open" and email_id:
        # An email has a pixel at its top and one at its end, each with events of its own.
        identity = (name, email_id, recipient)
    elif own_id:
        identity = (own_id,)
    else:
        time = number_of(part_at(inner, "timestamp"))
        identity = (transmission_id, email_id, sent_name, recipient, time, link)
    yield SignalEvent(
        name=name,
        event_id=event_id("sparkpost", *identity),
        occurred_at=_time(inner),
        decision_ids=passed_ids(part_at(inner, "rcpt_meta")),
        message_id=transmission_id,
        recipient=recipient,
        link=link,
        agent=loose_text(inner, "user_agent"),
        network_address=loose_text(inner, "ip_address"),
        bounce=_bounce_class(sent_name, inner) if name == "bounce" else None,
    )


def _name(sent_name: str, inner: Any) -> str:
    """Return our name of an event."""
    if sent_name in _IGNORED:
        raise EventIgnored(sent_name)
    if sent_name not in _NAMES:
        raise EventUnreadable(f"unknown event {sent_name!r}")
    if sent_name in _CLASSIFIED:
        number = text_at(inner, "bounce_class")
        if number == _UNSUBSCRIBE_CLASS:
            return "unsubscribe"
        if number not in _CLASSES:
            raise EventIgnored(f"{sent_name} of class {number}")
    return _NAMES[sent_name]


def _time(inner: Any) -> datetime | None:
    """Return the time, in seconds since 1970 as SparkPost mostly writes it, else in ISO 8601."""
    if number_of(part_at(inner, "timestamp")) is not None:
        return unix_time_at(inner, "timestamp")
    return iso_time_at(inner, "timestamp")


def _bounce_class(sent_name: str, inner: Any) -> BounceClass | None:
    if sent_name == "generation_failure":  # its template failed
        return "content"
    return _CLASSES.get(str(part_at(inner, "bounce_class")))


_SAMPLE = """\
httpx.post(
    "https://api.sparkpost.com/api/v1/transmissions",
    headers={"Authorization": os.environ["SPARKPOST_API_KEY"]},
    json={
        "recipients": [{"address": {"email": "ida@shop.example"}, "metadata": passed}],
        "content": {"from": "news@shop.example", "subject": subject, "html": html},
        "options": {"open_tracking": True, "click_tracking": True},
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="sparkpost",
    label="SparkPost",
    purpose="Events of emails that SparkPost sends for you.",
    fields=PASSWORD_FIELDS,
    steps=(
        (
            "In SparkPost, open Configuration, Webhooks, and create a webhook with `{address}` as"
            " target."
        ),
        "Choose basic authentication, and put in the connection's user name and password.",
        (
            "Select Delivery, Bounce, Out of Band, Spam Complaint, Policy Rejection, Generation"
            " Failure, Generation Rejection, Open, Click, List Unsubscribe and Link Unsubscribe."
        ),
    ),
    passing=(
        'Send each recipient with the metadata `bandits_decision`: `"metadata":'
        ' {"bandits_decision": "…"}`. An email of several campaigns has `bandits_1`, `bandits_2`'
        " and so on."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "Metadata of the whole transmission reaches the event too, but is the same for"
            " everybody: put the id at the recipient."
        ),
        "SparkPost delivers to the ports 80 and 443 only.",
        (
            "As it creates the webhook, SparkPost sends an empty test, which is answered 200 once"
            " the password is right."
        ),
    ),
    proof=PROOF,
    retries="SparkPost retries for 8 hours until it gets 200. It waits 10 seconds for each answer.",
    limits=(
        "Only the first open of an email counts, because SparkPost reports two pixels for each"
        " open. Machine opens are not marked."
    ),
    names={
        **{name: ours for name, ours in _NAMES.items() if name not in _CLASSIFIED},
        "bounce or out_of_band of the classes 10, 30, 51, 52, 53": "bounce",
        "bounce or out_of_band of the class 90": "unsubscribe",
        "bounce or out_of_band of another class": "",
        **dict.fromkeys(sorted(_IGNORED), ""),
    },
    verify=verify_password,
    parse=_parse,
    password=True,
)

"""Postmark: one event a delivery, proved by a password."""

from collections.abc import Iterator
from typing import Any

from webapp.signals.bounces import bounce_class
from webapp.signals.connection_kind import ConnectionKind
from webapp.signals.delivery import Delivery
from webapp.signals.json_fields import (
    decoded_object,
    event_id,
    iso_time_at,
    loose_text,
    message_id_at,
    part_at,
    passed_ids,
    required_text,
    text_at,
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
    "Delivery": "delivered",
    "Open": "open",
    "Click": "click",
    "SubscriptionChange": "unsubscribe",
    "SpamComplaint": "complaint",
    "Bounce": "bounce",
}
_TIMES = {
    "Delivery": "DeliveredAt",
    "Open": "ReceivedAt",
    "Click": "ReceivedAt",
    "SubscriptionChange": "ChangedAt",
    "SpamComplaint": "BouncedAt",
    "Bounce": "BouncedAt",
}
# Types of a Bounce: permanent ones with the reason, and others by what they mean.
_PERMANENT: dict[str, BounceClass] = {
    "HardBounce": "address",
    "BadEmailAddress": "address",
    "ManuallyDeactivated": "address",
    "SpamNotification": "content",
    "VirusNotification": "content",
    "DMARCPolicy": "content",
    "TemplateRenderingFailed": "content",
}
_BY_TYPE = {"SpamComplaint": "complaint", "Unsubscribe": "unsubscribe"}
_PASSING = {
    "AddressChange",
    "AutoResponder",
    "Blocked",
    "ChallengeVerification",
    "DnsError",
    "OpenRelayTest",
    "SoftBounce",
    "Subscribe",
    "Transient",
    "Unconfirmed",
    "Unknown",
}


def _parse(delivery: Delivery) -> SignalBatch:
    item = decoded_object(delivery.body)
    return read_batch([item], _events, lambda _: Delivery("POST", {}, delivery.body))


def _events(item: Any) -> Iterator[SignalEvent]:
    record = required_text(item, "RecordType")
    if record not in _NAMES:
        raise EventUnreadable(f"unknown event {record!r}")
    name = _name(record, item)
    message_id = message_id_at(item, "MessageID")
    recipient = text_at(item, "Recipient") or text_at(item, "Email")
    link = loose_text(item, "OriginalLink")
    own_id = text_at(item, "ID")
    identity = (
        (own_id, record)
        if own_id
        else (message_id, record, recipient, text_at(item, _TIMES[record]), link)
    )
    yield SignalEvent(
        name=name,
        event_id=event_id("postmark", *identity),
        occurred_at=iso_time_at(item, _TIMES[record]),
        decision_ids=passed_ids(part_at(item, "Metadata")),
        message_id=message_id,
        recipient=recipient,
        link=link,
        agent=loose_text(item, "UserAgent"),
        network_address=loose_text(item, "Geo", "IP"),
        bounce=_bounce_class(item) if name == "bounce" else None,
    )


def _name(record: str, item: Any) -> str:
    """Return our name of an event of a known record type."""
    if record == "SubscriptionChange":
        by_hand = part_at(item, "SuppressionReason") == "ManualSuppression"
        if part_at(item, "SuppressSending") is not True or not by_hand:
            raise EventIgnored(record)  # told by a bounce or a complaint, or subscribed again
    if record == "Bounce":
        kind = required_text(item, "Type")
        if kind in _PASSING:
            raise EventIgnored(f"Bounce {kind}")
        if kind not in _PERMANENT and kind not in _BY_TYPE:
            raise EventUnreadable(f"unknown type of bounce {kind!r}")
        return _BY_TYPE.get(kind, "bounce")
    return _NAMES[record]


def _bounce_class(item: Any) -> BounceClass | None:
    kind = part_at(item, "Type")
    by_code = bounce_class(part_at(item, "Details"), part_at(item, "Description"))
    if kind == "HardBounce" and by_code is not None:
        return by_code
    return _PERMANENT[kind]


_SAMPLE = """\
httpx.post(
    "https://api.postmarkapp.com/email",
    headers={"X-Postmark-Server-Token": os.environ["POSTMARK_TOKEN"]},
    json={
        "From": "news@shop.example",
        "To": "ida@shop.example",
        "Subject": subject,
        "HtmlBody": html,
        "MessageStream": "broadcast",
        "TrackOpens": True,
        "TrackLinks": "HtmlOnly",
        "Metadata": passed,
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="postmark",
    label="Postmark",
    purpose="Events of emails that Postmark sends for you.",
    fields=PASSWORD_FIELDS,
    steps=(
        (
            "In Postmark, open your server, the message stream, Webhooks, and add a webhook with"
            " `{address}` as URL."
        ),
        "Under basic authentication, put in the connection's user name and password.",
        ("Tick Open, Click, Delivery, Bounce, Spam Complaint and Subscription Change, and save."),
    ),
    passing=(
        'Send each email with the metadata `bandits_decision`: `"Metadata": {"bandits_decision":'
        ' "…"}`. An email of several campaigns has `bandits_1`, `bandits_2` and so on.'
        " Postmark limits the length of values; our own ids (36 characters) fit."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "Webhooks belong to a message stream. One that was added to `outbound` hears nothing"
            " of `broadcast`."
        ),
        "Clicks are tracked where `TrackLinks` or the server's settings at Postmark say so.",
        (
            "A subscription change is also sent after a hard bounce and when somebody comes back."
            " Only the recipient's own unsubscribing counts."
        ),
    ),
    proof=PROOF,
    retries=(
        "Postmark retries for about ten hours until it gets 200. After 403 it stops, so 403 is"
        " never answered here."
    ),
    limits="Machine opens are not marked.",
    names={
        **{
            name: ours
            for name, ours in _NAMES.items()
            if name not in {"SubscriptionChange", "Bounce"}
        },
        "SubscriptionChange by the recipient (`ManualSuppression`)": "unsubscribe",
        "SubscriptionChange, any other": "",
        **{f"Bounce {kind}": "bounce" for kind in _PERMANENT},
        **{f"Bounce {kind}": ours for kind, ours in _BY_TYPE.items()},
        **{f"Bounce {kind}": "" for kind in sorted(_PASSING)},
    },
    verify=verify_password,
    parse=_parse,
    password=True,
)

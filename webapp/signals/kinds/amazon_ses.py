"""Amazon SES by SNS: one event a delivery, signed by Amazon's certificate."""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import (
    SHA1,  # of signature version 1, which topics have unless they are set to 2
    SHA256,
)

from webapp.signals.bounces import bounce_class
from webapp.signals.connection_kind import (
    ConnectionField,
    ConnectionKind,
    FieldValues,
    ProofContext,
)
from webapp.signals.delivery import JSON, Delivery, DeliveryRefused, RefusalCause
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
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import (
    BounceClass,
    EventIgnored,
    EventUnreadable,
    SignalBatch,
    SignalEvent,
    read_batch,
)

# A region as in us-east-1: a looser pattern lets S3 buckets called sns pass (sns.s3-us-west-2.…).
_HOST = r"https://sns\.[a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
CERTIFICATE_ADDRESS = re.compile(_HOST + r"/SimpleNotificationService-[a-z0-9]{1,100}\.pem")
CONFIRMATION_ADDRESS = re.compile(_HOST + r"/\?Action=ConfirmSubscription&[!-~]{1,2000}")
_TOPIC = re.compile(r"arn:aws[a-z-]{0,10}:sns:[a-z0-9-]{1,30}:[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_SIGNED_OF_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_OF_SUBSCRIPTION = (
    "Message",
    "MessageId",
    "SubscribeURL",
    "Timestamp",
    "Token",
    "TopicArn",
    "Type",
)
_SIGNED = {
    "Notification": _SIGNED_OF_NOTIFICATION,
    "SubscriptionConfirmation": _SIGNED_OF_SUBSCRIPTION,
    "UnsubscribeConfirmation": _SIGNED_OF_SUBSCRIPTION,
}
_FIRST_MESSAGE = "Successfully validated SNS topic"
_NAMES = {
    "Delivery": "delivered",
    "Open": "open",
    "Click": "click",
    "Subscription": "unsubscribe",
    "Complaint": "complaint",
    "Bounce": "bounce",
    "Reject": "bounce",
    "Rendering Failure": "bounce",
}
_IGNORED = {"Send", "DeliveryDelay"}
_OF_THE_ADDRESS = ("NoEmail", "Suppressed", "OnAccountSuppressionList")  # types of a bounce
# The object of the event's own particulars, beside that of the email.
_PARTICULARS = {name: name.lower() for name in _NAMES} | {"Rendering Failure": "failure"}


def _topic_fault(text: str) -> str | None:
    if _TOPIC.fullmatch(text) is None:
        return "is not a topic's ARN, as in arn:aws:sns:eu-west-1:123456789012:ses-events"
    return None


def _verify(delivery: Delivery, values: FieldValues, context: ProofContext) -> None:
    """Check topic, certificate's address and signature: RSA, PKCS #1 v1.5, by SHA-1 or SHA-256."""
    envelope = decoded_object(delivery.body)
    signature = part_at(envelope, "Signature")
    if not isinstance(signature, str) or not isinstance(part_at(envelope, "TopicArn"), str):
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_MISSING,
            "the delivery is not signed; turn raw message delivery off at SNS",
        )
    if envelope["TopicArn"] not in values["topic_arn"]:  # anybody may have a topic at Amazon
        raise DeliveryRefused(RefusalCause.SIGNATURE_WRONG, "the delivery is of another topic")
    address = part_at(envelope, "SigningCertURL")
    if not isinstance(address, str) or CERTIFICATE_ADDRESS.fullmatch(address) is None:
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_WRONG, "SigningCertURL is no address of Amazon SNS"
        )
    algorithm = {"1": SHA1, "2": SHA256}.get(str(part_at(envelope, "SignatureVersion")))
    signed = _signed_text(envelope)
    if algorithm is not None and signed is not None:
        key = context.certificates.public_key(address, context.now)
        try:
            if isinstance(key, RSAPublicKey):
                key.verify(b64decode(signature, validate=True), signed, PKCS1v15(), algorithm())
                return
        except (InvalidSignature, ValueError):
            pass
    raise DeliveryRefused(RefusalCause.SIGNATURE_WRONG, "the delivery is not signed by Amazon")


def _signed_text(envelope: Mapping[str, Any]) -> bytes | None:
    """Return the text that is signed: each field's name and value on lines; None if one misses."""
    names = _SIGNED.get(str(part_at(envelope, "Type")), ())
    fields = [(name, envelope.get(name)) for name in names if name != "Subject" or name in envelope]
    if not fields or not all(isinstance(value, str) for _, value in fields):
        return None
    return "".join(f"{name}\n{value}\n" for name, value in fields).encode("utf-8", "replace")


def _parse(delivery: Delivery) -> SignalBatch:
    envelope = decoded_object(delivery.body)
    match envelope.get("Type"):
        case "SubscriptionConfirmation":
            address = envelope.get("SubscribeURL")
            if not isinstance(address, str) or CONFIRMATION_ADDRESS.fullmatch(address) is None:
                raise DeliveryRefused(
                    RefusalCause.UNREADABLE, "SubscribeURL is no address of Amazon SNS"
                )
            return SignalBatch(confirmation=address)
        case "Notification":
            return read_batch([envelope], _events, lambda _: Delivery("POST", {}, delivery.body))
        case "UnsubscribeConfirmation":
            return SignalBatch(ignored={"UnsubscribeConfirmation": 1})
    raise DeliveryRefused(RefusalCause.UNREADABLE, "Type is none that Amazon SNS sends")


def _events(envelope: Any) -> Iterator[SignalEvent]:
    message = part_at(envelope, "Message")
    if isinstance(message, str) and message.startswith(_FIRST_MESSAGE):
        raise EventIgnored("first message of a topic")
    try:
        record = decoded_object(message if isinstance(message, str) else "")
    except DeliveryRefused:
        raise EventUnreadable("Message is not a JSON object in a text") from None
    kind = text_at(record, "eventType") or required_text(record, "notificationType")
    if kind not in _NAMES and kind not in _IGNORED:
        raise EventUnreadable(f"unknown event {kind!r}")
    name = _name(kind, record)
    if name is None:
        raise EventIgnored(kind)
    particulars = part_at(record, _PARTICULARS[kind])
    recipients = _recipients(kind, record)
    own_id = required_text(envelope, "MessageId")
    for n, recipient in enumerate(recipients):
        yield SignalEvent(
            name=name,
            event_id=event_id("amazon_ses", own_id, *([n] if len(recipients) > 1 else [])),
            occurred_at=iso_time_at(particulars, "timestamp")
            or iso_time_at(record, "mail", "timestamp"),
            decision_ids=passed_ids(part_at(record, "mail", "tags")),
            message_id=message_id_at(record, "mail", "messageId"),
            recipient=text_at(recipient, "emailAddress"),
            link=loose_text(particulars, "link"),
            agent=loose_text(particulars, "userAgent") if name in {"open", "click"} else None,
            network_address=loose_text(particulars, "ipAddress"),
            bounce=_bounce_class(kind, particulars, recipient) if name == "bounce" else None,
        )


def _name(kind: str, record: Any) -> str | None:
    """Return our name of an event, None where it means nothing to us."""
    if kind == "Bounce" and part_at(record, "bounce", "bounceType") != "Permanent":
        return None
    if kind == "Complaint" and _was_not_sent(record):
        return "bounce"
    if kind == "Subscription":
        preferences = part_at(record, "subscription", "newTopicPreferences")
        if part_at(preferences, "unsubscribeAll") is not True:
            return None
    return _NAMES.get(kind)


def _was_not_sent(record: Any) -> bool:
    """Return True for a complaint of long ago, because of which Amazon did not send this email."""
    return bool(part_at(record, "complaint", "complaintSubType") == "OnAccountSuppressionList")


def _recipients(kind: str, record: Any) -> list[Any]:
    """List whom an event is of, as ``{"emailAddress": …}``; one of nobody where Amazon tells none.

    A bounce is of each of its recipients; a complaint of several may be of any of them, and so may
    an open of an email to several.
    """
    if kind == "Bounce":
        listed = part_at(record, "bounce", "bouncedRecipients")
    elif kind == "Complaint":
        listed = part_at(record, "complaint", "complainedRecipients")
    else:
        addresses = part_at(record, "mail", "destination")
        listed = [{"emailAddress": a} for a in addresses] if isinstance(addresses, list) else []
    if isinstance(listed, list) and (len(listed) == 1 or (listed and kind == "Bounce")):
        return listed
    return [{}]


def _bounce_class(kind: str, particulars: Any, recipient: Any) -> BounceClass | None:
    if kind == "Complaint":
        return "address"
    if kind != "Bounce":  # it had a virus, or its template failed
        return "content"
    if part_at(particulars, "bounceSubType") in _OF_THE_ADDRESS:
        return "address"
    return bounce_class(part_at(recipient, "status"), part_at(recipient, "diagnosticCode"))


_SAMPLE = """\
boto3.client("sesv2").send_email(
    FromEmailAddress="news@shop.example",
    Destination={"ToAddresses": ["ida@shop.example"]},
    Content={"Simple": {"Subject": {"Data": subject}, "Body": {"Html": {"Data": html}}}},
    EmailTags=[{"Name": name, "Value": value} for name, value in passed.items()],
    ConfigurationSetName="newsletter",
)
"""

KIND = ConnectionKind(
    name="amazon_ses",
    label="Amazon SES",
    purpose="Events of emails that Amazon SES sends for you, by a topic of Amazon SNS.",
    fields=(
        ConnectionField(
            name="topic_arn",
            label="ARN of the topic",
            help="It stands on the topic's page at Amazon SNS and begins with arn:aws:sns.",
            secret=False,
            fault=_topic_fault,
        ),
    ),
    steps=(
        "In Amazon SNS, create a standard topic, and copy its ARN into the connection.",
        (
            "Create a subscription of the topic with the protocol HTTPS and `{address}` as"
            " endpoint; leave raw message delivery off. It is confirmed by itself."
        ),
        (
            "In Amazon SES, add the topic as event destination to the configuration set that your"
            " emails are sent with, and tick Deliveries, Opens, Clicks, Bounces, Complaints,"
            " Rejects, Rendering failures and Subscriptions."
        ),
    ),
    passing=(
        'Send each email with the message tag `bandits_decision`: `"EmailTags": [{"Name":'
        ' "bandits_decision", "Value": "…"}]`, or the header `X-SES-MESSAGE-TAGS`. An email of'
        " several campaigns has `bandits_1`, `bandits_2` and so on. Amazon allows only letters,"
        " digits, `_` and `-` in a tag, so an id of your own must keep to them."
    ),
    sample=SendSample(_SAMPLE, imports="import os\n\nimport boto3\n"),
    traps=(
        (
            "Tags come back by a configuration set alone. Notifications that are set on an"
            " identity have none, so their events match nothing."
        ),
        "With raw message delivery on, nothing is signed, and every delivery is refused.",
        (
            "Amazon asks this server to confirm the subscription, which takes a call to Amazon. So"
            " add the connection first, and let the server reach Amazon."
        ),
        (
            "A complaint may list everybody at the recipient's domain. It counts for the decision"
            " in the tag alone."
        ),
    ),
    proof=(
        "Amazon signs each message with a certificate (RSA). This server fetches it from"
        " `sns.<region>.amazonaws.com`, so it needs outgoing HTTPS to that host. Messages of"
        " other topics are refused."
    ),
    retries=(
        "Amazon SNS retries three times, 20 seconds apart, after a 5xx answer or none. Give the"
        " subscription a delivery policy with more retries; Amazon allows up to an hour."
    ),
    limits=(
        "Send each message to one recipient. With several, Amazon does not say who opened or"
        " clicked."
    ),
    names={
        **{name: ours for name, ours in _NAMES.items() if name not in {"Subscription", "Bounce"}},
        "Complaint `OnAccountSuppressionList`": "bounce",
        "Bounce `Permanent`": "bounce",
        "Bounce, any other": "",
        "Subscription with `unsubscribeAll`": "unsubscribe",
        "Subscription, any other": "",
        **dict.fromkeys(sorted(_IGNORED), ""),
    },
    verify=_verify,
    parse=_parse,
    media_types=("text/plain", JSON),
    max_body_bytes=1024 * 1024,  # a message of SNS has 256 kB at most, and is escaped within a text
)

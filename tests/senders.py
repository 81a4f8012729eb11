"""Stand-ins of the senders of webhooks: each signs as the real one does, by keys made here.

Bodies are samples of our own. `SENDERS` has one of each kind of connection.
"""

import csv
import io
import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha1, sha256
from hmac import digest
from typing import Any, NamedTuple
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from msgspec import Struct

from webapp.signals.certificates import CertificateCache
from webapp.signals.delivery import FORM, Delivery

DECISION = "0193a5c0-1111-7abc-8def-000000000001"
SENT_AT = datetime(2026, 3, 2, 9, 30, 5, tzinfo=UTC)
PERSON = "ida@shop.example"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0"
LINK = "https://shop.example/boots?size=38"
NETWORK = "198.51.100.7"
CURRENT, PREVIOUS, STRANGER = range(3)  # numbers of keys


class Key(NamedTuple):
    """A key of a sender: the fields of the connection that fit it, and what it signs with."""

    fields: Mapping[str, str]
    private: Any


class Sample(NamedTuple):
    """An event as its sender writes it, and what it means to us.

    Attributes:
        item: as decoded.
        name: ours; None where it is ignored.
        says: attributes of the event that are not those of every sample.
    """

    item: Any
    name: str | None
    says: Mapping[str, Any] = {}


class Sender(Struct, frozen=True):
    """One kind of sender.

    Attributes:
        key: by number.
        deliver: items, key, time of signing and number of the delivery, to the delivery.
        samples: by what they are.
        batches: it sends several events in one delivery.
        broken: an item that cannot be read.
    """

    key: Callable[[int], Key]
    deliver: Callable[[Sequence[Any], Key, datetime, int], Delivery]
    samples: Mapping[str, Sample]
    broken: Any
    batches: bool = False


def values(*keys: Key) -> dict[str, tuple[str, ...]]:
    """Return the values of a connection that takes these keys, the newest first."""
    names = keys[0].fields
    return {name: tuple(dict.fromkeys(key.fields[name] for key in keys)) for name in names}


def as_json(value: Any) -> bytes:
    """Write JSON."""
    return json.dumps(value).encode()


def without(item: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Leave names out."""
    return {name: value for name, value in item.items() if name not in names}


def iso(time: datetime) -> str:
    """Write a time as nearly all senders do."""
    return time.isoformat().replace("+00:00", "Z")


CLICKED = {"link": LINK, "agent": AGENT, "network_address": NETWORK}
OPENED = {"agent": AGENT, "network_address": NETWORK}
UNIX = int(SENT_AT.timestamp())


# SendGrid


@cache
def sendgrid_key(number: int) -> Key:
    private = ec.derive_private_key(1000 + number, ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key({"verification_key": b64encode(public).decode()}, private)


def sendgrid_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    del number
    body, timestamp = as_json(items) + b"\r\n", str(int(at.timestamp()))
    signature = key.private.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    headers = {
        "Content-Type": "application/json",
        "X-Twilio-Email-Event-Webhook-Signature": b64encode(signature).decode(),
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
    }
    return Delivery.of("POST", headers.items(), body)


def sendgrid_item(event: str, **more: Any) -> dict[str, Any]:
    return {
        "email": PERSON,
        "timestamp": UNIX,
        "event": event,
        "sg_event_id": f"own-{event}-{len(more)}==",
        "sg_message_id": "m-1.filter0001p1.1234.ABC.0",
        "bandits_decision": DECISION,
        **more,
    }


SEEN = {"useragent": AGENT, "ip": NETWORK}
SENDGRID = Sender(
    key=sendgrid_key,
    deliver=sendgrid_deliver,
    samples={
        "delivered": Sample(sendgrid_item("delivered", ip="203.0.113.9"), "delivered"),
        "open": Sample(sendgrid_item("open", **SEEN), "open", OPENED),
        "machine open": Sample(
            sendgrid_item("open", sg_machine_open=True, **SEEN),
            "machine_open",
            {**OPENED, "machine": True},
        ),
        "click": Sample(sendgrid_item("click", url=LINK, **SEEN), "click", CLICKED),
        "unsubscribe": Sample(sendgrid_item("unsubscribe"), "unsubscribe"),
        "group unsubscribe": Sample(
            sendgrid_item("group_unsubscribe", url=LINK, **SEEN), "unsubscribe", OPENED
        ),
        "complaint": Sample(sendgrid_item("spamreport"), "complaint"),
        "bounce": Sample(
            sendgrid_item("bounce", type="bounce", status="5.1.1", reason="550 no such user"),
            "bounce",
            {"bounce": "address"},
        ),
        "bounce of the content": Sample(
            sendgrid_item("bounce", type="bounce", bounce_classification="Content", n=1, m=1),
            "bounce",
            {"bounce": "content"},
        ),
        "dropped": Sample(
            sendgrid_item("dropped", reason="Bounced Address"), "bounce", {"bounce": "address"}
        ),
        "blocked": Sample(sendgrid_item("bounce", type="blocked"), None),
        "processed": Sample(sendgrid_item("processed"), None),
        "deferred": Sample(sendgrid_item("deferred"), None),
        "resubscribed": Sample(sendgrid_item("group_resubscribe"), None),
    },
    broken=sendgrid_item("teleported"),
    batches=True,
)


# Amazon SES


@cache
def amazon_private(number: int) -> rsa.RSAPrivateKey:
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def amazon_key(number: int) -> Key:
    topic = f"arn:aws:sns:eu-west-1:12345678901{number}:ses-events"
    # Amazon's one certificate; a stranger knows the topic, but has another key.
    if number == STRANGER:
        return Key({"topic_arn": amazon_key(CURRENT).fields["topic_arn"]}, amazon_private(1))
    return Key({"topic_arn": topic}, amazon_private(0))


AMAZON_CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b2c.pem"


@cache
def amazon_certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(amazon_private(0).public_key())
        .serial_number(1)
        .not_valid_before(SENT_AT - timedelta(days=1))
        .not_valid_after(SENT_AT + timedelta(days=365))
        .sign(amazon_private(0), SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def amazon_envelope(kind: str, key: Key, version: str = "2", **more: str) -> dict[str, str]:
    """Make a signed message of SNS."""
    envelope = {
        "Type": kind,
        "MessageId": "0c0ffee0-0000-4000-8000-000000000001",
        "TopicArn": key.fields["topic_arn"],
        "Timestamp": iso(SENT_AT),
        **more,
    }
    signed = "".join(f"{name}\n{envelope[name]}\n" for name in sorted(envelope))
    algorithm = {"1": SHA1, "2": SHA256}[version]()
    signature = key.private.sign(signed.encode(), PKCS1v15(), algorithm)
    return {
        **envelope,
        "SignatureVersion": version,
        "Signature": b64encode(signature).decode(),
        "SigningCertURL": AMAZON_CERTIFICATE,
    }


def amazon_delivery(envelope: Mapping[str, str]) -> Delivery:
    """Send a message of SNS."""
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "x-amz-sns-message-type": envelope["Type"],
    }
    return Delivery.of("POST", headers.items(), as_json(envelope))


def amazon_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    (item,) = items
    own_id = f"0c0ffee0-0000-4000-8000-{number:012}"
    return amazon_delivery(
        amazon_envelope(
            "Notification",
            key,
            MessageId=own_id,
            Subject="Amazon SES Email Event Notification",
            Timestamp=iso(at),
            Message=json.dumps(item),
        )
    )


def amazon_item(event: str, **particulars: Any) -> dict[str, Any]:
    mail = {
        "timestamp": iso(SENT_AT),
        "messageId": "m-1",
        "destination": [PERSON],
        "tags": {"ses:configuration-set": ["spring"], "bandits_decision": [DECISION]},
    }
    named = {name: {"timestamp": iso(SENT_AT), **value} for name, value in particulars.items()}
    return {"eventType": event, "mail": mail, **named}


AMAZON_SEEN = {"ipAddress": NETWORK, "userAgent": AGENT}
AMAZON = Sender(
    key=amazon_key,
    deliver=amazon_deliver,
    samples={
        "delivered": Sample(
            amazon_item("Delivery", delivery={"recipients": [PERSON]}), "delivered"
        ),
        "open": Sample(amazon_item("Open", open=AMAZON_SEEN), "open", OPENED),
        "click": Sample(
            amazon_item("Click", click={**AMAZON_SEEN, "link": LINK}), "click", CLICKED
        ),
        "unsubscribe": Sample(
            amazon_item(
                "Subscription", subscription={"newTopicPreferences": {"unsubscribeAll": True}}
            ),
            "unsubscribe",
        ),
        "complaint": Sample(
            amazon_item(
                "Complaint", complaint={"complainedRecipients": [{"emailAddress": PERSON}]}
            ),
            "complaint",
        ),
        "complaint of long ago": Sample(
            amazon_item(
                "Complaint",
                complaint={
                    "complaintSubType": "OnAccountSuppressionList",
                    "complainedRecipients": [{"emailAddress": PERSON}],
                },
            ),
            "bounce",
            {"bounce": "address"},
        ),
        "bounce": Sample(
            amazon_item(
                "Bounce",
                bounce={
                    "bounceType": "Permanent",
                    "bounceSubType": "General",
                    "bouncedRecipients": [{"emailAddress": PERSON, "status": "5.1.1"}],
                },
            ),
            "bounce",
            {"bounce": "address"},
        ),
        "bounce without a configuration set": Sample(
            {
                **without(
                    amazon_item(
                        "Bounce",
                        bounce={
                            "bounceType": "Permanent",
                            "bounceSubType": "Suppressed",
                            "bouncedRecipients": [{"emailAddress": PERSON}],
                        },
                    ),
                    "eventType",
                ),
                "notificationType": "Bounce",
            },
            "bounce",
            {"bounce": "address"},
        ),
        "reject": Sample(
            amazon_item("Reject", reject={"reason": "Bad content"}), "bounce", {"bounce": "content"}
        ),
        "template failure": Sample(
            amazon_item("Rendering Failure", failure={"errorMessage": "no name"}),
            "bounce",
            {"bounce": "content"},
        ),
        "temporary bounce": Sample(amazon_item("Bounce", bounce={"bounceType": "Transient"}), None),
        "sent": Sample(amazon_item("Send", send={}), None),
        "delayed": Sample(amazon_item("DeliveryDelay", deliveryDelay={}), None),
        "subscribed again": Sample(
            amazon_item(
                "Subscription", subscription={"newTopicPreferences": {"unsubscribeAll": False}}
            ),
            None,
        ),
    },
    broken=amazon_item("Teleport"),
)


# Mailgun


def mailgun_key(number: int) -> Key:
    return Key({"signing_key": f"signing-key-{number}"}, f"signing-key-{number}")


def mailgun_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    (item,) = items
    timestamp, token = str(int(at.timestamp())), f"{number:050}"
    signature = digest(key.private.encode(), f"{timestamp}{token}".encode(), sha256).hex()
    block = {"timestamp": timestamp, "token": token, "signature": signature}
    body = as_json({"signature": block, "event-data": item})
    return Delivery.of("POST", [("Content-Type", "application/json")], body)


def mailgun_item(event: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"own-{event}-{len(more)}",
        "timestamp": SENT_AT.timestamp(),
        "event": event,
        "message": {"headers": {"message-id": "m-1"}},
        "recipient": PERSON,
        "user-variables": {"bandits_decision": DECISION},
        **more,
    }


MAILGUN_SEEN = {"ip": NETWORK, "client-info": {"user-agent": AGENT}}
MAILGUN = Sender(
    key=mailgun_key,
    deliver=mailgun_deliver,
    samples={
        "delivered": Sample(mailgun_item("delivered"), "delivered"),
        "open": Sample(mailgun_item("opened", **MAILGUN_SEEN), "open", OPENED),
        "click": Sample(mailgun_item("clicked", url=LINK, **MAILGUN_SEEN), "click", CLICKED),
        "unsubscribe": Sample(mailgun_item("unsubscribed", **MAILGUN_SEEN), "unsubscribe", OPENED),
        "complaint": Sample(mailgun_item("complained"), "complaint"),
        "bounce": Sample(
            mailgun_item(
                "failed",
                severity="permanent",
                reason="bounce",
                **{"delivery-status": {"code": 550, "message": "550 5.7.1 looks like spam"}},
            ),
            "bounce",
            {"bounce": "content"},
        ),
        "suppressed": Sample(
            mailgun_item("failed", severity="permanent", reason="suppress-bounce"),
            "bounce",
            {"bounce": "address"},
        ),
        "temporary failure": Sample(mailgun_item("failed", severity="temporary"), None),
        "accepted": Sample(mailgun_item("accepted"), None),
    },
    broken=mailgun_item("teleported"),
)


# Those that are proved by a password


def password_key(number: int) -> Key:
    password = f"a password of many words, no. {number}"
    return Key({"username": "bandits", "password": password}, f"bandits:{password}")


def password_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    """Send a JSON array."""
    del at, number
    return password_delivery(items, key)


def password_deliver_one(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    """Send a JSON object."""
    del at, number
    (item,) = items
    return password_delivery(item, key)


def password_delivery(content: Any, key: Key) -> Delivery:
    credentials = b64encode(key.private.encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
    return Delivery.of("POST", headers.items(), as_json(content))


def postmark_item(record: str, time: str, **more: Any) -> dict[str, Any]:
    return {
        "RecordType": record,
        "MessageID": "m-1",
        "MessageStream": "broadcast",
        "Recipient": PERSON,
        "Metadata": {"bandits_decision": DECISION},
        time: "2026-03-02T04:30:05.0000000-05:00",
        **more,
    }


def postmark_bounce(kind: str, number: int = 1, **more: Any) -> dict[str, Any]:
    own_id = 100 * len(kind) + number
    item = postmark_item("Bounce", "BouncedAt", Type=kind, ID=own_id, Email=PERSON, **more)
    return without(item, "Recipient")


POSTMARK_SEEN = {"UserAgent": AGENT, "Geo": {"City": "Ghent", "IP": NETWORK}}
POSTMARK = Sender(
    key=password_key,
    deliver=password_deliver_one,
    samples={
        "delivered": Sample(postmark_item("Delivery", "DeliveredAt"), "delivered"),
        "open": Sample(
            postmark_item("Open", "ReceivedAt", FirstOpen=True, **POSTMARK_SEEN), "open", OPENED
        ),
        "click": Sample(
            postmark_item("Click", "ReceivedAt", OriginalLink=LINK, **POSTMARK_SEEN),
            "click",
            CLICKED,
        ),
        "unsubscribe": Sample(
            postmark_item(
                "SubscriptionChange",
                "ChangedAt",
                SuppressSending=True,
                SuppressionReason="ManualSuppression",
            ),
            "unsubscribe",
        ),
        "complaint": Sample(
            postmark_item("SpamComplaint", "BouncedAt", ID=801, Email=PERSON), "complaint"
        ),
        "bounce": Sample(postmark_bounce("HardBounce"), "bounce", {"bounce": "address"}),
        "bounce of the content": Sample(
            postmark_bounce("HardBounce", 2, Details="smtp; 552 5.7.1 refused as spam"),
            "bounce",
            {"bounce": "content"},
        ),
        "spam notice": Sample(postmark_bounce("SpamNotification"), "bounce", {"bounce": "content"}),
        "unsubscribe as a bounce": Sample(postmark_bounce("Unsubscribe"), "unsubscribe"),
        "soft bounce": Sample(postmark_bounce("SoftBounce"), None),
        "suppressed after a bounce": Sample(
            postmark_item(
                "SubscriptionChange",
                "ChangedAt",
                SuppressSending=True,
                SuppressionReason="HardBounce",
            ),
            None,
        ),
        "subscribed again": Sample(
            postmark_item(
                "SubscriptionChange", "ChangedAt", SuppressSending=False, SuppressionReason=None
            ),
            None,
        ),
        "suppression lifted": Sample(
            postmark_item(
                "SubscriptionChange",
                "ChangedAt",
                SuppressSending=False,
                SuppressionReason="ManualSuppression",
            ),
            None,
        ),
    },
    broken=postmark_item("Teleport", "ReceivedAt"),
)


def sparkpost_item(event: str, room: str = "message_event", **more: Any) -> dict[str, Any]:
    inner = {
        "type": event,
        "event_id": f"77{len(event)}{len(more)}",
        "message_id": f"each-{event}",
        "transmission_id": "m-1",
        "raw_rcpt_to": PERSON,
        "rcpt_meta": {"bandits_decision": DECISION},
        "timestamp": str(UNIX),
        **more,
    }
    return {"msys": {room: inner}}


SPARKPOST_SEEN = {"user_agent": AGENT, "ip_address": NETWORK}
SPARKPOST = Sender(
    key=password_key,
    deliver=password_deliver,
    samples={
        "delivered": Sample(sparkpost_item("delivery"), "delivered"),
        "open": Sample(sparkpost_item("open", "track_event", **SPARKPOST_SEEN), "open", OPENED),
        "initial open": Sample(
            sparkpost_item("initial_open", "track_event", **SPARKPOST_SEEN), "open", OPENED
        ),
        "click": Sample(
            sparkpost_item("click", "track_event", target_link_url=LINK, **SPARKPOST_SEEN),
            "click",
            CLICKED,
        ),
        "unsubscribe": Sample(
            sparkpost_item("list_unsubscribe", "unsubscribe_event"), "unsubscribe"
        ),
        "unsubscribe as a bounce": Sample(
            sparkpost_item("bounce", bounce_class="90"), "unsubscribe"
        ),
        "complaint": Sample(sparkpost_item("spam_complaint"), "complaint"),
        "bounce": Sample(
            sparkpost_item("bounce", bounce_class="10", error_code="550"),
            "bounce",
            {"bounce": "address"},
        ),
        "late bounce": Sample(
            sparkpost_item("out_of_band", bounce_class="30"), "bounce", {"bounce": "address"}
        ),
        "bounce of the content": Sample(
            sparkpost_item("bounce", bounce_class="52", a=1, b=2), "bounce", {"bounce": "content"}
        ),
        "template failure": Sample(
            sparkpost_item("generation_failure", timestamp="2026-03-02T09:30:05.000+00:00"),
            "bounce",
            {"bounce": "content"},
        ),
        "suppressed": Sample(sparkpost_item("generation_rejection", "gen_event"), "bounce"),
        "soft bounce": Sample(sparkpost_item("bounce", bounce_class="22"), None),
        "sent": Sample(sparkpost_item("injection"), None),
        "delayed": Sample(sparkpost_item("delay", bounce_class="21"), None),
        "ping": Sample({"msys": {}}, None),
    },
    broken=sparkpost_item("teleport"),
    batches=True,
)


def brevo_item(event: str, **more: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "event": event,
        "email": PERSON,
        "message-id": "<m-1>",
        "ts": UNIX + 7200,  # by the clock of the account
        "ts_event": UNIX + 7200,
        "ts_epoch": UNIX * 1000,
        "X-Mailin-custom": DECISION,
        **more,
    }


BREVO = Sender(
    key=password_key,
    deliver=password_deliver,
    samples={
        "delivered": Sample(brevo_item("delivered"), "delivered"),
        "open": Sample(brevo_item("opened"), "open"),
        "first open": Sample(brevo_item("unique_opened"), "open"),
        "machine open": Sample(brevo_item("proxy_open"), "machine_open", {"machine": True}),
        "first machine open": Sample(
            brevo_item("unique_proxy_open"), "machine_open", {"machine": True}
        ),
        "click": Sample(brevo_item("click", link=LINK), "click", {"link": LINK}),
        "unsubscribe": Sample(brevo_item("unsubscribed"), "unsubscribe"),
        "complaint": Sample(brevo_item("spam"), "complaint"),
        "bounce": Sample(
            brevo_item("hard_bounce", reason="550-5.1.1 no such user"),
            "bounce",
            {"bounce": "address"},
        ),
        "invalid address": Sample(brevo_item("invalid_email"), "bounce", {"bounce": "address"}),
        "blocked": Sample(brevo_item("blocked"), "bounce", {"bounce": "address"}),
        "sent": Sample(brevo_item("request"), None),
        "soft bounce": Sample(brevo_item("soft_bounce"), None),
        "deferred": Sample(brevo_item("deferred"), None),
        "subscribed again": Sample(brevo_item("list_addition"), None),
    },
    broken=brevo_item("teleport"),
    batches=True,
)


# Mandrill

MANDRILL_URL = "https://user:pass@bandits.example:8443/webhooks/mandrill/spring?x=1"


def mandrill_key(number: int) -> Key:
    key = f"mandrill-key-{number}"
    return Key({"webhook_key": key, "url": MANDRILL_URL}, key)


def mandrill_delivery(events: str, key: str) -> Delivery:
    """Send the text of a batch."""
    signed = f"{MANDRILL_URL}mandrill_events{events}".encode()
    headers = {
        "Content-Type": FORM,
        "X-Mandrill-Signature": b64encode(digest(key.encode(), signed, sha1)).decode(),
    }
    return Delivery.of("POST", headers.items(), urlencode({"mandrill_events": events}).encode())


def mandrill_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    del at, number
    return mandrill_delivery(json.dumps(items), key.private)


def mandrill_item(event: str, **more: Any) -> dict[str, Any]:
    msg = {
        "_id": "m-1",
        "email": PERSON,
        "metadata": {"bandits_decision": DECISION, "user_id": 111},
        "opens": [{"ts": UNIX - 60}],
        "ts": UNIX - 600,
    }
    msg |= more.pop("msg", {})
    return {"event": event, "_id": "m-1", "ts": UNIX, "msg": msg, **more}


MANDRILL_SEEN = {"ip": NETWORK, "user_agent": AGENT}
MANDRILL = Sender(
    key=mandrill_key,
    deliver=mandrill_deliver,
    samples={
        "delivered": Sample(mandrill_item("delivered"), "delivered"),
        "open": Sample(mandrill_item("open", **MANDRILL_SEEN), "open", OPENED),
        "click": Sample(mandrill_item("click", url=LINK, **MANDRILL_SEEN), "click", CLICKED),
        "unsubscribe": Sample(mandrill_item("unsub"), "unsubscribe"),
        "complaint": Sample(mandrill_item("spam"), "complaint"),
        "bounce": Sample(
            mandrill_item("hard_bounce", msg={"bounce_description": "bad_mailbox"}),
            "bounce",
            {"bounce": "address"},
        ),
        "bounce of the content": Sample(
            mandrill_item("hard_bounce", ts=UNIX + 1, msg={"diag": "smtp;550 5.7.1 spam"}),
            "bounce",
            {"bounce": "content", "occurred_at": SENT_AT + timedelta(seconds=1)},
        ),
        "rejected": Sample(mandrill_item("reject"), "bounce"),
        "sent": Sample(mandrill_item("send"), None),
        "delayed": Sample(mandrill_item("deferral"), None),
        "soft bounce": Sample(mandrill_item("soft_bounce"), None),
        "denylist": Sample(
            {"type": "blacklist", "action": "add", "reject": {"email": PERSON}, "ts": UNIX}, None
        ),
    },
    broken=mandrill_item("teleport"),
    batches=True,
)


# Those that sign as Standard Webhooks


def standard_key(number: int) -> Key:
    private = sha256(f"standard {number}".encode()).digest()
    return Key({"signing_secret": f"whsec_{b64encode(private).decode()}"}, private)


def standard_delivery(
    item: Any, key: Key, at: datetime, own_id: str, brand: str = "webhook"
) -> Delivery:
    """Send one event, signed."""
    body, timestamp = as_json(item), str(int(at.timestamp()))
    signed = f"{own_id}.{timestamp}.".encode() + body
    signature = b64encode(digest(key.private, signed, sha256)).decode()
    headers = {
        "Content-Type": "application/json",
        f"{brand}-id": own_id,
        f"{brand}-timestamp": timestamp,
        f"{brand}-signature": f"v2,b3RoZXI= v1,bm9uZQ== v1,{signature}",
    }
    return Delivery.of("POST", headers.items(), body)


def resend_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    (item,) = items
    return standard_delivery(item, key, at, f"msg_{number}", "svix")


def standard_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    (item,) = items
    return standard_delivery(item, key, at, f"order-{number}")


def resend_item(event: str, **more: Any) -> dict[str, Any]:
    data = {
        "created_at": iso(SENT_AT - timedelta(minutes=10)),
        "email_id": "m-1",
        "to": [PERSON],
        "tags": {"bandits_decision": DECISION},
        **more,
    }
    return {"type": event, "created_at": iso(SENT_AT), "data": data}


RESEND_CLICK = {"link": LINK, "ipAddress": NETWORK, "userAgent": AGENT, "timestamp": iso(SENT_AT)}
RESEND = Sender(
    key=standard_key,
    deliver=resend_deliver,
    samples={
        "delivered": Sample(resend_item("email.delivered"), "delivered"),
        "open": Sample(resend_item("email.opened"), "open"),
        "click": Sample(resend_item("email.clicked", click=RESEND_CLICK), "click", CLICKED),
        "complaint": Sample(resend_item("email.complained"), "complaint"),
        "bounce": Sample(
            resend_item("email.bounced", bounce={"type": "Permanent", "subType": "NoEmail"}),
            "bounce",
            {"bounce": "address"},
        ),
        "bounce without a type": Sample(
            resend_item("email.bounced", bounce={"message": "5.7.1 refused as spam"}),
            "bounce",
            {"bounce": "content"},
        ),
        "suppressed": Sample(resend_item("email.suppressed"), "bounce", {"bounce": "address"}),
        "failed": Sample(resend_item("email.failed"), "bounce"),
        "tags as a list": Sample(
            resend_item("email.opened", tags=[{"name": "bandits_decision", "value": DECISION}]),
            "open",
        ),
        "unsubscribe": Sample(
            {
                "type": "contact.updated",
                "created_at": iso(SENT_AT),
                "data": {"email": PERSON, "unsubscribed": True},
            },
            "unsubscribe",
            {"message_id": None, "decision_ids": ()},
        ),
        "contact": Sample(resend_item("contact.updated", unsubscribed=False), None),
        "temporary bounce": Sample(
            resend_item("email.bounced", bounce={"type": "Transient"}), None
        ),
        "sent": Sample(resend_item("email.sent"), None),
        "delayed": Sample(resend_item("email.delivery_delayed"), None),
    },
    broken=resend_item("email.teleported"),
)


def standard_item(event: str, **more: Any) -> dict[str, Any]:
    data = {"bandits_decision": DECISION, "message_id": "m-1", "email": PERSON, **more}
    return {"type": event, "timestamp": iso(SENT_AT), "data": data}


STANDARD = Sender(
    key=standard_key,
    deliver=standard_deliver,
    samples={
        "order": Sample(
            standard_item("order", value=49.9, subject_id="c-17"),
            "order",
            {"value": 49.9, "subject_id": "c-17"},
        ),
        "refund": Sample(standard_item("refund", value=20), "refund", {"value": 20.0}),
        "reply": Sample(standard_item("reply"), "reply"),
        "click": Sample(standard_item("click", url=LINK), "click", {"link": LINK}),
        "metric": Sample(
            standard_item("margin-2", value=-3.5, as_of="2027-03-01T08:00:00Z"),
            "margin-2",
            {"value": -3.5, "as_of": datetime(2027, 3, 1, 8, tzinfo=UTC)},
        ),
    },
    broken=standard_item("order", value="49,90"),
)


# Mautic


def mautic_key(number: int) -> Key:
    fields = {
        "secret": f"mautic-secret-{number}",
        "api_url": "https://mautic.example.com",
        "api_user": "bandits",
        "api_token": f"a password of the API, no. {number}",
        "api_sign_in": "basic",
    }
    return Key(fields, f"mautic-secret-{number}")


def mautic_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    del at, number
    content: dict[str, list[Any]] = {}
    for name, item in items:
        content.setdefault(name, []).append(item)
    body = as_json(content)
    signature = b64encode(digest(key.private.encode(), body, sha256)).decode()
    headers = {"Content-Type": "application/json", "Webhook-Signature": signature}
    return Delivery.of("POST", headers.items(), body)


MAUTIC_TIME = "2026-03-02T10:30:05+01:00"
MAUTIC_CONTACT = {
    "id": 26,
    "fields": {
        "core": {
            "email": {"id": "6", "value": PERSON},
            "bandits_decision": {"id": "40", "value": DECISION},
            "bandits_1": {"id": "41", "value": ""},
        },
        "social": {},
        "personal": [],
    },
}
MAUTIC_SAYS = {"subject_id": "26", "message_id": None}


def mautic_hit(**more: Any) -> tuple[str, Any]:
    hit = {
        "dateHit": MAUTIC_TIME,
        "redirect": {"id": 3},
        "source": "email",
        "lead": MAUTIC_CONTACT,
        "url": LINK,
        "userAgent": AGENT,
        "trackingId": "t-9",
        **more,
    }
    return "mautic.page_on_hit", {"hit": hit, "timestamp": MAUTIC_TIME}


def mautic_subscription(status: str, channel: str = "email") -> tuple[str, Any]:
    item = {
        "contact": MAUTIC_CONTACT,
        "channel": channel,
        "old_status": "contactable",
        "new_status": status,
        "timestamp": MAUTIC_TIME,
    }
    return "mautic.lead_channel_subscription_changed", item


MAUTIC_STAT = {
    "id": 8,
    "emailAddress": PERSON,
    "dateRead": MAUTIC_TIME,
    "lastOpened": "2026-03-05T10:30:05+01:00",
    "trackingHash": "m-1",
    "lead": MAUTIC_CONTACT,
}
MAUTIC = Sender(
    key=mautic_key,
    deliver=mautic_deliver,
    samples={
        "open": Sample(
            ("mautic.email_on_open", {"stat": MAUTIC_STAT, "timestamp": MAUTIC_TIME}),
            "open",
            {"subject_id": "26"},
        ),
        "click": Sample(mautic_hit(), "click", {**MAUTIC_SAYS, "link": LINK, "agent": AGENT}),
        "unsubscribe": Sample(mautic_subscription("manual"), "unsubscribe", MAUTIC_SAYS),
        "bounce": Sample(
            mautic_subscription("bounced"), "bounce", {**MAUTIC_SAYS, "bounce": "address"}
        ),
        "visit": Sample(mautic_hit(redirect=None), None),
        "visit by another way": Sample(mautic_hit(source="page"), None),
        "subscribed again": Sample(mautic_subscription("contactable"), None),
        "text message": Sample(mautic_subscription("manual", "sms"), None),
        "sent": Sample(("mautic.email_on_send", {"email": {"id": 5}}), None),
    },
    broken=("mautic.teleport", {"stat": {}}),
    batches=True,
)

# listmonk

LISTMONK_CAMPAIGN = "2e7e4b51-f31b-418a-a120-e41800cb689f"
LISTMONK_SUBSCRIBER = "e44b4135-1e1d-40c5-8a30-0f9a886c2884"


def listmonk_deliver(items: Sequence[Any], key: Key, at: datetime, number: int) -> Delivery:
    """Write rows with the columns of the first; what is no row has one field."""
    del at, number
    names = list(items[0]) if isinstance(items[0], dict) else list(listmonk_row())
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for item in items:
        fields = item if isinstance(item, dict) else {names[0]: item} if names else {}
        writer.writerow([fields.get(name, "") for name in names])
    credentials = b64encode(key.private.encode()).decode()
    headers = {"Content-Type": "text/csv; charset=utf-8", "Authorization": f"Basic {credentials}"}
    return Delivery.of("POST", headers.items(), file.getvalue().encode("utf-8", "replace"))


def listmonk_row(**more: str) -> dict[str, str]:
    return {
        "campaign_uuid": LISTMONK_CAMPAIGN,
        "subscriber_uuid": LISTMONK_SUBSCRIBER,
        "email": PERSON,
        "created_at": "2026-03-02T09:30:05Z",
        **more,
    }


LISTMONK_SAYS = {
    "decision_ids": (f"{LISTMONK_CAMPAIGN}.{LISTMONK_SUBSCRIBER}",),
    "subject_id": LISTMONK_SUBSCRIBER,
    "message_id": None,
}


def listmonk_key(number: int) -> Key:
    key = password_key(number)
    others = {
        "subject_slot": "subject_line",
        "subject_id": "uuid",
        "api_url": "https://lists.example",
        "api_user": "bandits",
        "api_token": f"token {number}",
    }
    return Key({**key.fields, **others}, key.private)


LISTMONK = Sender(
    key=listmonk_key,
    deliver=listmonk_deliver,
    samples={
        "click": Sample(listmonk_row(url=LINK), "click", {**LISTMONK_SAYS, "link": LINK}),
        "view": Sample(listmonk_row(), "open", LISTMONK_SAYS),
    },
    broken=listmonk_row(url=LINK, subscriber_uuid="teleport to no id"),
)

SENDERS: Mapping[str, Sender] = {
    "amazon_ses": AMAZON,
    "brevo": BREVO,
    "listmonk": LISTMONK,
    "mailgun": MAILGUN,
    "mandrill": MANDRILL,
    "mautic": MAUTIC,
    "postmark": POSTMARK,
    "resend": RESEND,
    "sendgrid": SENDGRID,
    "sparkpost": SPARKPOST,
    "standard_webhooks": STANDARD,
}


class Web:
    """A stand-in of the network: answers by address, and the addresses that were fetched."""

    def __init__(self, answers: Mapping[str, bytes] = {}) -> None:
        self.answers = {AMAZON_CERTIFICATE: amazon_certificate(), **answers}
        self.fetched: list[str] = []

    def fetch(self, address: str) -> bytes:
        """Answer, or fail as a network does."""
        self.fetched.append(address)
        if address not in self.answers:
            raise ConnectionRefusedError(address)
        return self.answers[address]

    def certificates(self) -> CertificateCache:
        """Make an empty cache."""
        return CertificateCache(self.fetch)

"""Mandrill (Mailchimp Transactional): batches in a form, signed together with the address."""

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha1
from hmac import digest
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from webapp.signals.bounces import bounce_class
from webapp.signals.comparison import is_one_of
from webapp.signals.connection_kind import (
    ConnectionField,
    ConnectionKind,
    FieldValues,
    ProofContext,
)
from webapp.signals.delivery import FORM, Delivery, DeliveryRefused, RefusalCause
from webapp.signals.json_fields import (
    decoded_list,
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

SIGNATURE = "x-mandrill-signature"
FIELD = "mandrill_events"
TEST_KEY = "test-webhook"  # signs the empty batch that tries a new webhook, before it has a key
_MOST_FIELDS = 10
_NAMES = {
    "delivered": "delivered",
    "open": "open",
    "click": "click",
    "unsub": "unsubscribe",
    "spam": "complaint",
    "hard_bounce": "bounce",
    "reject": "bounce",
}
_IGNORED = {"send", "deferral", "soft_bounce", "blacklist", "whitelist"}
_DESCRIPTIONS: dict[str, BounceClass] = {"bad_mailbox": "address", "invalid_domain": "address"}


def _form(delivery: Delivery) -> list[tuple[str, str]]:
    """Read the form's fields in their order."""
    try:
        text = delivery.body.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise DeliveryRefused(RefusalCause.UNREADABLE, "the body is not a form") from None


def _verify(delivery: Delivery, values: FieldValues, _: ProofContext) -> None:
    """Check the HMAC-SHA1 over the address and every field's name and value, sorted by name."""
    actual = delivery.headers.get(SIGNATURE)
    if not actual:
        raise DeliveryRefused(RefusalCause.SIGNATURE_MISSING, f"the header {SIGNATURE} is missing")
    fields = _form(delivery)
    keys = [*values["webhook_key"], *([TEST_KEY] if fields == [(FIELD, "[]")] else [])]
    signed = "".join(name + value for name, value in sorted(fields))
    expected = [
        b64encode(digest(key.encode(), f"{address}{signed}".encode("utf-8", "replace"), sha1))
        for key in keys
        for address in values["url"]
    ]
    if not is_one_of(actual, expected):
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_WRONG,
            "the delivery is not signed by the webhook key for the URL of the connection",
        )


def _parse(delivery: Delivery) -> SignalBatch:
    batches = [value for name, value in _form(delivery) if name == FIELD]
    if len(batches) != 1:
        raise DeliveryRefused(RefusalCause.UNREADABLE, f"the form has no field {FIELD}, or several")
    return read_batch(decoded_list(batches[0]), _events, _alone)


def _alone(item: Any) -> Delivery:
    body = urlencode({FIELD: msgspec.json.encode([item])})
    return Delivery("POST", {}, body.encode())


def _events(item: Any) -> Iterator[SignalEvent]:
    sent_name = text_at(item, "event") or required_text(item, "type")
    if sent_name in _IGNORED:
        raise EventIgnored(sent_name)
    if sent_name not in _NAMES:
        raise EventUnreadable(f"unknown event {sent_name!r}")
    name = _NAMES[sent_name]
    message_id = message_id_at(item, "msg", "_id") or message_id_at(item, "_id")
    recipient = text_at(item, "msg", "email")
    link = loose_text(item, "url")
    yield SignalEvent(
        name=name,
        event_id=event_id(
            "mandrill", message_id, sent_name, recipient, number_of(part_at(item, "ts")), link
        ),
        occurred_at=unix_time_at(item, "ts"),
        decision_ids=passed_ids(part_at(item, "msg", "metadata")),
        message_id=message_id,
        recipient=recipient,
        link=link,
        agent=loose_text(item, "user_agent"),
        network_address=loose_text(item, "ip"),
        bounce=_bounce_class(item) if name == "bounce" else None,
    )


def _bounce_class(item: Any) -> BounceClass | None:
    description = part_at(item, "msg", "bounce_description")
    if isinstance(description, str) and description in _DESCRIPTIONS:
        return _DESCRIPTIONS[description]
    return bounce_class(part_at(item, "msg", "diag"))


_SAMPLE = """\
httpx.post(
    "https://mandrillapp.com/api/1.0/messages/send",
    json={
        "key": os.environ["MANDRILL_API_KEY"],
        "message": {
            "from_email": "news@shop.example",
            "to": [{"email": "ida@shop.example"}],
            "subject": subject,
            "html": html,
            "track_opens": True,
            "track_clicks": True,
            "metadata": passed,
        },
    },
).raise_for_status()
"""

KIND = ConnectionKind(
    name="mandrill",
    label="Mandrill (Mailchimp Transactional)",
    purpose=(
        "Events of emails that Mailchimp Transactional sends for you. Mailchimp Marketing has no"
        " such webhooks."
    ),
    fields=(
        ConnectionField(
            name="webhook_key",
            label="Webhook key",
            help="Mailchimp shows it in the list of webhooks, once the webhook is there.",
        ),
        ConnectionField(
            name="url",
            label="URL at Mailchimp",
            help="The address exactly as it stands at Mailchimp, since it is signed too.",
            secret=False,
            default="{address}",
        ),
    ),
    steps=(
        (
            "In Mailchimp Transactional, open Settings, Webhooks, and add a webhook with"
            " `{address}` as Post to URL."
        ),
        (
            "Tick Message is delivered, Message is opened, Message is clicked, Recipient"
            " unsubscribes, Message is marked as spam, Message bounced and Message is rejected."
        ),
        "Copy the webhook's key into the connection.",
    ),
    passing=(
        'Send each email with the metadata `bandits_decision`: `"metadata": {"bandits_decision":'
        ' "…"}`, or `recipient_metadata` for a message to several recipients. An email of several'
        " campaigns has `bandits_1`, `bandits_2` and so on."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "Mailchimp signs the address exactly as it was typed in there, with port and query. If"
            " you type another one than above, give it to the connection as well."
        ),
        "Metadata has a limit of some 200 bytes in all. Our ids fit.",
        (
            "Mailchimp answers 200 also where it rejects an email. A rejection is then an event,"
            " and counts as a bounce."
        ),
    ),
    proof=(
        "Mailchimp signs the webhook's URL and the form (HMAC). Old signatures are accepted,"
        " because they carry no time."
    ),
    retries=(
        "Mailchimp retries a batch until it gets 200. It tests a new webhook with a HEAD request"
        " and an empty batch."
    ),
    limits="Machine opens are not marked.",
    names={**_NAMES, **dict.fromkeys(sorted(_IGNORED), "")},
    verify=_verify,
    proof_headers=(SIGNATURE,),
    parse=_parse,
    media_types=(FORM,),
    probes=("HEAD",),
)

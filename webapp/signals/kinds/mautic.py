"""Mautic: batches by event name, signed; what is not answered is not sent again."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from hmac import digest
from typing import Any

import msgspec

from webapp.signals.api_fields import api_fields
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
    EventIgnored,
    EventUnreadable,
    SignalBatch,
    SignalEvent,
    read_batch,
)

SIGNATURE = "webhook-signature"
_OPEN = "mautic.email_on_open"
_HIT = "mautic.page_on_hit"
_SUBSCRIPTION = "mautic.lead_channel_subscription_changed"
_IGNORED = {"mautic.email_on_send"}
_SIGN_INS = {"basic", "oauth2"}
_STATUSES = {"manual": "unsubscribe", "unsubscribed": "unsubscribe", "bounced": "bounce"}


def _sign_in_fault(text: str) -> str | None:
    return None if text in _SIGN_INS else "must be basic or oauth2"


def _verify(delivery: Delivery, values: FieldValues, _: ProofContext) -> None:
    """Check the HMAC-SHA256 over the raw body, in base64."""
    actual = delivery.headers.get(SIGNATURE)
    if not actual:
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_MISSING, "give the webhook a secret at Mautic: nothing is signed"
        )
    expected = [b64encode(digest(k.encode(), delivery.body, sha256)) for k in values["secret"]]
    if not is_one_of(actual, expected):
        raise DeliveryRefused(
            RefusalCause.SIGNATURE_WRONG, "the delivery is not signed by the secret"
        )


def _parse(delivery: Delivery) -> SignalBatch:
    items = [
        (name, item)
        for name, listed in decoded_object(delivery.body).items()
        for item in (listed if isinstance(listed, list) else [listed])
    ]
    return read_batch(items, _events, _alone)


def _alone(named_item: tuple[str, Any]) -> Delivery:
    name, item = named_item
    return Delivery("POST", {}, msgspec.json.encode({name: [item]}))


def _events(named_item: tuple[str, Any]) -> Iterator[SignalEvent]:
    sent_name, item = named_item
    if sent_name == _OPEN:
        yield _open(item)
    elif sent_name == _HIT:
        yield _click(item)
    elif sent_name == _SUBSCRIPTION:
        yield _subscription(item)
    elif sent_name in _IGNORED:
        raise EventIgnored(sent_name)
    else:
        raise EventUnreadable(f"unknown event {sent_name[:100]!r}")


def _open(item: Any) -> SignalEvent:
    stat = part_at(item, "stat")
    contact = part_at(stat, "lead")
    return SignalEvent(
        name="open",
        event_id=event_id("mautic", "open", required_text(stat, "id")),  # of the first open
        occurred_at=_first_time((stat, "dateRead"), (stat, "lastOpened"), (item, "timestamp")),
        decision_ids=passed_ids(_fields(contact)),
        message_id=message_id_at(stat, "trackingHash"),
        recipient=text_at(stat, "emailAddress"),
        subject_id=text_at(contact, "id"),
    )


def _click(item: Any) -> SignalEvent:
    hit = part_at(item, "hit")
    if not part_at(hit, "redirect") or part_at(hit, "source") != "email":
        raise EventIgnored(_HIT)  # a visit of a page, not a link of an email
    contact = part_at(hit, "lead")
    subject_id, link = text_at(contact, "id"), loose_text(hit, "url")
    session = text_at(hit, "trackingId")
    return SignalEvent(
        name="click",
        event_id=event_id("mautic", "click", subject_id, session, text_at(hit, "dateHit"), link),
        occurred_at=_first_time((hit, "dateHit"), (item, "timestamp")),
        decision_ids=passed_ids(_fields(contact)),
        recipient=text_at(_fields(contact), "email"),
        subject_id=subject_id,
        link=link,
        agent=loose_text(hit, "userAgent"),
    )


def _subscription(item: Any) -> SignalEvent:
    status = required_text(item, "new_status")
    if part_at(item, "channel") != "email" or status == "contactable":
        raise EventIgnored(_SUBSCRIPTION)
    if status not in _STATUSES:
        raise EventUnreadable(f"unknown new_status {status!r}")
    contact = part_at(item, "contact")
    subject_id = text_at(contact, "id")
    return SignalEvent(
        name=_STATUSES[status],
        event_id=event_id("mautic", status, subject_id, text_at(item, "timestamp")),
        occurred_at=iso_time_at(item, "timestamp"),
        decision_ids=passed_ids(_fields(contact)),
        recipient=text_at(_fields(contact), "email"),
        subject_id=subject_id,
        bounce="address" if status == "bounced" else None,
    )


def _first_time(*places: tuple[Any, str]) -> datetime | None:
    """Return the time at the first place that holds one."""
    for item, name in places:
        if (time := iso_time_at(item, name)) is not None:
            return time
    return None


def _fields(contact: Any) -> Mapping[str, Any]:
    """Return a contact's values by field, of all groups."""
    groups = part_at(contact, "fields")
    return {
        name: part_at(field, "value")
        for group in (groups.values() if isinstance(groups, dict) else ())
        if isinstance(group, dict)
        for name, field in group.items()
    }


_SAMPLE = """\
httpx.patch(
    "https://mautic.shop.example/api/contacts/26/edit",
    auth=("api", os.environ["MAUTIC_PASSWORD"]),
    json={"bandits_subject_line": subject, **passed},
).raise_for_status()
"""

KIND = ConnectionKind(
    name="mautic",
    label="Mautic",
    purpose="Opens, clicks and unsubscribes of emails that Mautic sends.",
    fields=(
        ConnectionField(
            name="secret",
            label="Secret",
            help="The secret of the webhook at Mautic.",
            generated=True,
        ),
        *api_fields(
            "Mautic",
            use="Choices are written there by `bandits mautic push`.",
            user="API user",
            user_help="A user of Mautic, or the client ID for OAuth 2.",
            proof="API password",
            proof_help="The password of that user, or the client secret for OAuth 2.",
        ),
        ConnectionField(
            name="api_sign_in",
            label="Sign-in of the API",
            help="basic, or oauth2 for client credentials.",
            secret=False,
            default="basic",
            fault=_sign_in_fault,
        ),
    ),
    steps=(
        ("In Mautic, open Settings, Webhooks, and create a webhook with `{address}` as POST URL."),
        "Put the connection's secret into the field Secret.",
        (
            "Tick Email Open Event, Page Hit Event and Contact Channel Subscription Change Event,"
            " and save."
        ),
    ),
    passing=(
        "Write the decision's id into a custom field of the contact with the alias"
        " `bandits_decision`. For several campaigns use `bandits_1`, `bandits_2` and so on. The"
        " field holds the newest decision, so a late click on an earlier email counts for the"
        " newest. For one contact it is a call of Mautic's API, as here; for a whole segment,"
        " [`bandits mautic push`](../list-tools/mautic.md) does it."
    ),
    sample=SendSample(_SAMPLE),
    traps=(
        (
            "Mautic keeps no fields that it does not know, and says nothing. Add them to contacts"
            " first; their aliases have 25 characters at most."
        ),
        (
            "An error here loses events: Mautic does not send them again, and after 100 in a row"
            " switches the webhook off."
        ),
        "Mautic's own A/B test of an email counts its own winners. Use one of the two.",
    ),
    proof=(
        "Mautic signs the raw body with the secret (HMAC). Old signatures are accepted, because"
        " they carry no time."
    ),
    retries=(
        "Mautic retries only if it got no answer. After any answer, also an error, the events are"
        " gone. After 100 errors in a row it switches the webhook off."
    ),
    limits=(
        "Only the first open of an email counts. Mautic reports no network address, and a bounce"
        " only as a change of the contact's email channel."
    ),
    names={
        _OPEN: "open",
        f"{_HIT} from a link of an email": "click",
        f"{_HIT}, any other": "",
        f"{_SUBSCRIPTION} to manual or unsubscribed": "unsubscribe",
        f"{_SUBSCRIPTION} to bounced": "bounce",
        f"{_SUBSCRIPTION} to contactable, or of another channel": "",
        **dict.fromkeys(sorted(_IGNORED), ""),
    },
    verify=_verify,
    proof_headers=(SIGNATURE,),
    parse=_parse,
)

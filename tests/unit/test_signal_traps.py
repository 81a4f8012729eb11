"""Traps of single senders, each of which cost somebody a bug."""

import json
from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from hmac import digest

import msgspec
import pytest

from tests.senders import (
    CURRENT,
    DECISION,
    MAILGUN,
    MAUTIC,
    MAUTIC_STAT,
    PREVIOUS,
    SENDERS,
    SENT_AT,
    SPARKPOST,
    STRANGER,
    UNIX,
    Web,
    brevo_item,
    mailgun_item,
    mandrill_delivery,
    mautic_hit,
    password_delivery,
    postmark_item,
    resend_item,
    sendgrid_item,
    sparkpost_item,
    standard_delivery,
    standard_item,
    standard_key,
    values,
)
from webapp.signals.connection_kind import ProofContext
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.kind_registry import connection_kind, connection_kinds
from webapp.signals.receive import receive


def read(name, *items):
    """Read items of a sender."""
    sender = SENDERS[name]
    delivery = sender.deliver(items, sender.key(CURRENT), SENT_AT, 1)
    return connection_kind(name).parse(delivery)


def receive_for(name, delivery, key=CURRENT):
    fields = values(SENDERS[name].key(key))
    certificates = Web().certificates()
    kind = connection_kind(name)
    return receive(kind, delivery, fields, now=SENT_AT, certificates=certificates)


def refusal_of(name, delivery):
    with pytest.raises(DeliveryRefused) as caught:
        receive_for(name, delivery)
    return caught.value.cause


def test_registry_names_what_it_has() -> None:
    assert list(connection_kinds()) == sorted(connection_kinds())
    with pytest.raises(Exception, match=r"there is no kind of connection 'pigeon': there are ama"):
        connection_kind("pigeon")


# SendGrid


def test_sendgrid_may_use_one_id_for_two_events() -> None:
    items = [sendgrid_item(event, sg_event_id="same") for event in ("delivered", "open", "open")]
    ids = [e.event_id for e in read("sendgrid", *items).events]
    assert ids == ["sendgrid:same:delivered", "sendgrid:same:open", "sendgrid:same:open"]


def test_sendgrid_late_bounce_has_no_message_id_of_its_own() -> None:
    item = sendgrid_item("bounce", type="bounce", **{"smtp-id": "<m-2@x>"})
    del item["sg_message_id"], item["sg_event_id"]
    (event,) = read("sendgrid", item).events
    assert event.message_id == "m-2@x"
    assert event.event_id.startswith("sendgrid:")


def test_sendgrid_machine_open_is_told_by_true_alone() -> None:
    for flag, name in ((True, "machine_open"), (False, "open"), ("true", "open"), (None, "open")):
        (event,) = read("sendgrid", sendgrid_item("open", sg_machine_open=flag)).events
        assert (event.name, event.machine) == (name, name == "machine_open")


# Brevo


@pytest.mark.parametrize(
    ("custom", "ids"),
    [
        (DECISION, (DECISION,)),
        ("bandits_decision:own-17", ("own-17",)),
        (f"bandits_1:{DECISION} | bandits_2:b:c", (DECISION, "b:c")),
        (json.dumps({"bandits_1": "a", "user": 5}), ("a",)),
        ("a text of somebody else", ()),
        ("own-17", ()),
        ("{no json", ()),
        ("", ()),
    ],
)
def test_brevo_passes_one_text_for_everything(custom: str, ids: tuple[str, ...]) -> None:
    (event,) = read("brevo", brevo_item("click", **{"X-Mailin-custom": custom})).events
    assert event.decision_ids == ids


@pytest.mark.parametrize(
    "times",
    [
        {"ts_epoch": UNIX * 1000, "ts_event": UNIX + 3600},
        {"ts_epoch": UNIX, "ts_event": UNIX + 3600},
        {"s_epoch": UNIX * 1000, "ts": UNIX + 3600},
        {"ts_event": UNIX, "ts": UNIX + 3600},
        {"ts": UNIX},
    ],
)
def test_brevo_time_is_in_either_unit_and_utc_comes_first(times) -> None:
    item = brevo_item("click")
    for name in ("ts_epoch", "ts_event", "ts"):
        del item[name]
    (event,) = read("brevo", {**item, **times}).events
    assert event.occurred_at == SENT_AT


def test_brevo_sends_single_events_too() -> None:
    key = SENDERS["brevo"].key(CURRENT)
    single = receive_for("brevo", password_delivery(brevo_item("click"), key)).events
    assert single == receive_for("brevo", password_delivery([brevo_item("click")], key)).events


def test_brevo_message_id_has_brackets_or_not() -> None:
    items = [brevo_item("click", **{"message-id": text}) for text in ("<m-1>", "m-1")]
    first, second = read("brevo", *items).events
    assert first.event_id == second.event_id


# Passwords


def test_password_may_be_a_bearer_token() -> None:
    key = SENDERS["sparkpost"].key(CURRENT)
    delivery = password_delivery([sparkpost_item("delivery")], key)
    for token, fits in ((key.fields["password"], True), ("another", False), ("", False)):
        headers = {**delivery.headers, "authorization": f"Bearer {token}"}
        bearer = Delivery("POST", headers, delivery.body)
        if fits:
            assert receive_for("sparkpost", bearer).events
        else:
            assert refusal_of("sparkpost", bearer) is RefusalCause.SIGNATURE_WRONG


def test_user_name_and_password_of_two_keys_may_meet_during_a_rotation() -> None:
    kind = connection_kind("postmark")
    fields = {"username": ("new", "old"), "password": ("new password", "old password")}
    body = json.dumps(postmark_item("Delivery", "DeliveredAt")).encode()
    for user in ("new", "old"):
        for password in ("new password", "old password"):
            credentials = b64encode(f"{user}:{password}".encode()).decode()
            kind.verify(
                Delivery("POST", {"authorization": f"basic  {credentials}"}, body),
                fields,
                ProofContext(SENT_AT, Web().certificates()),
            )


# Mandrill


@pytest.mark.parametrize("name", ["mandrill"])
def test_mandrill_tries_a_new_webhook_by_an_empty_batch(name: str) -> None:
    batch = receive_for(name, mandrill_delivery("[]", "test-webhook"))
    assert batch.events == batch.unreadable == ()
    events = json.dumps([{"event": "open"}])
    forged = mandrill_delivery(events, "test-webhook")
    assert refusal_of(name, forged) is RefusalCause.SIGNATURE_WRONG


def test_mandrill_form_with_many_fields_is_refused() -> None:
    body = b"&".join(b"f%d=1" % n for n in range(1000))
    delivery = mandrill_delivery("[]", "test-webhook")
    delivery = msgspec.structs.replace(delivery, body=body)
    assert refusal_of("mandrill", delivery) is RefusalCause.UNREADABLE


def test_mandrill_url_has_to_be_the_one_at_mailchimp() -> None:
    kind = connection_kind("mandrill")
    delivery = mandrill_delivery("[]", SENDERS["mandrill"].key(CURRENT).private)
    fields = {**values(SENDERS["mandrill"].key(CURRENT)), "url": ("https://bandits.example/x",)}
    with pytest.raises(DeliveryRefused) as caught:
        kind.verify(delivery, fields, ProofContext(SENT_AT, Web().certificates()))
    assert caught.value.cause is RefusalCause.SIGNATURE_WRONG


# Mailgun


def test_mailgun_subaccount_is_signed_by_its_parent_too() -> None:
    delivery = MAILGUN.deliver([mailgun_item("opened")], MAILGUN.key(STRANGER), SENT_AT, 1)
    content = json.loads(delivery.body)
    block = content["signature"]
    signed = f"{block['timestamp']}{block['token']}".encode()
    block["parent-signature"] = digest(MAILGUN.key(CURRENT).private.encode(), signed, sha256).hex()
    delivery = msgspec.structs.replace(delivery, body=json.dumps(content).encode())
    assert receive_for("mailgun", delivery).events
    assert refusal_of("mailgun", MAILGUN.deliver([{}], MAILGUN.key(PREVIOUS), SENT_AT, 1)) is (
        RefusalCause.SIGNATURE_WRONG
    )


def test_mailgun_id_is_its_own_only_within_a_day() -> None:
    times = [SENT_AT.timestamp(), SENT_AT.timestamp() + 86_400.5]
    ids = {
        event.event_id
        for time in times
        for event in read("mailgun", {**mailgun_item("opened"), "timestamp": time}).events
    }
    assert len(ids) == 2


def test_mailgun_retry_with_another_token_has_the_same_event_id() -> None:
    deliveries = [
        MAILGUN.deliver([mailgun_item("clicked")], MAILGUN.key(CURRENT), SENT_AT, number)
        for number in (1, 2)
    ]
    first, second = (receive_for("mailgun", delivery).events for delivery in deliveries)
    assert first == second


# SparkPost


def test_sparkpost_opens_by_two_pixels_are_one() -> None:
    items = [
        sparkpost_item(event, "track_event", message_id="e-1", event_id=event)
        for event in ("initial_open", "open")
    ]
    first, second = read("sparkpost", *items).events
    assert first.event_id == second.event_id
    other = sparkpost_item("open", "track_event", message_id="e-2", event_id="open")
    assert read("sparkpost", other).events[0].event_id != first.event_id


def test_sparkpost_ping_is_a_success() -> None:
    delivery = SPARKPOST.deliver([{"msys": {}}], SPARKPOST.key(CURRENT), SENT_AT, 1)
    assert receive_for("sparkpost", delivery).ignored == {"ping": 1}


# Resend and Standard Webhooks


def test_resend_recipient_is_named_only_where_there_is_one() -> None:
    for to, recipient in (
        (["Ida <ida@shop.example>"], "ida@shop.example"),
        (["a@x", "b@x"], None),
        ([], None),
    ):
        (event,) = read("resend", resend_item("email.opened", to=to)).events
        assert event.recipient == recipient


def test_resend_click_happened_when_it_says() -> None:
    click = {"timestamp": "2026-03-02T09:00:00Z", "link": "x"}
    (event,) = read("resend", resend_item("email.clicked", click=click)).events
    assert event.occurred_at == SENT_AT - timedelta(minutes=30, seconds=5)


@pytest.mark.parametrize("by", [1, 1000, 1.0, 1000.0])
def test_standard_event_may_count_seconds_or_milliseconds(by: float) -> None:
    item = standard_item("order") | {"timestamp": SENT_AT.timestamp() * by}
    (event,) = read("standard_webhooks", item).events
    assert event.occurred_at == SENT_AT


def test_standard_event_id_is_that_of_the_delivery() -> None:
    for own_id, expected in (
        ("order-17", "standard_webhooks:order-17"),
        ("a:b", "standard_webhooks:"),
        ("é" * 300, "standard_webhooks:"),
    ):
        delivery = standard_delivery(standard_item("order"), standard_key(CURRENT), SENT_AT, own_id)
        (event,) = receive_for("standard_webhooks", delivery).events
        assert event.event_id.startswith(expected)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (standard_item("two words"), "type is not"),
        (standard_item(""), "type is missing"),
        (standard_item("x" * 65), "type is not"),
        (standard_item("order", value=True), "data.value is not"),
        (standard_item("order", value=None), "data.value is not"),
        ({"type": "order", "data": []}, "data is not an object"),
        ({"type": "order", "data": {}, "timestamp": "today"}, "timestamp is not"),
    ],
)
def test_standard_event_that_does_not_fit_is_told(item, reason: str) -> None:
    (unreadable,) = read("standard_webhooks", item).unreadable
    assert unreadable.reason.startswith(reason)


def test_standard_signature_of_another_version_alone_is_refused() -> None:
    delivery = standard_delivery(standard_item("order"), standard_key(CURRENT), SENT_AT, "o-1")
    signature = delivery.headers["webhook-signature"]
    for other in (signature.replace("v1,", "v1a,"), signature.replace(" ", ""), "v1", "v1,"):
        headers = {**delivery.headers, "webhook-signature": other}
        changed = Delivery("POST", headers, delivery.body)
        assert refusal_of("standard_webhooks", changed) is RefusalCause.SIGNATURE_WRONG


# Mautic


def test_mautic_counts_the_first_open() -> None:
    later = {**MAUTIC_STAT, "openCount": 5, "lastOpened": "2026-03-09T10:30:05+01:00"}
    name = "mautic.email_on_open"
    first, second = read("mautic", (name, {"stat": MAUTIC_STAT}), (name, {"stat": later})).events
    assert first == msgspec.structs.replace(second, position=0)
    assert first.occurred_at == SENT_AT


def test_mautic_clicks_of_two_moments_are_two() -> None:
    items = [mautic_hit(), mautic_hit(dateHit="2026-03-02T10:30:06+01:00"), mautic_hit()]
    ids = [event.event_id for event in read("mautic", *items).events]
    assert ids[0] == ids[2] != ids[1]


def test_mautic_item_outside_a_list_is_read_too() -> None:
    body = json.dumps({"mautic.email_on_open": {"stat": MAUTIC_STAT}}).encode()
    (event,) = connection_kind("mautic").parse(Delivery("POST", {}, body)).events
    assert event.event_id == "mautic:open:8"
    assert MAUTIC.batches

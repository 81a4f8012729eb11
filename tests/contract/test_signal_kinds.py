"""What every kind of sender must do: prove, read and answer deliveries, and survive any other."""

import copy
import json
import re
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandits.rewards import LISTED_EVENTS
from bandits.schemas import Id
from tests.senders import (
    CURRENT,
    DECISION,
    PERSON,
    PREVIOUS,
    SENDERS,
    SENT_AT,
    STRANGER,
    Web,
    values,
)
from webapp.signals.connection_kind import ProofContext
from webapp.signals.delivery import MAX_BODY_BYTES, Delivery, DeliveryRefused, RefusalCause
from webapp.signals.kind_registry import connection_kinds
from webapp.signals.receive import check_head, receive
from webapp.signals.signal_event import SignalBatch, SignalEvent, UnreadableEvent

NOW = SENT_AT + timedelta(seconds=20)
KINDS = connection_kinds()
every_kind = pytest.mark.parametrize("name", sorted(KINDS))
every_sample = pytest.mark.parametrize(
    ("name", "title"), [(n, title) for n, sender in SENDERS.items() for title in sender.samples]
)
BY_PASSWORD = {"brevo", "listmonk", "postmark", "sparkpost"}
BATCHING = [name for name, sender in SENDERS.items() if sender.batches]

# What each sender is answered; what is not in its row, it is answered as in the first.
EXPECTED = {
    "": {
        RefusalCause.SIGNATURE_MISSING: 401,
        RefusalCause.SIGNATURE_WRONG: 401,
        RefusalCause.SIGNATURE_STALE: 401,
        RefusalCause.UNREADABLE: 400,
        RefusalCause.TOO_LARGE: 413,
        RefusalCause.MEDIA_TYPE: 415,
        RefusalCause.METHOD: 405,
        RefusalCause.UNAVAILABLE: 503,
    },
    "brevo": {RefusalCause.UNAVAILABLE: 429},
    "mailgun": {
        RefusalCause.SIGNATURE_STALE: 406,
        RefusalCause.UNREADABLE: 406,
        RefusalCause.TOO_LARGE: 406,
        RefusalCause.MEDIA_TYPE: 406,
    },
}
REFUSE_OLD = {"mailgun", "resend", "standard_webhooks"}
SIGNATURES = {  # the headers without which nothing is proved
    "brevo": ["authorization"],
    "listmonk": ["authorization"],
    "mandrill": ["x-mandrill-signature"],
    "mautic": ["webhook-signature"],
    "postmark": ["authorization"],
    "resend": ["svix-id", "svix-timestamp", "svix-signature"],
    "sendgrid": [
        "x-twilio-email-event-webhook-signature",
        "x-twilio-email-event-webhook-timestamp",
    ],
    "sparkpost": ["authorization"],
    "standard_webhooks": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}
IN_THE_BODY = {"amazon_ses": ["Signature", "TopicArn"], "mailgun": ["signature"]}


def receive_as(name, delivery, *keys, now=NOW, web=None):
    """Receive for a connection that takes these keys."""
    sender = SENDERS[name]
    fields = values(*(sender.key(number) for number in keys or (CURRENT,)))
    certificates = (web or Web()).certificates()
    return receive(KINDS[name], delivery, fields, now=now, certificates=certificates)


def deliver(name, *items, key=CURRENT, at=SENT_AT, number=1):
    """Sign and send items; the first sample unless given."""
    sender = SENDERS[name]
    items = items or (next(iter(sender.samples.values())).item,)
    return sender.deliver(items, sender.key(key), at, number)


def refusal_of(name, delivery, *keys, **options):
    """Receive what has to be refused, and return its cause."""
    with pytest.raises(DeliveryRefused) as caught:
        receive_as(name, delivery, *keys, **options)
    assert caught.value.detail
    return caught.value.cause


def body_with(delivery, change):
    """Change the decoded body of a delivery."""
    content = json.loads(delivery.body)
    change(content)
    return msgspec.structs.replace(delivery, body=json.dumps(content).encode())


def test_every_kind_has_a_sender() -> None:
    assert set(SENDERS) == set(KINDS)
    assert set(SIGNATURES) | set(IN_THE_BODY) == set(KINDS)


@every_sample
def test_event_is_read(name: str, title: str) -> None:
    sample = SENDERS[name].samples[title]
    batch = receive_as(name, deliver(name, sample.item))
    assert batch.unreadable == ()
    assert batch.confirmation is None
    if sample.name is None:
        assert batch.events == ()
        assert sum(batch.ignored.values()) == 1
        return
    (event,) = batch.events
    expected = {
        "name": sample.name,
        "event_id": event.event_id,
        "occurred_at": SENT_AT,
        "decision_ids": (DECISION,),
        "message_id": "m-1",
        "recipient": PERSON,
        **sample.says,
    }
    assert event == SignalEvent(**expected)


@every_kind
def test_events_of_a_kind_are_listed_ones_or_metrics(name: str) -> None:
    names = {s.name for s in SENDERS[name].samples.values()} - {None, "margin-2"}
    assert names <= set(LISTED_EVENTS)
    ours = set(KINDS[name].names.values()) - {"", "that metric"}
    assert ours <= set(LISTED_EVENTS)
    assert names <= ours


@every_kind
def test_event_ids_stay_the_same_when_a_delivery_comes_again(name: str) -> None:
    sender = SENDERS[name]
    ids = []
    for number, sample in enumerate(s for s in sender.samples.values() if s.name is not None):
        first, again = (
            receive_as(name, deliver(name, sample.item, at=at, number=number), now=at)
            for at in (SENT_AT, SENT_AT + timedelta(minutes=30))
        )
        assert [e.event_id for e in first.events] == [e.event_id for e in again.events]
        ids += [e.event_id for e in first.events]
    assert len(set(ids)) == len(ids)
    for one in ids:
        assert one.startswith(f"{name}:")
        assert msgspec.convert(one, Id) == one


@pytest.mark.parametrize("name", BATCHING)
def test_event_ids_do_not_depend_on_the_batch(name: str) -> None:
    items = [s.item for s in SENDERS[name].samples.values() if s.name is not None]
    together = receive_as(name, deliver(name, *items)).events
    alone = [receive_as(name, deliver(name, item)).events[0] for item in reversed(items)]
    assert {e.event_id for e in together} == {e.event_id for e in alone}


@every_kind
def test_stranger_is_refused(name: str) -> None:
    assert refusal_of(name, deliver(name, key=STRANGER)) is RefusalCause.SIGNATURE_WRONG


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_missing_signature_is_refused(name: str) -> None:
    delivery = deliver(name)
    for header in SIGNATURES[name]:
        headers = {n: v for n, v in delivery.headers.items() if n != header}
        assert len(headers) == len(delivery.headers) - 1
        bare = Delivery("POST", headers, delivery.body)
        assert refusal_of(name, bare) is RefusalCause.SIGNATURE_MISSING


@every_kind
def test_delivery_is_refused_by_its_head_where_that_shows_that_nothing_proves_it(name: str) -> None:
    """16 bodies that nothing proved, half-sent, shut every other delivery out."""

    def cause(delivery):
        head = msgspec.structs.replace(delivery, body=b"")
        fields = values(SENDERS[name].key(CURRENT))
        try:
            check_head(KINDS[name], head, fields, ProofContext(NOW, Web().certificates()))
        except DeliveryRefused as error:
            return error.cause
        return None

    delivery = deliver(name)
    assert cause(delivery) is None
    other = {**delivery.headers, "content-type": "image/png"}
    assert cause(Delivery("POST", other, b"")) is RefusalCause.MEDIA_TYPE
    bare = Delivery("POST", {"content-type": delivery.headers["content-type"]}, b"")
    missing = None if name in IN_THE_BODY else RefusalCause.SIGNATURE_MISSING
    assert cause(bare) is missing
    stranger = RefusalCause.SIGNATURE_WRONG if name in BY_PASSWORD else None
    assert cause(deliver(name, key=STRANGER)) is stranger


@pytest.mark.parametrize("name", sorted(IN_THE_BODY))
def test_missing_signature_in_the_body_is_refused(name: str) -> None:
    for field in IN_THE_BODY[name]:
        bare = body_with(deliver(name), lambda content, field=field: content.pop(field))
        assert refusal_of(name, bare) is RefusalCause.SIGNATURE_MISSING


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"mailgun"} - BY_PASSWORD))
def test_body_that_was_changed_is_refused(name: str) -> None:
    delivery = deliver(name)
    changed = delivery.body.replace(DECISION.encode(), DECISION[::-1].encode())
    assert changed != delivery.body
    delivery = msgspec.structs.replace(delivery, body=changed)
    assert refusal_of(name, delivery) is RefusalCause.SIGNATURE_WRONG


@every_kind
def test_signature_by_the_previous_key_is_taken_while_both_hold(name: str) -> None:
    old = deliver(name, key=PREVIOUS)
    assert receive_as(name, old, CURRENT, PREVIOUS).events
    assert receive_as(name, deliver(name), CURRENT, PREVIOUS).events
    assert refusal_of(name, old, CURRENT) is RefusalCause.SIGNATURE_WRONG
    stranger = deliver(name, key=STRANGER)
    assert refusal_of(name, stranger, CURRENT, PREVIOUS) is RefusalCause.SIGNATURE_WRONG


@every_kind
def test_old_signature_is_refused_only_where_no_retry_has_one(name: str) -> None:
    late = SENT_AT + timedelta(days=2)
    assert (KINDS[name].oldest is not None) == (name in REFUSE_OLD)
    if name in REFUSE_OLD:
        assert refusal_of(name, deliver(name), now=late) is RefusalCause.SIGNATURE_STALE
        assert receive_as(name, deliver(name, at=late), now=late).events
    else:
        assert receive_as(name, deliver(name), now=late).events


@pytest.mark.parametrize("name", ["resend", "standard_webhooks"])
def test_signature_holds_for_five_minutes_either_way(name: str) -> None:
    delivery = deliver(name)
    for minutes in (-5, 5):
        assert receive_as(name, delivery, now=SENT_AT + timedelta(minutes=minutes)).events
        later = SENT_AT + timedelta(minutes=minutes * 1.01)
        assert refusal_of(name, delivery, now=later) is RefusalCause.SIGNATURE_STALE


@every_kind
def test_answers_are_those_that_the_sender_expects(name: str) -> None:
    kind = KINDS[name]
    assert kind.answer().status == 200
    for cause in RefusalCause:
        assert kind.answer(cause).status == {**EXPECTED[""], **EXPECTED.get(name, {})}[cause]
    assert int(kind.answer(RefusalCause.UNAVAILABLE).headers["Retry-After"]) > 0
    assert kind.answer(RefusalCause.METHOD).headers["Allow"].startswith("POST")
    challenge = kind.answer(RefusalCause.SIGNATURE_MISSING).headers
    assert ("WWW-Authenticate" in challenge) == (name in BY_PASSWORD)


@every_kind
def test_unreadable_event_takes_no_other_with_it(name: str) -> None:
    sender = SENDERS[name]
    good = next(iter(sender.samples.values())).item
    items = [good, sender.broken, good] if sender.batches else [sender.broken]
    batch = receive_as(name, deliver(name, *items))
    (unreadable,) = batch.unreadable
    grouped = name == "mautic"  # by name, so that the unknown one comes last
    assert unreadable.position == (2 if grouped else len(items) // 2)
    assert "teleport" in unreadable.reason.lower() or "value" in unreadable.reason
    others = [n for n in range(len(items)) if n != unreadable.position]
    assert [e.position for e in batch.events] == others
    (again,) = KINDS[name].parse(unreadable.delivery).unreadable
    assert again.reason == unreadable.reason
    assert again.position == 0


@every_kind
def test_unreadable_event_has_the_same_id_when_it_is_read_again(name: str) -> None:
    wrong = "bandits_decision:not an id" if name == "brevo" else "not an id"
    for sample in SENDERS[name].samples.values():
        item = replaced(sample.item, DECISION, wrong)
        if sample.name is None or item == sample.item:
            continue
        (expected,) = receive_as(name, deliver(name, sample.item)).events
        (unreadable,) = receive_as(name, deliver(name, item)).unreadable
        assert "bandits_decision is not 1 to 128" in unreadable.reason
        stored = msgspec.json.decode(msgspec.json.encode(unreadable), type=UnreadableEvent)
        body = stored.delivery.body
        for text in (b"not an id", b"not+an+id"):
            body = body.replace(text, DECISION.encode())
        (event,) = KINDS[name].parse(Delivery("POST", stored.delivery.headers, body)).events
        assert event == expected


def replaced(value, old, new):
    """Replace a text wherever it stands in a value of JSON."""
    if isinstance(value, dict):
        return {name: replaced(part, old, new) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(part, old, new) for part in value)
    return new if value == old else value


@every_kind
def test_method_other_than_post_is_refused_unless_it_probes(name: str) -> None:
    for method in ("HEAD", "GET", "PUT"):
        delivery = msgspec.structs.replace(deliver(name, key=STRANGER), method=method)
        if method in KINDS[name].probes:
            assert receive_as(name, delivery) == SignalBatch()
        else:
            assert refusal_of(name, delivery) is RefusalCause.METHOD


def test_mandrill_alone_probes_by_head() -> None:
    assert {n: k.probes for n, k in KINDS.items() if k.probes} == {"mandrill": ("HEAD",)}


@every_kind
def test_body_of_another_type_is_refused(name: str) -> None:
    delivery = deliver(name)
    for header, value in (
        ("content-type", "application/xml"),
        ("content-type", ""),
        ("content-encoding", "gzip"),
    ):
        other = Delivery("POST", {**delivery.headers, header: value}, delivery.body)
        assert refusal_of(name, other) is RefusalCause.MEDIA_TYPE


@every_kind
def test_huge_body_is_refused(name: str) -> None:
    delivery = deliver(name)
    most = KINDS[name].max_body_bytes
    assert len(delivery.body) < most <= MAX_BODY_BYTES
    huge = msgspec.structs.replace(delivery, body=b" " * (most + 1))
    assert refusal_of(name, huge) is RefusalCause.TOO_LARGE


@every_kind
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"[" * 40 + b"]" * 40,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 100_000,
        b'{"msys": "\\ud800"}',
        b"[" + b"9" * 5000 + b"]",
        b"[1e999]",
    ],
    ids=[str(n) for n in range(12)],
)
def test_body_that_is_no_batch_is_refused_or_unreadable(name: str, body: bytes) -> None:
    batch = parsed(name, Delivery("POST", {}, body))
    if batch is not None:
        assert batch.events == ()
        assert batch.unreadable or batch == SignalBatch()


@pytest.mark.parametrize("name", BATCHING)
def test_too_many_events_are_refused(name: str) -> None:
    broken = SENDERS[name].broken
    small = (broken[0], 1) if name == "mautic" else 1
    assert refusal_of(name, deliver(name, *[small] * 10_001)) is RefusalCause.TOO_LARGE
    assert len(receive_as(name, deliver(name, *[small] * 10_000)).unreadable) == 10_000


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(
        ["", "open", "2026-03-02", "0001-01-01T00:00:00+14:00", "1e400", "\x00", "5.1.1"]
    )
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(value, path=()):
    """List the paths of every part of a value of JSON."""
    yield path
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, part in parts:
        yield from paths(part, (*path, name))


def put(value, path, part):
    """Put another part at a path."""
    if not path:
        return part
    value = copy.copy(value)
    value[path[0]] = put(value[path[0]], path[1:], part)
    return value


@st.composite
def mutations(draw):
    """Draw a kind and one of its items, a part or two of which is anything."""
    name = draw(st.sampled_from(sorted(SENDERS)))
    sample = draw(st.sampled_from([s.item for s in SENDERS[name].samples.values()]))
    item = list(sample) if isinstance(sample, tuple) else sample
    for _ in range(draw(st.integers(1, 2))):
        item = put(item, draw(st.sampled_from(list(paths(item)))), draw(JSON_VALUES))
    return name, sample, item


@given(mutations())
def test_event_of_any_shape_is_read_or_unreadable(mutation) -> None:
    name, sample, item = mutation
    sender = SENDERS[name]
    if isinstance(sample, tuple):  # of Mautic: its name stays a text
        item = (item[0], item[1]) if isinstance(item, list) and len(item) == 2 else sample
        item = (str(item[0]), item[1])
    body = sender.deliver([item], sender.key(CURRENT), SENT_AT, 1).body
    body = re.sub(rb"\b(NaN|-?Infinity)\b", b"1e999", body)
    check_batch(name, Delivery("POST", {}, body))


@given(st.sampled_from(sorted(SENDERS)), st.binary(max_size=200))
def test_body_of_any_bytes_is_refused_or_unreadable(name: str, body: bytes) -> None:
    check_batch(name, Delivery("POST", {}, body))


def parsed(name, delivery):
    """Parse; None where the delivery is refused as unreadable, the one cause that there may be."""
    try:
        return KINDS[name].parse(delivery)
    except DeliveryRefused as refused:
        if refused.cause is not RefusalCause.UNREADABLE:
            raise
        return None


def check_batch(name, delivery):
    """Parse; whatever comes of it can be stored."""
    batch = parsed(name, delivery)
    if batch is None:
        return
    for event in batch.events:
        assert msgspec.convert(event.event_id, Id) == event.event_id
        assert event.occurred_at is None or 2000 <= event.occurred_at.year <= 2200
        assert all(msgspec.convert(one, Id) == one for one in event.decision_ids)
        texts = (event.name, event.message_id, event.recipient, event.link, event.agent)
        assert not any("\x00" in text for text in texts if text is not None)
        stored = msgspec.json.encode(event)
        assert msgspec.json.decode(stored, type=SignalEvent) == event
    for unreadable in batch.unreadable:
        assert KINDS[name].parse(unreadable.delivery).events == ()


@given(
    st.sampled_from(sorted(SENDERS)),
    st.dictionaries(
        st.sampled_from(sorted({h for names in SIGNATURES.values() for h in names})),
        st.text(max_size=60)
        | st.sampled_from(["Basic", "Basic ====", "Bearer ", "v1,", "v1,é", "²"]),
    ),
    st.binary(max_size=100) | st.sampled_from([b"{}", b"[]", b'{"Signature": "", "TopicArn": ""}']),
)
def test_forged_delivery_is_refused_whatever_its_headers(name, headers, body) -> None:
    kind = KINDS[name]
    delivery = Delivery("POST", {**headers, "content-type": kind.media_types[0]}, body)
    assert refusal_of(name, delivery) in {
        RefusalCause.SIGNATURE_MISSING,
        RefusalCause.SIGNATURE_WRONG,
        RefusalCause.UNREADABLE,
    }


@every_kind
def test_fields_check_their_values(name: str) -> None:
    key = SENDERS[name].key(CURRENT)
    assert {field.name for field in KINDS[name].fields} == set(key.fields)
    for field in KINDS[name].fields:
        assert field.fault(key.fields[field.name]) is None
        assert field.label
        assert field.help.endswith(".")
        if field.generated:
            made = field.generate()
            assert field.fault(made) is None
            assert made != field.generate()
            assert not field.required


@every_kind
def test_malformed_stored_value_proves_nothing(name: str) -> None:
    fields = {field.name: ("?",) for field in KINDS[name].fields}
    with pytest.raises(DeliveryRefused) as caught:
        receive(KINDS[name], deliver(name), fields, now=NOW, certificates=Web().certificates())
    assert caught.value.cause is RefusalCause.SIGNATURE_WRONG


@every_kind
def test_refusal_tells_nothing_of_the_body_or_the_key(name: str) -> None:
    for delivery in (deliver(name, key=STRANGER), Delivery("POST", {}, b"ida@shop.example")):
        with pytest.raises(DeliveryRefused) as caught:
            receive_as(name, delivery)
        said = str(caught.value)
        assert PERSON not in said
        assert not any(v in said for v in SENDERS[name].key(CURRENT).fields.values())

"""Amazon's certificates and confirmations: fetched from its own hosts only, seldom, and kept."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import msgspec
import pytest

from tests.senders import (
    AMAZON_CERTIFICATE,
    CURRENT,
    PREVIOUS,
    SENT_AT,
    Web,
    amazon_certificate,
    amazon_deliver,
    amazon_delivery,
    amazon_envelope,
    amazon_item,
    amazon_key,
    values,
)
from webapp.signals.certificates import FETCHES_A_MINUTE
from webapp.signals.delivery import DeliveryRefused, RefusalCause
from webapp.signals.kind_registry import connection_kind
from webapp.signals.kinds.amazon_ses import CERTIFICATE_ADDRESS, CONFIRMATION_ADDRESS
from webapp.signals.receive import receive
from webapp.signals.signal_event import SignalBatch

AMAZON = connection_kind("amazon_ses")
CONFIRMATION = (
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=a:b&Token=2f3"
)
ITEM = amazon_item("Open", open={})


def receive_from_amazon(delivery, certificates, now=SENT_AT):
    fields = values(amazon_key(CURRENT))
    return receive(AMAZON, delivery, fields, now=now, certificates=certificates)


def refusal_of(delivery, certificates, now=SENT_AT):
    with pytest.raises(DeliveryRefused) as caught:
        receive_from_amazon(delivery, certificates, now)
    return caught.value.cause


def deliver():
    return amazon_deliver([ITEM], amazon_key(CURRENT), SENT_AT, 1)


def confirmation(address=CONFIRMATION, key=CURRENT):
    envelope = amazon_envelope(
        "SubscriptionConfirmation",
        amazon_key(key),
        Message="You have chosen to subscribe.",
        SubscribeURL=address,
        Token="2f3",
    )
    return amazon_delivery(envelope)


def with_certificate_at(address):
    delivery = deliver()
    content = {**json.loads(delivery.body), "SigningCertURL": address}
    return msgspec.structs.replace(delivery, body=json.dumps(content).encode())


PATH = "/SimpleNotificationService-0a1b2c.pem"
LOOK_ALIKES = [
    "http://sns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com.evil.example",
    "https://evil.example/sns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com@evil.example",
    "https://evil.example#sns.eu-west-1.amazonaws.com",
    "https://evil.example?sns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com:8443",
    "https://user@sns.eu-west-1.amazonaws.com",
    "https://sns.evil.eu-west-1.amazonaws.com",
    "https://sns-eu-west-1.amazonaws.com",
    "https://xsns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com.",
    "https://sns.eu-west-1.amazonaws.com.cnn",
    "https://sns.eu-west-1.amazonaws.co",
    "https://sns.eu-west-1-amazonaws.com",
    "https://sns.eu-west-1.amazonawsxcom",
    "https://sns.s3-eu-west-1.amazonaws.com",  # a bucket that anybody may have
    "https://sns.s3.amazonaws.com",
    "https://sns.s3-accelerate.amazonaws.com",
    "https://sns.execute-api.amazonaws.com",
    "https://sns.amazonaws.com",
    "https://sns..amazonaws.com",
    "https://sns.eu-west-１.amazonaws.com",
    "https://ѕns.eu-west-1.amazonaws.com",
    "https://SNS.EU-WEST-1.AMAZONAWS.COM",
    "https://sns.eu-west-1.amazonaws.com\\.evil.example",
    "https://sns.eu-west-1.amazonaws.com%2eevil.example",
    "//sns.eu-west-1.amazonaws.com",
    "file:///etc",
    "https://127.0.0.1",
    "https://[::1]",
    "https://169.254.169.254",
    "https://sns.eu-west-1.amazonaws.com\n",
    "\nhttps://sns.eu-west-1.amazonaws.com",
]
OTHER_PATHS = [
    "",
    "/",
    "/SimpleNotificationService-.pem",
    "/SimpleNotificationService-0a1b2c.pem?x=1",
    "/SimpleNotificationService-0a1b2c.pem#x",
    "/SimpleNotificationService-0a1b2c.pem\n",
    "/SimpleNotificationService-../../x.pem",
    "/x/SimpleNotificationService-0a1b2c.pem",
    "/SimpleNotificationService-0a1b2c.crt",
]


@pytest.mark.parametrize(
    "address",
    [host + PATH for host in LOOK_ALIKES]
    + [f"https://sns.eu-west-1.amazonaws.com{path}" for path in OTHER_PATHS],
)
def test_certificate_of_a_look_alike_is_never_fetched(address: str) -> None:
    web = Web({address: amazon_certificate()})
    assert refusal_of(with_certificate_at(address), web.certificates()) is (
        RefusalCause.SIGNATURE_WRONG
    )
    assert web.fetched == []


@pytest.mark.parametrize(
    "region", ["us-east-1", "ap-southeast-2", "us-gov-west-1", "us-iso-east-1"]
)
def test_certificates_of_amazons_regions_are_taken(region: str) -> None:
    assert CERTIFICATE_ADDRESS.fullmatch(f"https://sns.{region}.amazonaws.com{PATH}")
    assert CONFIRMATION_ADDRESS.fullmatch(
        f"https://sns.{region}.amazonaws.com/?Action=ConfirmSubscription&Token=2f3"
    )


def test_certificates_of_china_are_taken() -> None:
    assert CERTIFICATE_ADDRESS.fullmatch(f"https://sns.cn-north-1.amazonaws.com.cn{PATH}")


@pytest.mark.parametrize(
    "address",
    [f"{host}/?Action=ConfirmSubscription&Token=2f3" for host in LOOK_ALIKES]
    + [
        "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&Token=2f3",
        "https://sns.eu-west-1.amazonaws.com/admin?Action=ConfirmSubscription&Token=2f3",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2f3 x",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=2f3\n",
    ],
)
def test_confirmation_at_a_look_alike_is_never_fetched(address: str) -> None:
    web = Web({address: b""})
    assert refusal_of(confirmation(address), web.certificates()) is RefusalCause.UNREADABLE
    assert web.fetched == [AMAZON_CERTIFICATE]


def test_subscription_is_confirmed_by_fetching_its_address() -> None:
    web = Web({CONFIRMATION: b"<ConfirmSubscriptionResponse/>"})
    certificates = web.certificates()
    assert receive_from_amazon(confirmation(), certificates) == SignalBatch(
        confirmation=CONFIRMATION
    )
    assert web.fetched == [AMAZON_CERTIFICATE, CONFIRMATION]


def test_subscription_of_another_topic_is_never_confirmed() -> None:
    # Whoever has an account at Amazon can have it sign a confirmation of a topic of their own.
    web = Web({CONFIRMATION: b""})
    cause = refusal_of(confirmation(key=PREVIOUS), web.certificates())
    assert cause is RefusalCause.SIGNATURE_WRONG
    assert web.fetched == []


def test_confirmation_that_fails_lets_amazon_come_again() -> None:
    web = Web()
    assert refusal_of(confirmation(), web.certificates()) is RefusalCause.UNAVAILABLE


def test_notice_of_the_end_of_a_subscription_is_ignored() -> None:
    envelope = amazon_envelope(
        "UnsubscribeConfirmation",
        amazon_key(CURRENT),
        Message="You have chosen to unsubscribe.",
        SubscribeURL=CONFIRMATION,
        Token="2f3",
    )
    web = Web()
    batch = receive_from_amazon(amazon_delivery(envelope), web.certificates())
    assert batch == SignalBatch(ignored={"UnsubscribeConfirmation": 1})
    assert web.fetched == [AMAZON_CERTIFICATE]


def test_first_message_of_a_topic_is_ignored() -> None:
    envelope = amazon_envelope(
        "Notification",
        amazon_key(CURRENT),
        Message="Successfully validated SNS topic for Amazon SES event publishing.",
    )
    batch = receive_from_amazon(amazon_delivery(envelope), Web().certificates())
    assert batch == SignalBatch(ignored={"first message of a topic": 1})


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_versions_of_the_signature_are_taken(version: str) -> None:
    envelope = amazon_envelope(
        "Notification", amazon_key(CURRENT), version, Message=json.dumps(ITEM)
    )
    assert receive_from_amazon(amazon_delivery(envelope), Web().certificates()).events


def test_version_that_does_not_fit_the_signature_is_refused() -> None:
    for version, other in (("1", "2"), ("2", "1"), ("1", "3")):
        envelope = amazon_envelope(
            "Notification", amazon_key(CURRENT), version, Message=json.dumps(ITEM)
        )
        delivery = amazon_delivery({**envelope, "SignatureVersion": other})
        assert refusal_of(delivery, Web().certificates()) is RefusalCause.SIGNATURE_WRONG


def test_certificate_is_fetched_once_a_day() -> None:
    web = Web()
    certificates = web.certificates()
    for hours in (0, 1, 23):
        receive_from_amazon(deliver(), certificates, SENT_AT + timedelta(hours=hours))
    assert web.fetched == [AMAZON_CERTIFICATE]
    receive_from_amazon(deliver(), certificates, SENT_AT + timedelta(hours=25))
    assert web.fetched == [AMAZON_CERTIFICATE] * 2


def test_certificate_that_cannot_be_fetched_lets_amazon_come_again() -> None:
    web = Web()
    certificates = web.certificates()
    certificate = web.answers.pop(AMAZON_CERTIFICATE)
    assert refusal_of(deliver(), certificates) is RefusalCause.UNAVAILABLE
    web.answers[AMAZON_CERTIFICATE] = b"<html>try later</html>"
    assert refusal_of(deliver(), certificates) is RefusalCause.UNAVAILABLE
    web.answers[AMAZON_CERTIFICATE] = certificate
    assert receive_from_amazon(deliver(), certificates).events


def test_forged_deliveries_fetch_few_certificates_a_minute() -> None:
    web = Web()
    certificates = web.certificates()
    host = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-"
    for number in range(100):
        forged = with_certificate_at(f"{host}{number}.pem")
        assert refusal_of(forged, certificates) is RefusalCause.UNAVAILABLE
    assert len(web.fetched) == FETCHES_A_MINUTE
    later = SENT_AT + timedelta(minutes=2)
    assert receive_from_amazon(deliver(), certificates, later).events


def test_few_certificates_are_kept() -> None:
    host = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-"
    addresses = [f"{host}{number}.pem" for number in range(40)]
    web = Web(dict.fromkeys(addresses, amazon_certificate()))
    certificates = web.certificates()
    for minutes, address in enumerate(addresses):
        certificates.public_key(address, SENT_AT + timedelta(minutes=minutes))
    now = SENT_AT + timedelta(minutes=41)
    certificates.public_key(addresses[-1], now)
    certificates.public_key(addresses[-16], now)
    assert len(web.fetched) == 40
    certificates.public_key(addresses[0], now)
    assert len(web.fetched) == 41


def test_bounce_of_several_recipients_is_an_event_of_each() -> None:
    bounced = [{"emailAddress": f"{n}@shop.example"} for n in range(3)]
    item = amazon_item("Bounce", bounce={"bounceType": "Permanent", "bouncedRecipients": bounced})
    delivery = amazon_deliver([item], amazon_key(CURRENT), SENT_AT, 1)
    events = receive_from_amazon(delivery, Web().certificates()).events
    assert [e.recipient for e in events] == ["0@shop.example", "1@shop.example", "2@shop.example"]
    assert len({e.event_id for e in events}) == 3
    assert {e.position for e in events} == {0}


def test_complaint_of_several_recipients_names_none_of_them() -> None:
    complained = [{"emailAddress": f"{n}@shop.example"} for n in range(3)]
    item = amazon_item("Complaint", complaint={"complainedRecipients": complained})
    delivery = amazon_deliver([item], amazon_key(CURRENT), SENT_AT, 1)
    (event,) = receive_from_amazon(delivery, Web().certificates()).events
    assert event.recipient is None


def test_deliveries_that_come_together_fetch_a_certificate_once() -> None:
    web = Web()
    certificates = web.certificates()
    with ThreadPoolExecutor(16) as pool:
        batches = list(pool.map(lambda _: receive_from_amazon(deliver(), certificates), range(64)))
    assert all(batch.events for batch in batches)
    assert web.fetched == [AMAZON_CERTIFICATE]

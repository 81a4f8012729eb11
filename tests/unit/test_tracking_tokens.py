"""Tokens of tracked links: signed, proved, and never of an address that could mislead."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import pytest
from msgspec.structs import replace

from bandits.errors import InvalidInput
from bandits.tracking_tokens import (
    LONGEST_TOKEN,
    BadToken,
    SignedToken,
    TokenKind,
    TrackingKey,
    TrackingToken,
    allows,
    host_of,
    is_host_rule,
)

KEY = TrackingKey("0a1b2c3d", "s" * 43)
ADDRESS = "https://shop.example/a?b=1&c=2#d"
CLICK = TrackingToken(TokenKind.CLICK, ("d-1", "d-2"), ADDRESS)


def read(text: str, secret: str = KEY.secret) -> TrackingToken:
    return SignedToken.parse(text).verify(secret)


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("address", [ADDRESS, ""])
def test_token_reads_back_what_was_signed(kind, address):
    token = TrackingToken(kind, ("d-1", "x/y:z.~"), address)
    text = token.sign(KEY)
    assert read(text) == token
    assert SignedToken.parse(text).key_id == KEY.id
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_token_is_what_its_description_says():
    key_id, content, signature = CLICK.sign(KEY).split(".")
    assert key_id == KEY.id
    padded = content + "=" * (-len(content) % 4)
    assert urlsafe_b64decode(padded).decode() == f"c {ADDRESS} d-1 d-2"
    expected = hmac.digest(KEY.secret.encode(), content.encode(), sha256)[:16]
    assert signature == urlsafe_b64encode(expected).rstrip(b"=").decode()


def test_changed_token_is_refused_wherever_it_was_changed():
    text = CLICK.sign(KEY)
    start = len(KEY.id) + 1
    for place in range(start, len(text)):
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        with pytest.raises(BadToken):
            read(changed)
    with pytest.raises(BadToken):
        read(text, secret="t" * 43)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b", "a.b.c.d", "a.b.é", "x" * (LONGEST_TOKEN + 1), "a.b.c" * 2000],
)
def test_odd_token_is_refused(text):
    with pytest.raises(BadToken):
        read(text)


def test_signed_content_of_another_version_is_refused():
    for content in (b"z - d-1", b"\xff\xfe", b"c"):
        text = urlsafe_b64encode(content).rstrip(b"=").decode()
        signature = hmac.digest(KEY.secret.encode(), text.encode(), sha256)[:16]
        signed = SignedToken(KEY.id, text, urlsafe_b64encode(signature).rstrip(b"=").decode())
        with pytest.raises(BadToken):
            signed.verify(KEY.secret)


def test_token_for_an_api_key_is_proved_by_a_secret_of_the_server_alone():
    token = TrackingToken(TokenKind.CLICK, ("d-1",), "https://shop.example/")
    server = KEY.of_signer(12, b"s" * 32)
    signed = SignedToken.parse(token.sign(server))
    assert (signed.key_id, signed.signer) == (KEY.id, 12)
    assert signed.verify(server.secret) == replace(token, signer=12)
    others = [KEY, KEY.of_signer(13, b"s" * 32), KEY.of_signer(12, b"t" * 32)]
    for other in others:
        with pytest.raises(BadToken):
            signed.verify(other.secret)
    assert SignedToken.parse(token.sign(KEY)).signer == 0
    empty = replace(token, decision_ids=(), signer=12)
    assert SignedToken.parse(empty.sign(server)).verify(server.secret) == empty


@pytest.mark.parametrize("kind", ["c0", "c05", "c+5", "c-5", "c٥", "c5x", "c" + "9" * 19])
def test_token_that_names_no_api_key_is_refused(kind):
    text = urlsafe_b64encode(f"{kind} https://shop.example/ d-1".encode()).rstrip(b"=").decode()
    signature = hmac.digest(KEY.secret.encode(), text.encode(), "sha256")[:16]
    signed = SignedToken(KEY.id, text, urlsafe_b64encode(signature).rstrip(b"=").decode())
    with pytest.raises(BadToken):
        signed.verify(KEY.secret)


@pytest.mark.parametrize("ids", [(), ("with space",), ("ü",), ("x" * 129,), tuple("abcdef")])
def test_id_that_fits_no_token_is_refused(ids):
    with pytest.raises(InvalidInput, match="decision_ids"):
        TrackingToken(TokenKind.OPEN, ids).sign(KEY)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://shop.example", "shop.example"),
        ("HTTP://Shop.Example:8080/x", "shop.example"),
        ("https://shop.example?x=//evil.example", "shop.example"),
        ("https://shop.example#@evil.example", "shop.example"),
        ("https://127.0.0.1:1/", "127.0.0.1"),
        ("https://shop.example\\@evil.example/", None),  # a browser goes to the first host
        ("https://evil.example\\.shop.example/", None),
        ("https://user@shop.example/", None),
        ("https://shop.example:80@evil.example/", None),
        ("//shop.example/", None),
        ("https:/shop.example/", None),
        ("https:///shop.example/", None),
        ("javascript://shop.example/%0Aalert(1)", None),
        ("ftp://shop.example/", None),
        ("https://shop.example/ x", None),
        ("https://shop.example/\r\nSet-Cookie: a=b", None),
        ("https://shop.example/\n", None),
        ("https://shöp.example/", None),
        ("https://[::1]/", None),
        ("https://-shop.example/", None),
        ("https://shop.example/" + "x" * 2000, None),
        ("", None),
    ],
)
def test_host_is_the_one_that_every_browser_goes_to(address, host):
    assert host_of(address) == host
    if host is None and address:
        with pytest.raises(InvalidInput, match="address"):
            TrackingToken(TokenKind.CLICK, ("d",), address).sign(KEY)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://shop.example/", True),
        ("https://www.shop.example/", False),
        ("https://a.blog.example/", True),
        ("https://a.b.blog.example/", True),
        ("https://blog.example/", False),
        ("https://evilblog.example/", False),
        ("https://shop.example.evil.example/", False),
        ("ftp://shop.example/", False),
    ],
)
def test_rules_allow_a_host_or_all_below_it(address, expected):
    assert allows({"shop.example", "*.blog.example"}, address) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("shop.example", True),
        ("*.shop.example", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("*.example", False),
        ("*", False),
        ("Shop.example", False),
        ("https://shop.example", False),
        ("shop.example/", False),
        ("shop.example:80", False),
        ("*.*.shop.example", False),
        ("-a.example", False),
        ("a..example", False),
        ("", False),
        (".".join(["a" * 60] * 5), False),
    ],
)
def test_rule_is_a_host_or_a_star_before_a_domain(text, expected):
    assert is_host_rule(text) is expected


def test_key_reads_back_and_never_shows_its_secret():
    key = TrackingKey.generate()
    assert TrackingKey.parse(f" {key.text}\n") == key
    assert key.secret not in repr(key)
    assert key != TrackingKey.generate()
    for text in ("", "bandits_1234_abc", key.text[:-1], key.text + "x", key.text.upper()):
        with pytest.raises(InvalidInput, match="tracking key"):
            TrackingKey.parse(text)

"""Submission of mails by real SMTP: handed over once, or told why not."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.mail_server import MailServer
from webapp.smtp import MailDeferred, MailRefused, MailSubmission, SmtpServer, parse_smtp_url

CONTENT = b"Subject: hi\r\n\r\n.dot\r\nline\r\n"


@pytest.fixture
def server() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


@pytest.fixture
def submission(server) -> Iterator[MailSubmission]:
    with closing(MailSubmission(parse_smtp_url(server.url))) as submission:
        yield submission


def send(submission, content=CONTENT, before=lambda: None, to="p@example.com") -> None:
    submission.send("s@example.com", to, content, before_data=before)


def test_mails_go_over_one_connection_to_the_byte(server, submission):
    for _ in range(3):
        send(submission)
    assert server.contents == [CONTENT] * 3
    assert list(server.connections.values()) == [3]


def test_connection_that_ended_meanwhile_is_replaced(server, submission):
    send(submission)
    submission._idle.queue[0].smtp.sock.close()
    send(submission)
    assert server.count == 2


def test_mail_is_not_sent_where_it_cannot_be_noted(server, submission):
    def fail() -> None:
        raise KeyError("noted")

    with pytest.raises(KeyError):
        send(submission, before=fail)
    assert server.count == 0
    send(submission)
    assert server.count == 1


@pytest.mark.parametrize("at", ["answer", "recipient_answer"])
@pytest.mark.parametrize(("code", "kind"), [("451 later", MailDeferred), ("550 no", MailRefused)])
def test_refusal_is_told_and_the_next_mail_goes(server, submission, at, code, kind):
    setattr(server, at, code)
    with pytest.raises(kind, match=code[:3]):
        send(submission)
    setattr(server, at, "250 OK")
    send(submission)
    assert server.count == 1


def test_server_that_is_not_there_defers():
    with pytest.raises(MailDeferred):
        send(MailSubmission(SmtpServer("127.0.0.1", 1, "none")))


def test_address_beyond_ascii_needs_a_server_that_takes_it(server, submission):
    with pytest.raises(MailRefused, match="beyond ASCII"):
        send(submission, to="møller@example.com")
    send(submission)
    assert server.count == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://u:p%40@mx.example.com", SmtpServer("mx.example.com", 587, "starttls", "u", "p@")),
        ("smtps://mx.example.com:466", SmtpServer("mx.example.com", 466, "tls")),
        ("smtp+plain://localhost", SmtpServer("localhost", 25, "none")),
    ],
)
def test_url_is_read(url, expected):
    assert parse_smtp_url(url) == expected
    assert "p@" not in repr(expected)


@pytest.mark.parametrize("url", ["http://mx", "smtp://", "smtp://mx/path", "mx:25"])
def test_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="smtp"):
        parse_smtp_url(url)


@pytest.fixture
def certificate(tmp_path, monkeypatch) -> ssl.SSLContext:
    """The context of a server whose certificate for mail.test clients trust."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.test")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mail.test")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    pem = signed.public_bytes(Encoding.PEM)
    path = tmp_path / "mail.pem"
    path.write_bytes(pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    trusting = ssl.create_default_context(cadata=pem.decode())
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    return context


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_encrypted_mail_goes_where_connect_leads_and_proves_the_name(certificate, security):
    server = MailServer(**{security: certificate}).start()
    port = int(server.url.rpartition(":")[2])
    calls = []

    def connect(host: str, port: int, seconds: float) -> socket.socket:
        calls.append((host, port))
        return socket.create_connection(("127.0.0.1", port), seconds)

    for host in ("mail.test", "other.test"):
        with closing(MailSubmission(SmtpServer(host, port, security), connect=connect)) as own:
            if host == "mail.test":
                send(own)
            else:
                with pytest.raises(MailDeferred, match="certificate"):
                    send(own)
    assert calls == [("mail.test", port), ("other.test", port)]
    assert server.contents == [CONTENT]
    server.stop()

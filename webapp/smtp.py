"""SMTP: mails handed to a mail server over connections that are used again.

A mail is handed over by the end of its data. Whoever has to know of it for sure, so as not to send
it twice, writes that down just before: `before_data`.
"""

import logging
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, LifoQueue
from typing import Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct

Security = Literal["starttls", "tls", "none"]
Connect = Callable[[str, int, float], socket.socket]

_TIMEOUT_SECONDS = 30.0
_IDLE_SECONDS = 20.0  # a server may end an idle connection after some minutes
_MOST_MAILS = 100  # by one connection
_PORTS: dict[Security, int] = {"starttls": 587, "tls": 465, "none": 25}
_SCHEMES: dict[str, Security] = {"smtp": "starttls", "smtps": "tls", "smtp+plain": "none"}
_READY, _PERMANENT = 354, 500
_DOTS = re.compile(rb"(?m)^\.")
_log = logging.getLogger(__name__)


class SmtpServer(Struct, frozen=True):
    """A mail server, and how it is reached."""

    host: str
    port: int
    security: Security
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Return where it is, without the password."""
        return f"SmtpServer({self.host}:{self.port})"


def parse_smtp_url(url: str) -> SmtpServer:
    """Read ``smtp://user:password@host:port``: by STARTTLS; ``smtps://`` by TLS from the start.

    ``smtp+plain://`` encrypts nothing; it is for a server on this machine or in a closed network.

    Raises:
        ValueError: it is no such address.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("must be smtp://, smtps:// or smtp+plain:// with user:password@host:port")
    security = _SCHEMES[parts.scheme]
    port = parts.port or _PORTS[security]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return SmtpServer(parts.hostname, port, security, user, password)


class MailRefused(Exception):
    """The server refused a mail for good; nothing was sent."""


class MailDeferred(Exception):
    """The server cannot be reached, or told to come again; nothing is known to be sent."""


class MailUncertain(MailDeferred):
    """The connection broke after the content: the server may have taken the mail all the same."""


class _Smtp(smtplib.SMTP):
    """Conversation whose connection `connect` makes, so that it goes where that allows."""

    def __init__(self, server: SmtpServer, connect: Connect) -> None:
        self._connect_to = connect
        super().__init__(server.host, server.port, timeout=_TIMEOUT_SECONDS)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._connect_to(host, port, timeout)


class _SmtpByTls(smtplib.SMTP_SSL, _Smtp):
    """The same, by TLS from the start; the certificate is that of the name, not of the address."""

    def __init__(self, server: SmtpServer, connect: Connect, context: ssl.SSLContext) -> None:
        self._connect_to = connect
        smtplib.SMTP_SSL.__init__(
            self, server.host, server.port, timeout=_TIMEOUT_SECONDS, context=context
        )


def _connect_anywhere(host: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((host, port), seconds)


class _Connection:
    """A connection to the server, and how many mails it took."""

    def __init__(self, smtp: smtplib.SMTP) -> None:
        self.smtp = smtp
        self.mails = 0
        self.used_at = time.monotonic()

    def close(self) -> None:
        with suppress(OSError, smtplib.SMTPException):
            self.smtp.close()


class MailSubmission:
    """Submission of mails to one server, from any thread."""

    def __init__(
        self, server: SmtpServer, *, most_idle: int = 16, connect: Connect = _connect_anywhere
    ) -> None:
        """Send by `server`; keep `most_idle` connections for later mails.

        Args:
            server: takes the mails.
            most_idle: connections that are kept.
            connect: makes a connection to a host and port within some seconds.
        """
        self._server = server
        self._connect_to = connect
        self._idle: LifoQueue[_Connection] = LifoQueue()
        self._most_idle = most_idle

    def send(
        self, sender: str, recipient: str, content: bytes, *, before_data: Callable[[], None]
    ) -> None:
        """Hand a mail over.

        Args:
            sender: address that bounces go to.
            recipient: address.
            content: headers and body with CRLF.
            before_data: called when the server takes the recipient and waits for the content. What
                it raises is raised here, and nothing is sent.

        Raises:
            MailRefused: the server will never take it.
            MailDeferred: it does not take it now, or cannot be reached.
            MailUncertain: the connection broke after the content, so it may have taken it.
        """
        connection = self._begin(sender, recipient, content)
        try:
            before_data()
        except BaseException:
            connection.close()  # without the end of the data there is no mail
            raise
        try:
            connection.smtp.send(_stuffed(content) + b".\r\n")
            code, reply = connection.smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            connection.close()
            raise MailUncertain(f"the mail server broke off: {error}") from None
        self._put_back(connection)
        _check(code, reply)

    def close(self) -> None:
        """End the connections that are idle."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _begin(self, sender: str, recipient: str, content: bytes) -> _Connection:
        """Say whom a mail is from and for; return the connection that waits for its content.

        A connection that was used before may have ended meanwhile, so another is tried then.
        """
        utf8 = not (sender + recipient).isascii()
        while True:
            connection, fresh = self._take()
            try:
                self._envelope(connection.smtp, sender, recipient, len(content), utf8=utf8)
            except (MailRefused, MailDeferred):
                with suppress(OSError, smtplib.SMTPException):
                    connection.smtp.rset()
                    self._put_back(connection)
                raise
            except (OSError, smtplib.SMTPException) as error:
                connection.close()
                if fresh:
                    raise MailDeferred(f"the mail server broke off: {error}") from None
            else:
                return connection

    @staticmethod
    def _envelope(
        smtp: smtplib.SMTP, sender: str, recipient: str, size: int, *, utf8: bool
    ) -> None:
        options = [f"SIZE={size}"] if smtp.has_extn("size") else []
        if utf8:
            if not smtp.has_extn("smtputf8"):
                raise MailRefused("the mail server takes no addresses beyond ASCII")
            options += ["SMTPUTF8", "BODY=8BITMIME"]
            smtp.command_encoding = "utf-8"
        _check(*smtp.mail(sender, options))
        _check(*smtp.rcpt(recipient))
        code, reply = smtp.docmd("DATA")
        if code != _READY:
            _check(code, reply)
            raise MailDeferred(f"the mail server answered {code} to DATA")

    def _take(self) -> tuple[_Connection, bool]:
        """Return an idle connection, else a new one and True."""
        with suppress(Empty):
            while True:
                connection = self._idle.get_nowait()
                if time.monotonic() - connection.used_at < _IDLE_SECONDS:
                    return connection, False
                connection.close()
        return _Connection(self._connect()), True

    def _put_back(self, connection: _Connection) -> None:
        connection.mails += 1
        connection.used_at = time.monotonic()
        if connection.mails < _MOST_MAILS and self._idle.qsize() < self._most_idle:
            self._idle.put(connection)
        else:
            connection.close()

    def _connect(self) -> smtplib.SMTP:
        server = self._server
        context = ssl.create_default_context()
        try:
            smtp: smtplib.SMTP
            if server.security == "tls":
                smtp = _SmtpByTls(server, self._connect_to, context)
            else:
                smtp = _Smtp(server, self._connect_to)
            if server.security == "starttls":
                smtp.starttls(context=context)
            smtp.ehlo_or_helo_if_needed()
            if server.user:
                smtp.login(server.user, server.password)
        except (OSError, smtplib.SMTPException) as error:
            _log.warning("cannot use the mail server %s:%d: %s", server.host, server.port, error)
            raise MailDeferred(f"the mail server cannot be used: {error}") from None
        return smtp


def _check(code: int, reply: bytes) -> None:
    """Raise what an answer means, unless it is a success."""
    if 200 <= code < 300:  # noqa: PLR2004 - RFC 5321, section 4.2.1
        return
    text = f"the mail server answered {code}: {reply.decode(errors='replace')[:200]}"
    if code >= _PERMANENT:
        raise MailRefused(text)
    raise MailDeferred(text)


def _stuffed(content: bytes) -> bytes:
    """Double the dots that begin a line, and end with CRLF (RFC 5321, section 4.5.2)."""
    stuffed = _DOTS.sub(b"..", content)
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"

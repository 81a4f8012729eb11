"""Mail server: takes mails by real SMTP, or refuses them, as a test says."""

import asyncio
from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage
from ssl import SSLContext
from threading import Thread
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.patience import LIMIT_SECONDS


class MailServer:
    """SMTP server on a free port, with the mails that it took.

    Attributes:
        mails: by recipient.
        answer: to a mail's content; ``250 …`` takes it.
        recipient_answer: to a recipient.
    """

    def __init__(
        self, *, tls: SSLContext | None = None, starttls: SSLContext | None = None
    ) -> None:
        """Take mails by TLS from the start, or by STARTTLS, where a context is given."""
        self._tls, self._starttls = tls, starttls
        self.mails: dict[str, list[EmailMessage]] = {}
        self.contents: list[bytes] = []
        self.connections: Counter[Any] = Counter()
        self.answer = self.recipient_answer = "250 OK"
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0

    def start(self) -> "MailServer":
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            self._loop.create_server(
                lambda: SMTP(self, loop=self._loop, tls_context=self._starttls),
                "127.0.0.1",
                self._port,
                ssl=self._tls,
            ),
            self._loop,
        ).result(LIMIT_SECONDS)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(LIMIT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_SECONDS)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:  # the conversations that go on
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"smtp+plain://127.0.0.1:{self._port}"

    @property
    def count(self) -> int:
        return sum(map(len, self.mails.values()))

    async def handle_RCPT(  # noqa: N802 - as aiosmtpd calls it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient_answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(  # noqa: N802 - as aiosmtpd calls it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.connections[session.peer] += 1
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.contents.append(envelope.content)
            mail = message_from_bytes(envelope.content, policy=policy.default)
            for recipient in envelope.rcpt_tos:
                self.mails.setdefault(recipient, []).append(mail)
        return self.answer

"""Mail server: takes mails by real SMTP, or refuses them, as a test says."""

from collections import Counter
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


class MailServer:
    """SMTP server on a free port, with the mails that it took.

    Attributes:
        mails: by recipient.
        answer: to a mail's content; ``250 …`` takes it.
        recipient_answer: to a recipient.
    """

    def __init__(self) -> None:
        self.mails: dict[str, list[EmailMessage]] = {}
        self.contents: list[bytes] = []
        self.connections: Counter[Any] = Counter()
        self.answer = self.recipient_answer = "250 OK"
        self._controller = Controller(self, hostname="127.0.0.1", port=0)

    def start(self) -> "MailServer":
        self._controller.start()
        return self

    def stop(self) -> None:
        self._controller.stop()

    @property
    def url(self) -> str:
        port = self._controller.server.sockets[0].getsockname()[1]
        return f"smtp+plain://127.0.0.1:{port}"

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

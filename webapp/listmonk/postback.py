"""Postback: a rendered message as listmonk hands it to a messenger, one request each."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from webapp.signals.delivery import DeliveryRefused, RefusalCause

_Line = Annotated[str, Meta(pattern=r"^[^\r\n\x00]*\Z", max_length=2000)]
_Uuid = Annotated[str, Meta(pattern=r"^[A-Za-z0-9\-]{1,40}\Z")]
_EXPERIMENT_TAG = "bandits:"
_UNSUBSCRIBE = re.compile(r"https?://[^\s\"'<>]+/subscription/([A-Za-z0-9\-]+)/([A-Za-z0-9\-]+)")


class Recipient(Struct, frozen=True):
    """A subscriber; `attribs` are what listmonk knows of them."""

    email: Annotated[_Line, Meta(min_length=3)]
    uuid: _Uuid = ""
    name: _Line = ""
    attribs: dict[str, Any] | None = None


class Campaign(Struct, frozen=True):
    """The campaign that a message is of."""

    uuid: _Uuid
    from_email: _Line = ""
    headers: list[dict[_Line, _Line]] | None = None
    tags: list[str] | None = None


class Attachment(Struct, frozen=True):
    """A file; `content` is base64 in JSON, `header` the MIME headers by name."""

    name: _Line
    content: bytes
    header: dict[str, list[_Line]] | None = None


class Postback(Struct, frozen=True):
    """A message.

    Attributes:
        content_type: ``plain`` for text; all others are HTML by now.
        recipients: who gets it; listmonk sends one at a time.
        campaign: None for a transactional message.
    """

    subject: _Line
    body: str
    recipients: Annotated[list[Recipient], Meta(min_length=1, max_length=1000)]
    from_email: _Line = ""
    content_type: str = "html"
    campaign: Campaign | None = None
    attachments: list[Attachment] | None = None

    @property
    def experiment(self) -> str | None:
        """Key of the experiment, by the campaign's tag ``bandits:KEY``; None without one."""
        tags = (self.campaign.tags if self.campaign is not None else None) or []
        for tag in tags:
            prefix, marker, key = tag.partition(_EXPERIMENT_TAG)
            if marker and not prefix:
                return key.strip()
        return None

    def message_id(self, recipient: Recipient) -> str | None:
        """Return the id of a recipient's message, the same whenever it is posted; None if none.

        It is the decision's id as well, so that listmonk's own tables name the decision.
        """
        if self.campaign is None or not recipient.uuid:
            return None
        return message_id(self.campaign.uuid, recipient.uuid)

    def headers(self, recipient: Recipient) -> Iterator[tuple[str, str]]:
        """Yield the headers that listmonk would have sent: they are not in the message.

        The address to unsubscribe by is found in the body.
        """
        if self.campaign is None:
            return
        yield "X-Listmonk-Campaign", self.campaign.uuid
        if recipient.uuid:
            yield "X-Listmonk-Subscriber", recipient.uuid
        for address in _UNSUBSCRIBE.finditer(self.body):
            if address.groups() == (self.campaign.uuid, recipient.uuid):
                yield "List-Unsubscribe", f"<{address.group()}>"
                yield "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"
                break
        for headers in self.campaign.headers or []:
            yield from headers.items()


def message_id(campaign_uuid: str, subscriber_uuid: str) -> str:
    """Join the ids of a campaign and a subscriber: 73 characters as listmonk makes them."""
    return f"{campaign_uuid}.{subscriber_uuid}"


def read_postback(body: bytes) -> Postback:
    """Read a message.

    Raises:
        DeliveryRefused: it is not as listmonk writes one.
    """
    try:
        return msgspec.json.decode(body, type=Postback)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        place = str(error) if isinstance(error, msgspec.ValidationError) else "it is not JSON"
        raise DeliveryRefused(RefusalCause.UNREADABLE, f"no message of listmonk: {place}") from None

"""Mail of a recipient: MIME of what listmonk rendered, with the subject and body that are sent."""

from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, parseaddr
from hashlib import blake2b

from msgspec import Struct

from webapp.listmonk.postback import Attachment, Postback, Recipient

_OURS = {
    "bcc",
    "cc",
    "content-transfer-encoding",
    "content-type",
    "date",
    "from",
    "message-id",
    "mime-version",
    "subject",
    "to",
}
# Longer headers would be folded into encoded words, which break addresses in List-Unsubscribe.
_LINES = SMTP.clone(max_line_length=998)
_OCTETS = ("application", "octet-stream")


class Mail(Struct, frozen=True):
    """A mail for one recipient, as SMTP takes it.

    Attributes:
        sender: address that bounces go to.
        recipient: address.
        content: headers and body, lines end with CRLF.
    """

    sender: str
    recipient: str
    content: bytes


class Unsendable(ValueError):
    """A message of which no mail can be made; the text says why."""


def make_mail(postback: Postback, recipient: Recipient, *, subject: str, body: str) -> Mail:
    """Make the mail of a recipient.

    Its Message-ID is the same whenever this message is posted, so that a server that knows it may
    drop a second one.

    Raises:
        Unsendable: an address or a header does not fit.
    """
    own = postback.campaign.from_email if postback.campaign is not None else ""
    name, sender = parseaddr(postback.from_email or own)
    if not sender:
        raise Unsendable("the message names no sender")
    mail = EmailMessage(policy=_LINES)
    try:
        mail["From"] = Address(name, addr_spec=sender)
        mail["To"] = Address(recipient.name, addr_spec=recipient.email)
        mail["Subject"] = subject
        for header, value in postback.headers(recipient):
            if header.lower() not in _OURS and header not in mail:
                mail[header] = value
        mail["Date"] = formatdate(usegmt=True)
        message_id = postback.message_id(recipient)
        if message_id is not None:
            digest = blake2b(message_id.encode(), digest_size=16).hexdigest()
            mail["Message-ID"] = f"<{digest}.bandits@{sender.rpartition('@')[2]}>"
        mail.set_content(body, subtype="plain" if postback.content_type == "plain" else "html")
        for attachment in postback.attachments or []:
            _attach(mail, attachment)
        content = mail.as_bytes()
    except (ValueError, LookupError, MessageError) as error:
        # `email` refuses what is no address or header by any of these.
        raise Unsendable(f"an address or header does not fit: {error}") from None
    return Mail(sender, recipient.email, content)


def _attach(mail: EmailMessage, attachment: Attachment) -> None:
    types = (attachment.header or {}).get("Content-Type", [])
    main, _, sub = (types[0].partition(";")[0].strip() if types else "").partition("/")
    if not main or not sub:
        main, sub = _OCTETS
    mail.add_attachment(
        attachment.content, maintype=main, subtype=sub, filename=attachment.name or "attachment"
    )

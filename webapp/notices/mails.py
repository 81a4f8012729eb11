"""Mails of the server to people: links, alerts, the weekly summary, a test."""

from collections.abc import Sequence
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from functools import cache
from hashlib import blake2b

from jinja2 import Environment, PackageLoader
from msgspec import Struct

from storage.outgoing import MailSettings
from webapp.egress import EgressGuard
from webapp.smtp import MailSubmission, SmtpServer

_LONGEST_SUBJECT = 150
_FOOT = "You chose this under Settings → Your account: {}"


class MailText(Struct, frozen=True):
    """Content of a mail; `html` may be empty."""

    subject: str
    text: str
    html: str = ""


class WeeklyCampaign(Struct, frozen=True):
    """A campaign in the weekly summary; `address` may be empty."""

    name: str
    state: str
    sent: str
    verdict: str
    address: str


class Unwritable(ValueError):
    """A mail that cannot be made: an address or header does not fit."""


def submission_by(settings: MailSettings, guard: EgressGuard) -> MailSubmission:
    """Return the submission of mails by the workspace's server, which has to be one we may call."""
    server = SmtpServer(
        settings.host, settings.port, settings.security, settings.user, settings.password
    )
    encrypted = settings.security != "none"
    return MailSubmission(
        server,
        connect=lambda host, port, seconds: guard.connect(
            host, port, seconds=seconds, encrypted=encrypted
        ),
    )


def encode_mail(
    mail: MailText, sender: tuple[str, str], recipient: str, *, message_id: str
) -> bytes:
    """Encode a mail with its headers.

    Args:
        mail: what it says.
        sender: name and address that it is from.
        recipient: address.
        message_id: of this mail alone; a second one of the same has the same Message-ID.

    Raises:
        Unwritable: an address is none.
    """
    message = EmailMessage(policy=SMTP)
    digest = blake2b(message_id.encode(), digest_size=16).hexdigest()
    try:
        message["From"] = Address(sender[0], addr_spec=sender[1])
        message["To"] = Address(addr_spec=recipient)
        message["Subject"] = " ".join(mail.subject.split())[:_LONGEST_SUBJECT]
        message["Date"] = formatdate(usegmt=True)
        message["Message-ID"] = f"<{digest}@{sender[1].rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        if mail.html:
            message.add_alternative(mail.html, subtype="html")
        return message.as_bytes()
    except (ValueError, LookupError, MessageError) as error:
        raise Unwritable(f"no mail can be made: {error}") from None


def mail_of_test(workspace: str) -> MailText:
    """Write the mail that proves the settings."""
    return MailText("Test", f"Mails of {workspace} reach you. You can close this mail.\n")


def mail_of_invitation(address: str, by: str, workspace: str) -> MailText:
    """Write an invitation."""
    return MailText(
        f"You are invited to {workspace}",
        f"{by} invites you to {workspace}. Open this link to choose a password:\n\n{address}\n\n"
        "The link works once, for 7 days.\n",
    )


def mail_of_reset(address: str) -> MailText:
    """Write the mail for somebody who forgot a password."""
    return MailText(
        "Choose a new password",
        f"Open this link to choose a new password:\n\n{address}\n\n"
        "The link works once, for 2 hours. If you did not ask for it, ignore this mail.\n",
    )


def mail_of_alert(subject: str, text: str, address: str, account: str) -> MailText:
    """Write an alert; `address` of its page and `account` of the choice may be empty."""
    parts = [text, address, _FOOT.format(account) if account else ""]
    return MailText(subject, "\n\n".join(part for part in parts if part) + "\n")


def mail_of_week(campaigns: Sequence[WeeklyCampaign], account: str) -> MailText:
    """Write the weekly summary, as text and as HTML."""
    n = len(campaigns)
    subject = f"Your week: {n} {'campaign' if n == 1 else 'campaigns'}"
    blocks = [
        f"{c.name} ({c.state})\n{c.sent}\n{c.verdict}\n{c.address}".strip() for c in campaigns
    ] or ["No campaign is running."]
    foot = [_FOOT.format(account)] if account else []
    html = _templates().get_template("weekly.html").render(campaigns=campaigns, account=account)
    return MailText(subject, "\n\n".join([*blocks, *foot]) + "\n", html)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("webapp", "templates/mails"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )

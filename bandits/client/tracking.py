"""Tracked emails: links, pixel and one-click unsubscribe of an HTML email, made without a server.

::

    tracking = LinkTracking("bandits_tracking_…", "https://links.shop.example", ["shop.example"])
    email = rewrite(html, decision, tracking)
    message = EmailMessage(policy=SMTP.clone(max_line_length=998))  # one line for each header
    message.set_content(email.html, subtype="html")
    for name, value in email.headers.items():
        message[name] = value

Every link to one of the hosts becomes a link to the server, which notes the click and leads on.
All else of the HTML stays as it is, to the byte: only the values of ``href`` are replaced.
"""

import re
from collections.abc import Collection, Sequence
from html import escape, unescape
from urllib.parse import quote, urlsplit

from msgspec import Struct

from bandits.client.email_links import email_links
from bandits.errors import InvalidInput
from bandits.schemas import Decision
from bandits.tracking_tokens import (
    LONGEST_TOKEN,
    TokenKind,
    TrackingKey,
    TrackingToken,
    allows,
    host_of,
    is_host_rule,
)

MOST_LINKS = 2_000  # of one email
CLICK_PATH, OPEN_PATH, UNSUBSCRIBE_PATH, EXPLANATION_PATH = "/t/", "/o/", "/u/", "/w/"
ONE_CLICK = "List-Unsubscribe=One-Click"  # RFC 8058

# What mailers and template languages fill in later: a signature over it would be wrong then.
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{%|%\}|%%|\*\||\|\*|\[\[|\]\]|<%|%>|\$\{|#\{|\[%|%[A-Z_]+%")
_REMOVED = str.maketrans("", "", "\t\n\r")  # by browsers, from the middle of an address
_LONGEST_HOST = 253 + len(":65535")  # to convert a longer one takes seconds
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))
_PIXEL = (
    '<img src="{address}" width="1" height="1" alt="" '
    'style="display:block;width:1px;height:1px;border:0">'
)
_HONEYPOT = (
    '<a href="{address}" tabindex="-1" aria-hidden="true" rel="nofollow" '
    'style="display:none;mso-hide:all"></a>'
)


class LinkTracking(Struct, frozen=True):
    """Where links lead and by what they are signed.

    Attributes:
        key: a tracking key, as it was shown when it was made.
        public_url: address of the server, as recipients reach it: its `BANDITS_PUBLIC_URL`.
        hosts: hosts that the server allows links to: ``shop.example``, or ``*.shop.example`` for
            all below it. Links to others are left alone.
    """

    key: str
    public_url: str
    hosts: Sequence[str]

    def __repr__(self) -> str:
        """Return what is not secret."""
        return f"LinkTracking({self.public_url!r})"


class TrackedEmail(Struct, frozen=True):
    """An email whose links are tracked.

    Attributes:
        html: the email.
        headers: ``List-Unsubscribe`` and ``List-Unsubscribe-Post``, to be added to the message,
            each on one line whatever its length, and signed by DKIM with it.
        unsubscribe_url: for a link in the email's text; None where there is no decision.
        links: number of links that are tracked now.
        explanation_url: for a link "Why do I get this?" in the email's text, to a page for its
            recipient; None where there is no decision.
    """

    html: str
    headers: dict[str, str]
    unsubscribe_url: str | None
    links: int
    explanation_url: str | None = None


def rewrite(  # noqa: PLR0913 - options, by keyword
    html: str,
    decision: Decision,
    tracking: LinkTracking,
    *,
    others: Sequence[Decision] = (),
    personalize: bool = True,
    opted_out: bool = False,
    unsubscribe_mailto: str | None = None,
) -> TrackedEmail:
    """Track the links of an email, and make its headers for one-click unsubscribe.

    Left alone are links to other hosts, anchors, ``mailto:`` and all other schemes, addresses with
    a placeholder of a template (``{{…}}``, ``%%…%%``, ``*|…|*`` and their like), and links that are
    tracked already, so that doing it again changes no link.

    Args:
        html: of the email.
        decision: that the email was made by. Where it is a fallback without an id, nothing can be
            counted: the email stays as it is.
        tracking: the key, the server's address and the hosts.
        others: further decisions of the same email, at most four; each gets every event.
        personalize: false where the recipient's data may not be used: no pixel is placed.
        opted_out: the recipient wants no tracking: only the headers are made.
        unsubscribe_mailto: an address for mail programs that unsubscribe by email.

    Raises:
        InvalidInput: the key, the address, a host or an id is wrong, or the email has more than
            2,000 links.
    """
    ids = tuple(d.decision_id for d in (decision, *others) if d.decision_id is not None)
    if not ids:
        return TrackedEmail(html, {}, None, 0)
    signer = LinkSigner.of(tracking, ids)
    return track_links(
        html,
        signer,
        personalize=personalize,
        opted_out=opted_out,
        unsubscribe_mailto=unsubscribe_mailto,
    )


def track_links(
    html: str,
    signer: "LinkSigner",
    *,
    personalize: bool,
    opted_out: bool,
    unsubscribe_mailto: str | None,
) -> TrackedEmail:
    """Track the links of an email as `rewrite` does, which makes the signer.

    Raises:
        InvalidInput: the email has too many links, or `unsubscribe_mailto` is no address.
    """
    unsubscribe_url = signer.unsubscribe_url()
    ways = [f"<{unsubscribe_url}>"]
    if unsubscribe_mailto is not None:
        ways.append(f"<mailto:{_mail_address(unsubscribe_mailto)}>")
    headers = {"List-Unsubscribe": ", ".join(ways), "List-Unsubscribe-Post": ONE_CLICK}
    if opted_out:
        return TrackedEmail(html, headers, unsubscribe_url, 0, signer.explanation_url())
    email = email_links(html)
    if len(email.links) > MOST_LINKS:
        raise InvalidInput.at("/html", f"must have at most {MOST_LINKS:,} links")
    edits, first_address = [], ""
    for link in email.links:
        address = clean_address(link.text)
        if address is None or (tracked := signer.click_url(address)) is None:
            continue
        first_address = first_address or address
        edits.append((link.start, link.end, tracked if link.quoted else f'"{tracked}"'))
    added = _HONEYPOT.format(address=signer.honeypot_url(first_address)) if edits else ""
    if personalize and not signer.is_pixel_in(html):
        added += _PIXEL.format(address=signer.pixel_url())
    edits.append((email.end, email.end, added))
    n = len(edits) - 1
    explanation_url = signer.explanation_url()
    return TrackedEmail(_edited(html, edits), headers, unsubscribe_url, n, explanation_url)


def clean_address(href: str) -> str | None:
    """Return the address that a browser makes of an ``href``, in ASCII; None if it is left alone.

    None too where it holds a placeholder, or may not be signed.
    """
    address = unescape(href).strip(" \t\n\r\f").translate(_REMOVED)
    if _PLACEHOLDER.search(address):
        return None
    if not address.isascii():
        address = _ascii_address(address)
    address = quote(address, safe=_AS_IT_IS)
    return None if host_of(address) is None else address


def _ascii_address(address: str) -> str:
    """Write a host by IDNA; the rest is percent-encoded by `quote`."""
    try:
        parts = urlsplit(address)
        if len(parts.netloc) > _LONGEST_HOST:
            return ""
        if parts.netloc and not parts.netloc.isascii():
            parts = parts._replace(netloc=parts.netloc.encode("idna").decode())
        return parts.geturl()
    except (UnicodeError, ValueError):
        return ""


class LinkSigner:
    """Addresses of the server for one email."""

    def __init__(
        self,
        key: TrackingKey,
        public_url: str,
        hosts: Sequence[str],
        decision_ids: tuple[str, ...],
    ) -> None:
        """Sign with `key` for the email of `decision_ids`; the rest is as in `LinkTracking`.

        Raises:
            InvalidInput: the address or a host is wrong.
        """
        self._key = key
        self._root = public_url.rstrip("/")
        if host_of(self._root) is None:
            raise InvalidInput.at("/public_url", "must be the http(s) address of the server")
        self._hosts = frozenset(host.lower() for host in hosts)
        if wrong := sorted(host for host in self._hosts if not is_host_rule(host)):
            raise InvalidInput.at("/hosts", f"{wrong[0]!r} is no host")
        self._ids = decision_ids

    @classmethod
    def of(cls, tracking: LinkTracking, decision_ids: tuple[str, ...]) -> "LinkSigner":
        """Sign with the key in a text.

        Raises:
            InvalidInput: the key, the address or a host is wrong.
        """
        try:
            key = TrackingKey.parse(tracking.key)
        except InvalidInput as error:
            raise error.under("/key") from None
        return cls(key, tracking.public_url, tracking.hosts, decision_ids)

    def click_url(self, address: str) -> str | None:
        """Return the tracked link to an address; None where that is to be left alone."""
        if self._is_own(address) or not allows(self._hosts, address):
            return None
        url = self._url(CLICK_PATH, TokenKind.CLICK, address)
        return None if len(url) > LONGEST_TOKEN else url

    def honeypot_url(self, address: str) -> str:
        """Return a link that only machines follow; it leads to an address of the email."""
        return self._url(CLICK_PATH, TokenKind.HONEYPOT, address)

    def pixel_url(self) -> str:
        """Return the address of the pixel."""
        return f"{self._url(OPEN_PATH, TokenKind.OPEN)}.gif"

    def unsubscribe_url(self) -> str:
        """Return the address for unsubscribing."""
        return self._url(UNSUBSCRIBE_PATH, TokenKind.UNSUBSCRIBE)

    def explanation_url(self) -> str:
        """Return the address of the page "Why do I get this?"."""
        return self._url(EXPLANATION_PATH, TokenKind.EXPLANATION)

    def is_pixel_in(self, html: str) -> bool:
        """Return True for an email that has a pixel of the server already."""
        return f"{self._root}{OPEN_PATH}" in html

    def _is_own(self, address: str) -> bool:
        return address.startswith(
            tuple(
                self._root + path
                for path in (CLICK_PATH, OPEN_PATH, UNSUBSCRIBE_PATH, EXPLANATION_PATH)
            )
        )

    def _url(self, path: str, kind: TokenKind, address: str = "") -> str:
        return self._root + path + TrackingToken(kind, self._ids, address).sign(self._key)


def _edited(html: str, edits: Collection[tuple[int, int, str]]) -> str:
    """Replace parts of a text, each from a start to an end."""
    parts, last = [], 0
    for start, end, text in sorted(edits):
        parts += [html[last:start], text]
        last = end
    return "".join([*parts, html[last:]])


def _mail_address(text: str) -> str:
    """Return an address for ``mailto:``.

    Raises:
        InvalidInput: it is none.
    """
    if "@" not in text or not text.isascii() or re.search(r"[\s<>,]", text):
        raise InvalidInput.at("/unsubscribe_mailto", "must be an email address")
    return escape(text)

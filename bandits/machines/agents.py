"""Classes of user agents: all that is kept of what a request says of its program."""

import re
from enum import IntEnum
from functools import lru_cache

from crawleruseragents import is_crawler

_LONGEST = 512  # characters that are looked at; longer ones are no browser's

# Proxies that fetch an email's images when its reader opens it, for Gmail, Yahoo and Fastmail.
_IMAGE_PROXIES = re.compile("GoogleImageProxy|YahooMailProxy|FastmailUA")
# Apple's Mail Privacy Protection says only this (uap-core, issue 509).
_PRIVACY_PROXY = "Mozilla/5.0"
# Scanners of mail by their own names, which lists of web crawlers lack.
_SCANNERS = re.compile(
    "barracuda|proofpoint|mimecast|ironport|ciscosecureemail|trend ?micro|tmes|fortimail|sophos"
    "|symantec|messagelabs|safelinks|forcepoint|trustwave|zscaler",
    re.IGNORECASE,
)
# Programs that call themselves Mozilla and open links in a browser, after a look of their own.
_OFFICE = re.compile("ms-office|msoffice|microsoft outlook|thunderbird", re.IGNORECASE)
_BROWSER = re.compile(r"(Mozilla|Opera)/\d")


class AgentClass(IntEnum):
    """Class of a user agent; the numbers are stored."""

    UNKNOWN = 0
    BROWSER = 1
    PROGRAM = 2
    """Another program, such as Outlook: it shows images, and links open in a browser."""
    IMAGE_PROXY = 3
    """A proxy of a mail provider that fetches images when the email is opened."""
    PRIVACY_PROXY = 4
    """A proxy that fetches images whether the email is opened or not."""
    CRAWLER = 5
    """A program that says that it is a crawler, a scanner of mail or a library for HTTP."""


@lru_cache(maxsize=4096)
def agent_class(user_agent: str | None) -> AgentClass:
    """Return the class of a user agent; unknown where there is none."""
    text = (user_agent or "").strip()[:_LONGEST]
    if not text:
        return AgentClass.UNKNOWN
    if text == _PRIVACY_PROXY:
        return AgentClass.PRIVACY_PROXY
    if _IMAGE_PROXIES.search(text):
        return AgentClass.IMAGE_PROXY
    if _SCANNERS.search(text) or is_crawler(text):
        return AgentClass.CRAWLER
    if _OFFICE.search(text) or not _BROWSER.match(text):
        return AgentClass.PROGRAM
    return AgentClass.BROWSER

"""Classes of mailboxes, by the domain of an address: all that is kept of where an email went."""

import re
from enum import IntEnum

_LONGEST = 320  # characters of an address

# Second-level names that a provider has under many country domains, such as `yahoo.co.uk`.
_FAMILIES = (
    ("google", {"gmail", "googlemail"}),
    ("microsoft", {"outlook", "hotmail", "live", "msn", "windowslive"}),
    ("yahoo", {"yahoo", "ymail", "rocketmail", "aol", "aim"}),
    ("apple", {"icloud", "me", "mac"}),
    (
        "provider",
        {
            *("gmx", "web", "t-online", "freenet", "orange", "wanadoo", "free", "laposte", "sfr"),
            *("libero", "virgilio", "tiscali", "mail", "yandex", "proton", "protonmail", "pm"),
            *("qq", "163", "126", "sina", "naver", "daum", "comcast", "verizon", "att", "cox"),
            *("btinternet", "sky", "virginmedia", "talktalk", "wp", "onet", "o2", "seznam"),
            *("bigpond", "optusnet", "shaw", "rogers", "telenet", "skynet", "ziggo", "kpnmail"),
            *("bluewin", "fastmail", "hey", "zoho", "rediffmail", "uol", "bol", "terra"),
        },
    ),
)
_NAMES = {name: family for family, names in _FAMILIES for name in names}
# Of these names only the domains are meant that follow; others are anybody's.
_DOMAINS = {
    "me": {"me.com"},
    "mac": {"mac.com"},
    "web": {"web.de"},
    "pm": {"pm.me"},
    "mail": {"mail.ru", "mail.com", "mail.de"},
    "free": {"free.fr"},
    "sky": {"sky.com"},
    "hey": {"hey.com"},
    "att": {"att.net"},
    "cox": {"cox.net"},
    "o2": {"o2.pl"},
    "terra": {"terra.com.br"},
    "proton": {"proton.me"},
    "aim": {"aim.com"},
    "orange": {"orange.fr"},
    "shaw": {"shaw.ca"},
    "126": {"126.com"},
    "163": {"163.com"},
}
_COUNTRY = re.compile(r"([a-z]{2,3}|com?\.[a-z]{2})\Z")


class MailboxClass(IntEnum):
    """Class of a mailbox; the numbers are stored."""

    UNKNOWN = 0
    GOOGLE = 1
    MICROSOFT = 2
    YAHOO = 3
    APPLE = 4
    PROVIDER = 5
    """Another provider of mailboxes to the public."""
    OWN_DOMAIN = 6
    """A domain of a company's or anybody's own; who runs its mail cannot be told from it."""

    @property
    def words(self) -> str:
        """The class in words, for pages."""
        return _WORDS[self]


_WORDS = {
    MailboxClass.UNKNOWN: "Not known",
    MailboxClass.GOOGLE: "Gmail",
    MailboxClass.MICROSOFT: "Outlook.com and Hotmail",
    MailboxClass.YAHOO: "Yahoo and AOL",
    MailboxClass.APPLE: "iCloud",
    MailboxClass.PROVIDER: "Other public providers",
    MailboxClass.OWN_DOMAIN: "Companies and own domains",
}
_CLASSES = {
    "google": MailboxClass.GOOGLE,
    "microsoft": MailboxClass.MICROSOFT,
    "yahoo": MailboxClass.YAHOO,
    "apple": MailboxClass.APPLE,
    "provider": MailboxClass.PROVIDER,
}


def mailbox_class(recipient: str | None) -> MailboxClass:
    """Return the class of the mailbox of an address, or of a domain; unknown of anything else."""
    text = (recipient or "").strip().lower()
    domain = text.rpartition("@")[2].rstrip(".>")
    if len(text) > _LONGEST or "." not in domain or " " in domain:
        return MailboxClass.UNKNOWN
    name, _, ending = domain.partition(".")
    meant = _DOMAINS.get(name)
    if name in _NAMES and (domain in meant if meant else _COUNTRY.match(ending)):
        return _CLASSES[_NAMES[name]]
    return MailboxClass.OWN_DOMAIN

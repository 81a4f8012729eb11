"""Known columns: what mailers, shops and people call recipients, events and their times.

`EXPORTS` names whole exports of mailers. Where a mailer's documents do not show the names of the
columns, these are as seen in files, and the export says that it is not confirmed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from bandits.rewards import RewardRule

_BETWEEN = re.compile(r"[\W_]+")

_DECISION = ("decision id",)
_SUBJECT = (
    *("subject id", "recipient", "recipient id", "customer id", "user id", "email"),
    *("email address", "e mail", "e mail address", "emailaddress", "email id", "subscriber"),
    *("subscriber email", "contact email", "recipient email", "e mail adresse", "adresse e mail"),
    *("correo electrónico", "indirizzo email", "contact id", "subscriber id", "profile id", "id"),
)
_EVENTS: Mapping[str, tuple[str, ...]] = {
    "click": (
        *("clicks", "clicked", "unique clicks", "total clicks", "click count", "clicked email"),
        *("email clicked", "clicked link", "click date", "click time", "clicked at", "klicks"),
    ),
    "open": (
        *("opens", "opened", "unique opens", "total opens", "open count", "opened email", "view"),
        *("email opened", "open date", "open time", "opened at", "views", "öffnungen"),
    ),
    "order": ("orders", "ordered", "purchase", "purchases", "purchased", "placed order"),
    "revenue": ("revenues", "total revenue", "sales", "umsatz", "order value", "order total"),
    "unsubscribe": (
        *("unsubscribes", "unsubscribed", "unsubscribe date", "unsub time", "unsubscribed at"),
        *("opted out", "opt out", "optout", "unsubscribed from list"),
    ),
    "complaint": (
        *("complaints", "complained", "spam", "spam complaint", "marked spam", "marked as spam"),
        *("marked email as spam", "spamreport", "spam report", "abuse complaint", "complaint date"),
    ),
    "bounce": (
        *("bounces", "bounced", "bounced email", "hard bounce", "hard bounces", "hard bounced"),
        *("bounce date", "hard bounce date"),
    ),
    "delivered": ("delivery", "deliveries", "delivered date", "received email", "email delivered"),
    "reply": ("replies", "replied", "reply date"),
    "refund": ("refunds", "refunded", "refunded order"),
}
_EXTRA: Mapping[str, tuple[str, ...]] = {
    "metric": ("metric", "event", "event name", "event type", "action", "activity"),
    "value": ("value", "event value", "amount"),
    "event": ("event id",),
    "occurred_at": ("occurred at", "event time", "event date", "event timestamp", "happened at"),
    "as_of": ("as of",),
}
# Elsewhere these may be when somebody signed up; in a list of events they are when it happened.
_TIMES_OF_EVENTS = ("timestamp", "time", "date", "created at", "created", "datetime", "date time")


class KnownExport(Struct, frozen=True):
    """Export of a mailer.

    Attributes:
        key: names it in addresses.
        title: for people.
        kind: what it is a file of.
        columns: columns that make it this export.
        subject: the column of recipients.
        metrics: columns by event; any cell but an empty one, 0 or no is an event.
        metric: the column that names the event of a row.
        every_row: the event that each row is.
        occurred_at: the column of times.
        confirmed: its columns stand in public documents or source code.
    """

    key: str
    title: str
    kind: Literal["recipients", "results"]
    columns: tuple[str, ...]
    subject: str
    metrics: Mapping[str, str] = {}
    metric: str = ""
    every_row: str = ""
    occurred_at: str = ""
    confirmed: bool = False


EXPORTS = (
    KnownExport(
        "mailchimp-audience",
        "Mailchimp: audience",
        "recipients",
        ("Email Address", "MEMBER_RATING", "OPTIN_TIME"),
        "Email Address",
        confirmed=True,
    ),
    KnownExport(
        "mailchimp-report",
        "Mailchimp: campaign report, opened and clicked",
        "results",
        ("Email Address", "Opens", "Clicks"),
        "Email Address",
        {"open": "Opens", "click": "Clicks"},
    ),
    KnownExport(
        "klaviyo-recipients",
        "Klaviyo: recipient activity",
        "results",
        ("Email", "Received Email", "Opened Email", "Clicked Email"),
        "Email",
        {"delivered": "Received Email", "open": "Opened Email", "click": "Clicked Email"},
    ),
    KnownExport(
        "klaviyo-profiles",
        "Klaviyo: list or segment",
        "recipients",
        ("Email", "Klaviyo ID"),
        "Email",
    ),
    KnownExport(
        "brevo-report",
        "Brevo: campaign recipients",
        "results",
        ("Email_ID", "Send_Date", "Open_Date", "Click_Date"),
        "Email_ID",
        {
            "delivered": "Delivered_Date",
            "open": "Open_Date",
            "click": "Click_Date",
            "unsubscribe": "Unsubscribe_Date",
            "complaint": "Complaint_Date",
        },
    ),
    KnownExport(
        "listmonk-clicks",
        "listmonk: clicks",
        "results",
        ("campaign_uuid", "subscriber_uuid", "email", "url", "created_at"),
        "email",
        every_row="click",
        occurred_at="created_at",
        confirmed=True,
    ),
    KnownExport(
        "listmonk-views",
        "listmonk: views",
        "results",
        ("campaign_uuid", "subscriber_uuid", "email", "created_at"),
        "email",
        every_row="open",
        occurred_at="created_at",
        confirmed=True,
    ),
    KnownExport(
        "mailerlite-report",
        "MailerLite: campaign subscribers",
        "results",
        ("Subscriber", "Opens", "Clicks"),
        "Subscriber",
        {"open": "Opens", "click": "Clicks"},
    ),
    KnownExport(
        "hubspot-events",
        "HubSpot: email events",
        "results",
        ("Recipient", "Event type", "Timestamp"),
        "Recipient",
        metric="Event type",
        occurred_at="Timestamp",
    ),
    KnownExport(
        "hubspot-recipients",
        "HubSpot: recipients of an email",
        "results",
        ("Email", "Opened", "Clicked", "Opted out"),
        "Email",
        {
            "delivered": "Delivered",
            "open": "Opened",
            "click": "Clicked",
            "bounce": "Bounced",
            "unsubscribe": "Opted out",
            "complaint": "Marked as spam",
        },
    ),
)


class KnownColumns:
    """Columns of a file, found by what they are usually called."""

    def __init__(self, columns: Sequence[str]) -> None:
        """Remember the columns by their plain names, each by the first of several."""
        self._by_name = {_plain(c): c for c in reversed(columns)}

    def _first(self, names: Iterable[str]) -> str:
        return next((self._by_name[n] for n in names if n in self._by_name), "")

    @property
    def decision(self) -> str:
        """Column of decision ids, empty without one."""
        return self._first(_DECISION)

    @property
    def subject(self) -> str:
        """Column of recipients, empty without one."""
        return self._first(_SUBJECT)

    def feature(self, name: str) -> str:
        """Return the column that is called like a feature, empty without one."""
        return self._first([_plain(name)])

    def event(self, name: str) -> str:
        """Return the column of an event, empty without one."""
        plain = _plain(name)
        return self._first([plain, *_EVENTS.get(name, (f"{plain}s",))])

    def extra(self) -> dict[str, str]:
        """Return the columns `metric`, `value`, `event`, `occurred_at` and `as_of`."""
        extra = {name: self._first(names) for name, names in _EXTRA.items()}
        if extra["metric"] and not extra["occurred_at"]:
            extra["occurred_at"] = self._first(_TIMES_OF_EVENTS)
        return extra

    def export(self, kind: str) -> KnownExport | None:
        """Return the mailer's export that has these columns, None if no known one has."""
        fits = [e for e in EXPORTS if e.kind == kind and self.has_export(e)]
        return max(fits, key=lambda e: len(e.columns), default=None)

    def has_export(self, export: KnownExport) -> bool:
        """Return True if all columns of an export are there."""
        return all(_plain(column) in self._by_name for column in export.columns)

    def named(self, column: str) -> str:
        """Return the column of a plain name, empty without one."""
        return self._by_name.get(_plain(column), "") if column else ""


def event_name(cell: str, rule: RewardRule) -> str:
    """Return the event that a cell names, however its mailer calls it; else the cell itself."""
    names = rule.event_names
    if cell in names:
        return cell
    plain = _plain(cell)
    for name in names:
        if plain in (_plain(name), *_EVENTS.get(name, ())):
            return name
    return cell


def _plain(name: str) -> str:
    return _BETWEEN.sub(" ", name).strip().casefold()

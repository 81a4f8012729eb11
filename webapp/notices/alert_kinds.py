"""Alert kinds: of what people, webhooks and chats may be told, and who may be told by mail."""

from msgspec import Struct

from storage.accounts import AccountStore, Role
from storage.accounts.roles import includes
from storage.outgoing import AlertStore

WEEKLY = "weekly"


class AlertKind(Struct, frozen=True):
    """A kind of alert.

    Attributes:
        label: on pages.
        role: of the people who may choose it.
        event_type: in the body of a webhook; empty for what only people are told.
    """

    label: str
    role: Role
    event_type: str


ALERT_KINDS = {
    "winner": AlertKind("A campaign has a winner", "viewer", "campaign.winner"),
    "ended": AlertKind("A campaign has ended", "viewer", "campaign.ended"),
    "no_traffic": AlertKind(
        "A running campaign has sent nothing for a day", "viewer", "campaign.no_traffic"
    ),
    "file_ready": AlertKind("Your file is ready, or a wave of it", "manager", "file.ready"),
    "file_failed": AlertKind("Your file has failed", "manager", "file.failed"),
    "connection_failing": AlertKind("A connection fails", "admin", "connection.failing"),
    WEEKLY: AlertKind("A weekly summary, on Mondays", "viewer", ""),
}


def target_alerts() -> dict[str, AlertKind]:
    """Return the kinds that webhooks and chats may be told of."""
    return {name: kind for name, kind in ALERT_KINDS.items() if kind.event_type}


def listeners(
    alerts: AlertStore, accounts: AccountStore, alert: str, *, since: float, only: str | None = None
) -> list[str]:
    """Return the targets of an alert in the outbox.

    Args:
        alerts: what was chosen.
        accounts: whose roles count.
        alert: its kind.
        since: time of the event; who chose the alert later is not told.
        only: address of the one person whom it concerns, None where it concerns all.
    """
    kind = ALERT_KINDS[alert]
    readers = alerts.readers(alert)
    people = [
        f"user:{user.id}"
        for user in (accounts.users() if readers else [])
        if readers.get(user.id, since + 1) <= since
        and includes(user.role, kind.role)
        and only in {None, user.email}
    ]
    targets = [
        f"target:{target.id}"
        for target in (alerts.targets() if kind.event_type else [])
        if alert in target.alerts and target.created_at <= since
    ]
    return people + targets

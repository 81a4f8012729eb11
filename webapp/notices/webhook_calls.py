"""Webhook calls: alerts as signed Standard Webhooks, and as messages of chats."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from storage.outgoing import AlertTarget, Notice
from webapp.egress import EgressGuard, EgressRefused
from webapp.notices.alert_kinds import ALERT_KINDS
from webapp.signals.standard_signature import SECRET_PREFIX

_SECONDS = 15.0
_GONE, _TOO_MANY, _SERVERS_OWN = 410, 429, 500
_TEAMS = (".office.com", ".office365.com", ".logic.azure.com", ".powerplatform.com")


class CallFailed(Exception):
    """A call that its target did not take; `again` where another attempt may help."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def call_target(
    guard: EgressGuard, target: AlertTarget, notice: Notice, address: str, *, at: float
) -> None:
    """Tell a target of an alert.

    Args:
        guard: of what the server calls.
        target: webhook or chat.
        notice: the alert.
        address: of the alert's page, empty where it is not known.
        at: now.

    Raises:
        CallFailed: it did not take the call.
    """
    content = notice.content
    if target.kind == "chat":
        body = msgspec.json.encode(_chat_message(target.url, content, address))
        headers = {}
    else:
        body = msgspec.json.encode(_event(notice, address))
        headers = _signature(target.secret, f"msg_{notice.id}", body, at)
    headers["Content-Type"] = "application/json"
    parts = urlsplit(target.url)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        with guard.client(f"{parts.scheme}://{parts.netloc}", seconds=_SECONDS) as http:
            answer = http.post(path, content=body, headers=headers)
    except (EgressRefused, httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise CallFailed(f"it cannot be reached: {error}", again=True) from None
    except (httpx.HTTPError, ValueError) as error:
        # A webhook's receiver knows the id of what it was told already; a chat shows it twice.
        again = target.kind == "webhook"
        raise CallFailed(f"it did not answer: {type(error).__name__}", again=again) from None
    if not answer.is_success:
        status = answer.status_code
        again = status in {408, _TOO_MANY} or status >= _SERVERS_OWN
        raise CallFailed(f"it answered {status}", again=again)


def _event(notice: Notice, address: str) -> dict[str, Any]:
    content = notice.content
    kind = ALERT_KINDS.get(content["alert"])
    return {
        "type": "test" if kind is None else kind.event_type,
        "timestamp": datetime.fromtimestamp(notice.created_at, UTC),
        "data": {
            "event": notice.event,
            "subject": content["subject"],
            "text": content["text"],
            "url": address or None,
        },
    }


def _signature(secret: str, call_id: str, body: bytes, at: float) -> dict[str, str]:
    """Sign a call as Standard Webhooks are."""
    key, timestamp = b64decode(secret.removeprefix(SECRET_PREFIX)), f"{at:.0f}"
    mac = digest(key, f"{call_id}.{timestamp}.".encode() + body, sha256)
    return {
        "webhook-id": call_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{b64encode(mac).decode()}",
    }


def _chat_message(url: str, content: Mapping[str, str], address: str) -> dict[str, Any]:
    """Return the message as Slack and chats like it take it, or Teams where the address is its."""
    lines = [content["subject"], content["text"], *([address] if address else [])]
    if not (urlsplit(url).hostname or "").endswith(_TEAMS):
        return {"text": "\n".join(_without_markup(line) for line in lines)}
    blocks = [{"type": "TextBlock", "text": line, "wrap": True} for line in lines]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": blocks}
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


def _without_markup(text: str) -> str:
    """Escape what Slack reads as a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

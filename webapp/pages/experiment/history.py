"""Pages of an experiment's set-up and of the history of its changes."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from flask import render_template, request
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.experiment import Experiment
from bandits.features import decode
from storage.audit_log import AuditEntry
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.pages.experiment.labels import STATES, reward_measure
from webapp.pages.form.fields import methods
from webapp.row_numbers import row_number
from webapp.services import services

_LONGEST = 400
TITLES = {
    ("user", "add"): "Added",
    ("user", "remove"): "Removed",
    ("user", "set role"): "Role changed",
    ("user", "set password"): "New password",
    ("user", "invite"): "Invited",
    ("user", "withdraw invitation"): "Invitation withdrawn",
    ("user", "make reset link"): "Link for a new password made",
    ("user", "reset password"): "New password by a link",
    ("user", "sign out"): "Signed out elsewhere",
    ("user", "sign in"): "Signed in",
    ("user", "fail to sign in"): "Sign-in failed",
    ("user", "connect"): "Connected with the sign-in provider",
    ("user", "turn on codes"): "Sign-in codes turned on",
    ("user", "turn off codes"): "Sign-in codes turned off",
    ("key", "hand over"): "Handed over",
    ("key", "create"): "Made",
    ("key", "revoke"): "Revoked",
    ("tracking_key", "create"): "Made",
    ("tracking_key", "rotate"): "Replaced",
    ("tracking_key", "revoke"): "Revoked",
    ("link_hosts", "configure"): "Changed",
    ("workspace", "configure"): "Changed",
    ("mail_settings", "configure"): "Changed",
    ("mail_settings", "remove"): "Removed",
    ("alert_target", "add"): "Added",
    ("alert_target", "remove"): "Removed",
    ("key", "rotate"): "Given a new token",
    ("connection", "add"): "Connected",
    ("connection", "configure"): "Settings changed",
    ("connection", "delete"): "Deleted",
    ("connection", "pause"): "Paused",
    ("connection", "replay"): "Refused event taken again",
    ("connection", "resume"): "Resumed",
    ("connection", "rotate"): "Given new secrets",
    ("key", "limit"): "Limit changed",
    ("draft", "remove"): "Draft ended",
    ("experiment", "guardrail pause"): "Paused by a guardrail",
    ("experiment", "guardrail alert"): "A guardrail was passed",
    ("experiment", "guardrail undo"): "What a guardrail did undone",
    ("experiment", "void"): "What a sender did voided",
    ("experiment", "restore"): "What a sender did restored",
    ("experiment", "erase"): "A recipient's decisions erased",
    ("experiment", "configure"): "Set-up changed",
    ("experiment", "create"): "Created as a draft",
}


class ChangeEntry(Struct, frozen=True):
    """One entry: title, author, time, and the values of each changed field before and after."""

    title: str
    by: str
    at: float
    differences: tuple[tuple[str, str | None, str | None], ...]


def change_entry(change: AuditEntry) -> ChangeEntry:
    """Convert an entry of the audit log to the page's words."""
    kind = change.subject.partition(":")[0]
    match change.action:
        case "move":
            before, after = change.before["state"], change.after["state"]
            title = f"{STATES[before]} → {STATES[after]}"
            if shipped := change.after.get("ship"):
                everyone = "everyone"
                if change.after.get("keep_control_group"):
                    everyone = "everyone but the control group"
                title += f", {everyone} gets {' · '.join(shipped.values())}"
            return ChangeEntry(title, change.by, change.at, ())
        case "create" if kind == "experiment":
            return ChangeEntry(TITLES[kind, "create"], change.by, change.at, ())
        case _:
            title = TITLES.get((kind, change.action), change.action.capitalize())
    before, after = change.before, change.after
    if kind == "draft":  # its text is kept as it was stored
        before, after = _without_blanks(msgspec.json.decode(before)), {}
    return ChangeEntry(title, change.by, change.at, tuple(_compare("", before, after)))


def _without_blanks(value: Any) -> Any:
    """Leave out the empty fields of a draft."""
    match value:
        case dict():
            return {k: content for k, v in value.items() if (content := _without_blanks(v))}
        case list():
            return [content for v in value if (content := _without_blanks(v))]
        case _:
            return value


def _compare(place: str, before: Any, after: Any) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the places at which two JSON values differ, with both values."""
    if before == after:
        return
    old, new = _members(before), _members(after)
    if old is None or new is None or type(before) is not type(after):
        yield place, _text(before), _text(after)
        return
    for name in dict.fromkeys([*old, *new]):
        inner = f"{place} › {name}" if place else name
        yield from _compare(inner, old.get(name), new.get(name))


def _members(value: Any) -> dict[str, Any] | None:
    """Return the members of an object, or of a list by their key, name or position."""
    match value:
        case dict():
            return value
        case list():
            return {_name(member, i): member for i, member in enumerate(value)}
        case _:
            return None


def _name(member: Any, position: int) -> str:
    if isinstance(member, dict):
        return str(member.get("key") or member.get("name") or position + 1)
    return str(position + 1)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_CHANGES = 100


@pages.get("/experiments/<key:key>/setup")
@needs("viewer")
def setup(key: str) -> ResponseReturnValue:
    """Show the declaration, and sample requests of a sender."""
    record = services().engine.store.experiments.record(key)
    declared = record.configuration.experiment
    return render_template(
        "experiment/setup.html",
        record=record,
        declared=declared,
        measure=reward_measure(declared.reward),
        method=next(m for m in methods() if m.name == declared.policy.name),
        sample_choose=_sample_choose(declared),
        sample_reward=_sample_reward(declared),
        tab="setup",
    )


def _sample_choose(declared: Experiment) -> str:
    context = decode(declared.context, np.ones(declared.encoder().n_features))
    request = {"subject_id": "recipient-1", **({"context": context} if context else {})}
    return msgspec.json.encode(request).decode()


def _sample_reward(declared: Experiment) -> str:
    metric = next(iter(declared.reward.metrics))
    event = {"decision_id": "…", "event_id": "1", "metric": metric}
    return msgspec.json.encode({"rewards": [event]}).decode()


@pages.get("/experiments/<key:key>/history")
@needs("viewer")
def history(key: str) -> ResponseReturnValue:
    """Show the changes with their authors, the newest first."""
    record = services().engine.store.experiments.record(key)
    before = request.args.get("before", type=row_number)
    changes = services().accounts.changes(
        subject=f"experiment:{key}", before_id=before, limit=_CHANGES + 1
    )
    return render_template(
        "experiment/history.html",
        record=record,
        changes=[change_entry(change) for change in changes[:_CHANGES]],
        more=changes[_CHANGES - 1].id if len(changes) > _CHANGES else None,
        tab="history",
    )

"""Documentation of the kinds of senders: a page each, made from its declaration.

``python -m webapp.signals.kind_docs`` writes docs/connections. With ``--check`` it writes nothing,
and fails if a page there is another than it would write.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from bandits.rewards import LISTED_EVENTS
from webapp.signals.connection_kind import ConnectionField, ConnectionKind
from webapp.signals.delivery import RefusalCause
from webapp.signals.kind_registry import connection_kinds
from webapp.signals.signal_event import MAX_EVENTS

FOLDER = Path("docs/connections")
INDEX = "README.md"
_ADDRESS = "https://YOUR-SERVER/webhooks/{name}/KEY"

_HEAD = """\
# Connections

**You use SendGrid?** Three steps: choose with each email and pass the decision's id along, connect,
see the first event. So it is with every mailer below. Each page has the code for its own call,
which our tests run.

| no mailer of these | |
|---|---|
| your own SMTP server | [three steps](../own-smtp.md) |
| Keila | [three steps](../list-tools/keila.md) |

A connection lets a mailer or a shop report events by itself: deliveries, opens, clicks, orders. You
choose its key, and it gets an address of its own, `/webhooks/KIND/KEY`. Each delivery is verified
before it is read, and each event counts once, however often it is sent. An event names its decision
by the id that you sent along with the email.

`make docs` makes these pages from the code. In samples, `https://bandits.example` is your server,
and `TOKEN` an API key with the scope `choose`.

| | kind | |
|---|---|---|
"""
_CAUSES = {
    RefusalCause.SIGNATURE_MISSING: "signature or password missing",
    RefusalCause.SIGNATURE_WRONG: "signature or password wrong",
    RefusalCause.SIGNATURE_STALE: "signature too old",
    RefusalCause.UNREADABLE: "body not readable",
    RefusalCause.TOO_LARGE: "body over {size} kB, or over {events:,} events",
    RefusalCause.MEDIA_TYPE: "wrong content type, or compressed body",
    RefusalCause.METHOD: "wrong method",
    RefusalCause.UNAVAILABLE: "database not available: send it again",
}


def pages(kinds: Mapping[str, ConnectionKind]) -> dict[str, str]:
    """Write every page, by its file's name."""
    rows = [f"| [{k.label}]({name}.md) | `{name}` | {k.purpose} |" for name, k in kinds.items()]
    return {
        INDEX: _HEAD + "\n".join(rows) + "\n",
        **{f"{name}.md": kind_page(kind) for name, kind in kinds.items()},
    }


def kind_page(kind: ConnectionKind) -> str:
    """Write the page of one kind: its three steps, then what is good to know."""
    parts = [
        f"# {kind.label}\n\n{kind.purpose} The kind of connection is `{kind.name}`.",
        f"## 1. Pass the decision's id along\n\n{kind.passing}\n\n{_sample(kind)}",
        f"## 2. Connect\n\n{_steps(kind)}",
        f"## 3. See the first event\n\n{_first_event(kind)}",
        f"## Traps\n\n{_traps(kind)}",
        f"## Fields of the connection\n\n{_fields(kind)}",
        f"## Events\n\n{_names(kind)}",
        f"## Verification\n\n{kind.proof}",
        f"## Answers and retries\n\n{_answers(kind)}",
    ]
    return "\n\n".join(parts) + "\n"


def _sample(kind: ConnectionKind) -> str:
    return f"```{kind.sample.language}\n{kind.sample.text}```"


def _steps(kind: ConnectionKind) -> str:
    """Number the steps; the connection comes first, since it has the address."""
    address = _ADDRESS.format(name=kind.name)
    steps = (
        (
            f"Add a connection of the kind {kind.label}, with a key of your choice, under Settings"
            " → Connections, or as below."
        ),
        *kind.steps_at(address),
    )
    numbered = "\n".join(f"{n}. {step}" for n, step in enumerate(steps, start=1))
    return f"{numbered}\n\n```sh\n{_command(kind)}\n```{_secret_note(kind)}"


def _command(kind: ConnectionKind) -> str:
    """Write the command that adds a connection, with the key ``newsletter``."""
    values = [f"--value {f.name}={f.name.upper()}" for f in kind.fields if _typed(f)]
    secret = ["--secret-stdin"] if _has_typed_secret(kind) else []
    return " ".join(["bandits connection add", kind.name, "newsletter", *values, *secret])


def _typed(field: ConnectionField) -> bool:
    return field.required and not field.secret


def _has_typed_secret(kind: ConnectionKind) -> bool:
    return any(field.required and field.secret for field in kind.fields)


def _secret_note(kind: ConnectionKind) -> str:
    """Describe where the secret comes from, where the command is used."""
    if _has_typed_secret(kind):
        return "\n\nType or paste the secret as a line of its own."
    if any(field.generated for field in kind.fields):
        return "\n\nIt prints the secret that it made, once."
    return ""


def _first_event(kind: ConnectionKind) -> str:
    """Describe how a person sees that it works."""
    act = "Send one email to yourself, open it and click a link."
    if "order" in kind.names:
        act = "Follow the link in an email to yourself, and place a small order."
    return (
        f"{act} Then open Settings → Connections → KEY → Test: it says whether a delivery was"
        " verified, and whether an event named a decision. In a shell, `bandits connection list`"
        " counts them. What did not fit is listed below the connection, with the reason."
    )


def _traps(kind: ConnectionKind) -> str:
    return "\n".join(f"- {trap}" for trap in kind.traps)


def _fields(kind: ConnectionKind) -> str:
    rows = [
        f"| `{field.name}` | {field.label} | {field.help}"
        f"{' Made and shown once where it is left out.' if field.generated else ''}"
        f" | {'yes' if field.secret else 'no'} |"
        for field in kind.fields
    ]
    head = "| field | | | secret |\n|---|---|---|---|\n"
    rotation = "After a change, the previous value is accepted for a while."
    return head + "\n".join(rows) + f"\n\n{rotation}"


def _names(kind: ConnectionKind) -> str:
    rows = []
    for sent_name, name in kind.names.items():
        ours = f"`{name}`" if name in LISTED_EVENTS else name or "ignored"
        rows.append(f"| {sent_name} | {ours} |")
    table = "| sent | counted as |\n|---|---|\n" + "\n".join(rows)
    rest = "Any other event is refused and listed with its reason. The rest of its delivery counts."
    return "\n\n".join(part for part in (table, rest, kind.limits) if part)


def _answers(kind: ConnectionKind) -> str:
    probes = "".join(f" So is a {method} request." for method in kind.probes)
    done = f"A verified delivery is answered 200, also if it came before.{probes}"
    size = kind.max_body_bytes // 1024
    rows = [
        f"| {text.format(size=size, events=MAX_EVENTS)} | {kind.answer(cause).status} |"
        for cause, text in _CAUSES.items()
        if cause is not RefusalCause.SIGNATURE_STALE or kind.oldest is not None
    ]
    table = "| problem | status |\n|---|---|\n" + "\n".join(rows)
    return f"{done}\n\n{table}\n\n{kind.retries}"


def main(arguments: list[str]) -> None:
    """Write the pages, or compare them with ``--check``."""
    expected = pages(connection_kinds())
    stale = {p.name for p in FOLDER.glob("*.md")} - set(expected)
    if arguments == ["--check"]:
        paths = {FOLDER / name: text for name, text in expected.items()}
        if stale or any(not p.exists() or p.read_text() != text for p, text in paths.items()):
            sys.exit(f"{FOLDER} is stale; run python -m webapp.signals.kind_docs")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in expected.items():
        (FOLDER / name).write_text(text)
    for name in stale:
        (FOLDER / name).unlink()


if __name__ == "__main__":
    main(sys.argv[1:])

"""Documentation of the kinds of senders: a page each, made from its declaration.

``python -m webapp.signals.kind_docs`` writes docs/connections. With ``--check`` it writes nothing,
and fails if a page there is another than it would write.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from bandits.rewards import LISTED_EVENTS
from webapp.signals.connection_kind import ConnectionKind
from webapp.signals.delivery import RefusalCause
from webapp.signals.kind_registry import connection_kinds

FOLDER = Path("docs/connections")
INDEX = "README.md"
_ADDRESS = "https://YOUR-SERVER/webhooks/{name}/KEY"

_HEAD = """\
# Connections

A connection lets a mailer or a shop report events by itself: deliveries, opens, clicks, orders. It has a
key, which you choose, and an address of its own, `/webhooks/KIND/KEY`. Everything that comes there is proved
before it is read, counted once however often it comes, and never credited by guess: an event says which
decision it is of by the id that you passed through with the email.

These pages are made from the code by `make docs`.

| | kind | |
|---|---|---|
"""
_CAUSES = {
    RefusalCause.SIGNATURE_MISSING: "the proof is missing",
    RefusalCause.SIGNATURE_WRONG: "the proof is wrong",
    RefusalCause.SIGNATURE_STALE: "the signature is too old",
    RefusalCause.UNREADABLE: "the body cannot be read at all",
    RefusalCause.TOO_LARGE: "the body is too large",
    RefusalCause.MEDIA_TYPE: "the content type is another, or the body is compressed",
    RefusalCause.METHOD: "the method is another",
    RefusalCause.UNAVAILABLE: "the database is away for a moment",
}


def pages(kinds: Mapping[str, ConnectionKind]) -> dict[str, str]:
    """Write every page, by its file's name."""
    rows = [f"| [{k.label}]({name}.md) | `{name}` | {k.purpose} |" for name, k in kinds.items()]
    return {
        INDEX: _HEAD + "\n".join(rows) + "\n",
        **{f"{name}.md": kind_page(kind) for name, kind in kinds.items()},
    }


def kind_page(kind: ConnectionKind) -> str:
    """Write the page of one kind."""
    parts = [
        f"# {kind.label}\n\n{kind.purpose} The kind of connection is `{kind.name}`.",
        f"## Set it up\n\n{_steps(kind)}",
        f"## Pass the decision through\n\n{kind.passing}",
        f"## What a connection needs\n\n{_fields(kind)}",
        f"## What becomes of its events\n\n{_names(kind)}",
        f"## How a delivery is proved\n\n{kind.proof}",
        f"## What it is answered, and when it comes again\n\n{_answers(kind)}",
    ]
    return "\n\n".join(parts) + "\n"


def _steps(kind: ConnectionKind) -> str:
    """Number the steps; the connection comes first, since it has the address."""
    address = _ADDRESS.format(name=kind.name)
    steps = (
        f"Add a connection of the kind {kind.label}, with a key of your choice.",
        *(step.replace("{address}", address) for step in kind.steps),
    )
    return "\n".join(f"{n}. {step}" for n, step in enumerate(steps, start=1))


def _fields(kind: ConnectionKind) -> str:
    rows = [
        f"| `{field.name}` | {field.label} | {field.help} | {'yes' if field.secret else 'no'} |"
        for field in kind.fields
    ]
    head = "| field | | | secret |\n|---|---|---|---|\n"
    rotation = "While a secret is being changed, the one before it is still taken."
    return head + "\n".join(rows) + f"\n\n{rotation}"


def _names(kind: ConnectionKind) -> str:
    rows = []
    for sent_name, name in kind.names.items():
        ours = f"`{name}`" if name in LISTED_EVENTS else name or "ignored"
        rows.append(f"| {sent_name} | {ours} |")
    table = "| sent | counted as |\n|---|---|\n" + "\n".join(rows)
    rest = "Any other event is listed as refused, with its reason; the rest of its delivery counts."
    return "\n\n".join(part for part in (table, rest, kind.limits) if part)


def _answers(kind: ConnectionKind) -> str:
    probes = "".join(f" A {method} request is answered 200 too." for method in kind.probes)
    done = f"A delivery that was taken, also one that had come before, is answered 200.{probes}"
    rows = [f"| {text} | {kind.answer(cause).status} |" for cause, text in _CAUSES.items()]
    table = "| otherwise | status |\n|---|---|\n" + "\n".join(rows)
    return "\n\n".join((done, table, kind.retries))


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

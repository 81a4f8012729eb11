"""Push of choices: decide for the contacts of a list tool, and write each choice into its contact.

It may end at any page and be done again: a contact's decision has the same id, so it is the same,
and what a contact has already is not written.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from bandits.actors import Actor
from bandits.engine import Engine
from bandits.schemas import Decision, Request
from webapp.listmonk.subscribers import context_of

Choice = Mapping[str, str]  # by slot, the text of its variant, else its key; and "decision", its id
DECISION = "decision"


class Contact(Struct, frozen=True):
    """One contact of a list tool.

    Attributes:
        id: of the tool.
        subject_id: names the recipient in the log.
        attributes: what may be known of them, by name.
        pushed: what an earlier push wrote, by slot; empty without any.
        source: what the list needs to write to it.
    """

    id: str
    subject_id: str
    attributes: Mapping[str, Any]
    pushed: Choice
    source: Any = None


class ContactPage(Struct, frozen=True):
    """Some contacts of a list.

    Attributes:
        contacts: that may get an email.
        skipped: how many others there are, who may not.
        after: the place from which the list goes on.
    """

    contacts: Sequence[Contact]
    skipped: int
    after: str


class ContactList(Protocol):
    """A list of contacts at a tool."""

    def check(self, slots: Sequence[str]) -> None:
        """Look whether the tool has a place for each slot, and for the decision.

        Raises:
            InvalidInput: it has not.
            ToolUnavailable: it does not answer as it should.
        """

    def pages(self, after: str) -> Iterator[ContactPage]:
        """Yield the contacts behind a place, from the first where that is empty.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """

    def write(self, choices: Sequence[tuple[Contact, Choice]]) -> Mapping[str, str]:
        """Write choices into contacts; return why the tool refused some, by their ids.

        Raises:
            ToolUnavailable: it does not answer as it should.
        """


class PushProgress(Struct, frozen=True):
    """Counts of a push so far.

    Attributes:
        written: contacts that got a choice.
        unchanged: contacts that had theirs already.
        skipped: contacts that get no email.
        refused: contacts that were not decided for, or not written to.
        reason: why the last of those was refused by the tool; empty where none was.
        variants: by slot and variant, how many got it.
        after: the place from which the list goes on.
    """

    written: int = 0
    unchanged: int = 0
    skipped: int = 0
    refused: int = 0
    reason: str = ""
    variants: Mapping[tuple[str, str], int] = {}
    after: str = ""


class ListPush:
    """Push of one experiment's choices into one list."""

    def __init__(
        self, engine: Engine, experiment: str, contacts: ContactList, *, sending: str, actor: Actor
    ) -> None:
        """Choose by `engine`, in the name of `actor`.

        Args:
            engine: decides.
            experiment: its key.
            contacts: the list.
            sending: names the email, the same whenever its push is done again.
            actor: who asks, for the log.

        Raises:
            NotFound: there is no such experiment.
        """
        self._engine = engine
        self._experiment = engine.store.experiments.record(experiment).configuration.experiment
        self._contacts = contacts
        self._sending = sending
        self._actor = actor

    def run(self, *, after: str = "", dry_run: bool = False) -> Iterator[PushProgress]:
        """Push page by page, and yield the counts after each.

        Args:
            after: the place to begin behind, as an earlier push told it.
            dry_run: decide without recording, and write nothing.

        Raises:
            InvalidInput: the tool has no place for a slot; nothing was recorded.
            WrongState: the experiment is not running.
            ToolUnavailable: the tool does not answer as it should; the last counts say where to go
                on.
        """
        self._contacts.check([slot.key for slot in self._experiment.slots])
        total, variants = PushProgress(after=after), Counter[tuple[str, str]]()
        for page in self._contacts.pages(after):
            decisions = self._choose(page.contacts, dry_run=dry_run)
            pairs = [
                (contact, decision)
                for contact, decision in zip(page.contacts, decisions, strict=True)
                if decision is not None
            ]
            changed = [
                (contact, decision, choice)
                for contact, decision in pairs
                if dict(contact.pushed) != (choice := choice_of(decision))
            ]
            refused = {} if dry_run else self._write(changed)
            for contact, decision in pairs:
                if contact.id not in refused:
                    variants.update((s, c["variant"]) for s, c in decision.slots.items())
            total = PushProgress(
                total.written + len(changed) - len(refused),
                total.unchanged + len(pairs) - len(changed),
                total.skipped + page.skipped,
                total.refused + len(page.contacts) - len(pairs) + len(refused),
                next(iter(refused.values()), total.reason),
                dict(variants),
                page.after,
            )
            yield total

    def _choose(self, contacts: Sequence[Contact], *, dry_run: bool) -> Sequence[Decision | None]:
        key = self._experiment.key
        requests = [
            Request(
                contact.subject_id,
                context_of(self._experiment, contact.attributes),
                f"{self._sending}.{contact.id}",
            )
            for contact in contacts
        ]
        if not requests:
            return []
        if dry_run:
            return self._engine.choose(key, requests, actor=self._actor, dry_run=True)
        return self._engine.choose_partial(key, requests, actor=self._actor).decisions

    def _write(self, choices: Sequence[tuple[Contact, Decision, Choice]]) -> Mapping[str, str]:
        """Write, and cancel what was decided just now for contacts that the tool refused."""
        if not choices:
            return {}
        refused = self._contacts.write([(contact, choice) for contact, _, choice in choices])
        unsent = [
            decision.decision_id
            for contact, decision, _ in choices
            if contact.id in refused and not decision.repeat and decision.decision_id
        ]
        if unsent:
            self._engine.cancel(unsent, actor=self._actor)
        return refused


def choice_of(decision: Decision) -> dict[str, str]:
    """Return what a contact gets: by slot the payload's text, else the variant's key."""
    choice = {DECISION: decision.decision_id or ""}
    for slot, chosen in decision.slots.items():
        text = chosen.get("payload", {}).get("text")
        choice[slot] = text if isinstance(text, str) else chosen["variant"]
    return choice

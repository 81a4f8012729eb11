"""Proposals of versions: a program suggests one, and a person approves it in the pages."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from bandits.errors import Conflict, NotFound
from bandits.identifiers import Key
from storage.accounts.api_keys import ApiKey
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse
from webapp.pages.form.proposal_drafts import ProposedVariant, propose_variant
from webapp.services import Services

operations = OperationGroup("proposals")


class ProposalRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A variant of one slot, for a person to look at.

    Attributes:
        slot: the part of the email that it is for.
        name: on pages.
        payload: as other variants of the slot have it.
        reason: why, in a sentence for the person who decides.
    """

    slot: Key
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    payload: dict[str, Any]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class ProposalDocument(Struct, frozen=True):
    """The draft that has the proposal: its id, and its page's path."""

    draft_id: str
    path: str


@operations(
    "POST",
    "/experiments/<key:key>/proposals",
    scope="propose",
    body=Body(
        ProposalRequest,
        example={
            "slot": "subject_line",
            "name": "Question",
            "payload": {"text": "What would you like?"},
            "reason": "Questions did well in spring.",
        },
    ),
    answers={201: ProposalDocument},
    refusals=(NotFound, Conflict),
    takes_caller=True,
    idempotent=True,
)
def propose_version(
    services: Services, key: str, body: ProposalRequest, caller: ApiKey
) -> OperationResponse:
    """Propose a variant: it waits in a draft until a person approves it in the pages.

    At most 20 proposals of an experiment wait; nothing is sent, and nothing changes, before.
    """
    record = services.engine.store.experiments.record(key)
    proposed = ProposedVariant(body.slot, body.name, body.payload, body.reason)
    draft = propose_variant(
        record,
        services.drafts,
        proposed,
        at=services.engine.clock(),
        by=f"API key {caller.name}",
    )
    path = f"/drafts/{draft.stored.id}/parts"
    return OperationResponse(ProposalDocument(draft.stored.id, path), 201)

"""Voids: what one actor did, taken out of learning and results, and put back."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from bandits.engine.voids import parse_actor
from bandits.errors import NotFound, WrongState
from bandits.identifiers import Key
from bandits.schemas import VoidEntry, VoidReceipt
from bandits.store.values import Deeds
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.services import Services

operations = OperationGroup("voids")

_VOID = {
    "actor": "key:3",
    "since": "2026-11-22T09:00:00Z",
    "until": "2026-11-22T10:00:00Z",
    "experiment": "spring",
    "dry_run": True,
}


class VoidRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Actor and time of what is to be void.

    Attributes:
        actor: as receipts and the audit log name it: ``key:`` and the number of an API key,
            ``person:`` and an address, ``connection:`` or ``program:`` and a key.
        since: from when on.
        until: until when, that moment excluded; now unless given.
        experiment: its key; every experiment unless given.
        dry_run: only count what would leave.
    """

    actor: Annotated[str, Meta(min_length=3, max_length=300)]
    since: Annotated[datetime, Meta(tz=True)]
    until: Annotated[datetime, Meta(tz=True)] | None = None
    experiment: Key | None = None
    dry_run: bool = False


class VoidQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """List of voids: of one experiment, where its key is given."""

    experiment: Key | None = None


class VoidList(Struct, frozen=True):
    """Voids, the newest first."""

    voids: list[VoidEntry]


@operations(
    "POST",
    "/voids",
    scope="manage",
    least_role="admin",
    body=Body(VoidRequest, example=_VOID),
    answers={200: VoidReceipt},
    refusals=(NotFound, WrongState),
    idempotent=True,
)
def void_deeds(services: Services, body: VoidRequest) -> OperationResponse:
    """Take what one actor did between two times out of learning and results.

    Afterwards every sum is as if it had never happened, and recipients who are decided for once are
    free again. Decisions of others keep their propensities and receipts. With `dry_run` it only
    says what would leave, by arm.
    """
    now = services.engine.clock()
    until = now if body.until is None else body.until.timestamp()
    deeds = Deeds(parse_actor(body.actor), body.since.timestamp(), until)
    receipt = services.engine.void(
        deeds, by=caller(), experiment=body.experiment, dry_run=body.dry_run
    )
    return OperationResponse(receipt)


@operations(
    "GET",
    "/voids",
    scope="read",
    query=VoidQuery,
    answers={200: VoidList},
    refusals=(NotFound,),
)
def list_voids(services: Services, query: VoidQuery) -> OperationResponse:
    """List what was voided, and what of it was restored."""
    return OperationResponse(VoidList(services.engine.voids(query.experiment)))


@operations(
    "POST",
    "/voids/<int(max=2147483647):void_id>/restore",
    scope="manage",
    least_role="admin",
    answers={200: VoidEntry},
    refusals=(NotFound, WrongState),
    idempotent=True,
)
def restore_void(services: Services, void_id: int) -> OperationResponse:
    """Put back what a void took out."""
    return OperationResponse(services.engine.restore(void_id, by=caller()))

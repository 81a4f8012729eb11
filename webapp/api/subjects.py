"""Subjects: reading and erasing what is stored of a recipient."""

from typing import Annotated

from msgspec import Meta, Struct

from bandits.errors import NotFound
from bandits.schemas import ErasureReceipt, SubjectDecisions
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.services import Services

operations = OperationGroup("subjects")

_LAST = 2**53  # the largest whole number that every JSON reader keeps


class SubjectQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Page of a subject's decisions."""

    after: Annotated[int, Meta(ge=0, le=_LAST, description="`next` of the page before")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="how many at most")] = 1000


@operations(
    "GET",
    "/subjects/<subject_id:subject_id>",
    scope="read",
    query=SubjectQuery,
    answers={200: SubjectDecisions},
    refusals=(NotFound,),
    headers={"Cache-Control": "no-store: it is about a person"},
)
def read_subject(services: Services, subject_id: str, query: SubjectQuery) -> OperationResponse:
    """Read everything that is stored of a subject, in every experiment; nothing of an unknown one.

    This scans the log, which may take seconds where there are millions of decisions.
    """
    page = services.engine.subject(subject_id, after=query.after, limit=query.limit)
    return OperationResponse(page, headers={"Cache-Control": "no-store"})


@operations(
    "POST",
    "/subjects/<subject_id:subject_id>/erase",
    scope="manage",
    answers={200: ErasureReceipt},
    refusals=(NotFound,),
)
def erase_subject(services: Services, subject_id: str) -> OperationResponse:
    """Erase a subject: delete the rows, and what was learned from them.

    A second time changes nothing. From then on, receipts of decisions that were learned from these
    rows are not derivable.
    """
    return OperationResponse(services.engine.erase(subject_id, by=caller()))

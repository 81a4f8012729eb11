"""Subjects: what is stored of one, and its erasure."""

from typing import Annotated

from msgspec import Meta, Struct

from bandits.errors import NotFound
from bandits.schemas import ErasureReceipt, SubjectDecisions
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.services import Services

operations = OperationGroup("subjects")

_LAST = 2**53  # the largest whole number that every JSON reader keeps


class SubjectQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which of a subject's decisions to tell."""

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
    """Tell everything that is stored of a subject, in every experiment; nothing of an unknown one.

    It goes through the log, so it may take seconds where there are millions of decisions.
    """
    told = services.engine.subject(subject_id, after=query.after, limit=query.limit)
    return OperationResponse(told, headers={"Cache-Control": "no-store"})


@operations(
    "POST",
    "/subjects/<subject_id:subject_id>/erase",
    scope="manage",
    answers={200: ErasureReceipt},
    refusals=(NotFound,),
)
def erase_subject(services: Services, subject_id: str) -> OperationResponse:
    """Erase a subject: their rows go, and what was learned is as if they had never been.

    Doing it again changes nothing. Receipts whose probabilities rested on them are not derivable
    from then on.
    """
    return OperationResponse(services.engine.erase(subject_id, by=caller()))

"""Subjects: reading and erasing what is stored of a recipient."""

from typing import Annotated

from msgspec import Meta, Struct

from bandits.errors import NotFound
from bandits.schemas import ErasureReceipt, SubjectDecisions, SubjectId
from webapp.api.bodies import Body
from webapp.api.operation import OperationGroup, OperationResponse, caller
from webapp.services import Services

operations = OperationGroup("subjects")

_LAST = 2**53  # the largest whole number that every JSON reader keeps
_NO_STORE = {"Cache-Control": "no-store"}
_NO_STORE_HEADER = {"Cache-Control": "no-store: it is about a person"}

Place = Annotated[int, Meta(ge=0, le=_LAST, description="`next` of the page before")]
PageSize = Annotated[int, Meta(ge=1, le=1000, description="how many at most")]

AnySpelling = Annotated[
    bool, Meta(description="ids that attribution takes for the same as well, as `ANN@shop.example`")
]


class SubjectQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Page of a subject's decisions."""

    after: Place = 0
    limit: PageSize = 1000


class SubjectPageRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A subject, and the page of their decisions."""

    subject_id: SubjectId
    after: Place = 0
    limit: PageSize = 1000
    any_spelling: AnySpelling = False


class SubjectErasureRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A subject to erase."""

    subject_id: SubjectId
    any_spelling: AnySpelling = False


@operations(
    "POST",
    "/subjects/read",
    scope="read",
    body=Body(SubjectPageRequest, example={"subject_id": "u-1"}),
    answers={200: SubjectDecisions},
    headers=_NO_STORE_HEADER,
)
def read_subject_data(services: Services, body: SubjectPageRequest) -> OperationResponse:
    """Read everything that is stored of a subject, in every experiment; nothing of an unknown one.

    This scans the log, which may take seconds where there are millions of decisions.
    """
    page = services.engine.subject(
        body.subject_id, after=body.after, limit=body.limit, any_spelling=body.any_spelling
    )
    return OperationResponse(page, headers=_NO_STORE)


@operations(
    "POST",
    "/subjects/erase",
    scope="manage",
    body=Body(SubjectErasureRequest, example={"subject_id": "u-1"}),
    answers={200: ErasureReceipt},
)
def erase_subject_data(services: Services, body: SubjectErasureRequest) -> OperationResponse:
    """Erase a subject: delete the rows, and what was learned from them.

    A second time changes nothing. From then on, receipts of decisions that were learned from these
    rows are not derivable.
    """
    receipt = services.engine.erase(body.subject_id, by=caller(), any_spelling=body.any_spelling)
    return OperationResponse(receipt)


@operations(
    "GET",
    "/subjects/<subject_id:subject_id>",
    scope="read",
    query=SubjectQuery,
    answers={200: SubjectDecisions},
    refusals=(NotFound,),
    headers=_NO_STORE_HEADER,
    deprecated=True,
)
def read_subject(services: Services, subject_id: str, query: SubjectQuery) -> OperationResponse:
    """Read everything that is stored of a subject, whose id is in the address.

    `POST /subjects/read` keeps the id out of the logs of what lies in between.
    """
    page = services.engine.subject(subject_id, after=query.after, limit=query.limit)
    return OperationResponse(page, headers=_NO_STORE)


@operations(
    "POST",
    "/subjects/<subject_id:subject_id>/erase",
    scope="manage",
    answers={200: ErasureReceipt},
    refusals=(NotFound,),
    deprecated=True,
)
def erase_subject(services: Services, subject_id: str) -> OperationResponse:
    """Erase a subject, whose id is in the address.

    `POST /subjects/erase` keeps the id out of the logs of what lies in between.
    """
    return OperationResponse(services.engine.erase(subject_id, by=caller()))

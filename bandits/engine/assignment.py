"""Assignment: from requests to columns of new decisions; encode, hold out, restrict, draw."""

from collections.abc import Sequence
from hashlib import blake2b
from operator import attrgetter

import msgspec
import numpy as np
from msgspec.structs import replace

from bandits.array_types import IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.errors import Fault, IdReused, InvalidInput
from bandits.features import EncodedContexts
from bandits.identifiers import pointer
from bandits.ids import time_ordered_ids
from bandits.schemas import Request
from bandits.store.values import NewDecisions
from bandits.versions import encode_restriction

_decision_id = attrgetter("decision_id")
_columns = attrgetter("subject_id", "context", "eligible", "personalize")


class AssignmentBatch:
    """Distinct requests of one call, and which of them each request of the call is.

    Attributes:
        ids: n decision ids.
        digests: n digests of the requests' bodies, empty where the id was made here.
        rows: for each request of the call, its position among the n.
        subjects: n subject ids.
        contexts: n contexts.
        restrictions: n encoded `eligible` restrictions, empty where there is none.
        personalized: n, false where the context may not be used.
    """

    def __init__(self, salt: bytes, requests: Sequence[Request], now: float) -> None:
        """Give ids to requests without one, and merge those that come twice.

        Args:
            salt: the experiment's own, so that its digests are no other's.
            requests: one or more, in the order of the call.
            now: seconds since 1970, for new ids.

        Raises:
            IdReused: an id comes twice with different bodies.
        """
        keys = list(map(_decision_id, requests))
        new_ids = time_ordered_ids(keys.count(None), now)
        self.ids: list[str] = new_ids
        self.digests: list[bytes] = [b""] * len(new_ids)
        self.rows: Sequence[int] = range(len(new_ids))
        if len(new_ids) < len(requests):
            requests = self._merge_repeated(salt, requests, new_ids)
        columns = zip(*map(_columns, requests), strict=True)
        self.subjects, self.contexts, eligible, self.personalized = columns
        self.restrictions: list[bytes] = [b""] * len(requests)
        if any(eligible):
            self.restrictions = [encode_restriction(e or {}) for e in eligible]

    def leave_out(self, opted_out: Sequence[bool]) -> None:
        """Use no data of those who opted out (n); an id that comes again is answered as before."""
        both = zip(self.personalized, opted_out, strict=True)
        self.personalized = tuple(personalized and not out for personalized, out in both)

    def _merge_repeated(
        self, salt: bytes, requests: Sequence[Request], new_ids: Sequence[str]
    ) -> list[Request]:
        """Return the distinct requests, and set their ids, digests and the call's rows."""
        fresh = iter(new_ids)
        first: dict[str, int] = {}
        distinct: list[Request] = []
        rows: list[int] = []
        self.ids, self.digests, self.rows = [], [], rows
        for request in requests:
            key = request.decision_id
            digest = b"" if key is None else request_digest(salt, request)
            if key is not None and key in first:
                row = first[key]
                if self.digests[row] != digest:
                    raise IdReused("decision", key)
                rows.append(row)
                continue
            if key is not None:
                first[key] = len(self.ids)
            rows.append(len(self.ids))
            self.ids.append(next(fresh) if key is None else key)
            self.digests.append(digest)
            distinct.append(request)
        return distinct


def assign_arms(
    active: ActivePolicy,
    batch: AssignmentBatch,
    shipped: int | None = None,
    *,
    keeps_control: bool = False,
) -> NewDecisions:
    """Decide for every distinct request.

    Args:
        active: the experiment's policy.
        batch: the requests.
        shipped: the arm that everybody gets now that the experiment is stopped; who may not get it
            gets a fallback.
        keeps_control: the held out go on getting the control then, instead.

    Raises:
        InvalidInput: at ``/requests/{row}/...``, every row that does not fit.
    """
    encoded = _encode(active, batch)
    n = len(batch.ids)
    arms = np.zeros(n, dtype=np.int64)
    propensities = np.ones(n)
    fallback = np.zeros(n, dtype=np.bool_)
    holds_out = shipped is None or keeps_control
    holdout = active.held_out(batch.subjects) if holds_out else np.zeros(n, dtype=np.bool_)
    u = active.uniforms(batch.ids) if shipped is None else np.zeros(n)
    for restriction, rows in _rows_by_restriction(batch.restrictions).items():
        eligible = _eligible(active, batch, restriction, rows)
        held_out = rows[holdout[rows]]
        if len(held_out):
            arms[held_out] = active.fallback_arm(eligible)
            fallback[held_out] = active.control not in eligible  # they cannot get the control
        drawn = rows[~holdout[rows]]
        if shipped is not None:
            fallback[drawn] = shipped not in eligible
            arms[drawn] = shipped if shipped in eligible else active.fallback_arm(eligible)
        elif len(drawn):
            arms[drawn], propensities[drawn], fallback[drawn] = active.choose(
                eligible, encoded.contexts[drawn], u[drawn]
            )
    counts = encoded.counts
    return NewDecisions(
        batch.ids,
        batch.subjects,
        batch.digests,
        arms,
        propensities,
        encoded.contexts,
        holdout,
        fallback,
        batch.restrictions,
        active.version,
        (counts.clipped, counts.unknown, counts.missing),
        shipped is not None,
    )


def stand_in(active: ActivePolicy, decisions: NewDecisions, rows: Sequence[int]) -> NewDecisions:
    """Let these rows be fallbacks within their own eligible sets.

    Their subjects have decisions that these sets exclude: the email has to leave, and nothing is
    learned from it, since a subject is one observation.
    """
    arms, propensities = decisions.arms.copy(), decisions.propensities.copy()
    fallback = decisions.fallback.copy()
    for row in rows:
        arms[row] = active.fallback_arm(active.eligible(decisions.eligible_sets[row]))
    propensities[rows], fallback[rows] = 1.0, True
    return replace(decisions, arms=arms, propensities=propensities, fallback=fallback)


def _encode(active: ActivePolicy, batch: AssignmentBatch) -> EncodedContexts:
    """Encode contexts; a subject that is not to be personalised for looks like an unknown one."""
    if all(batch.personalized):
        rows: Sequence[int] = range(len(batch.ids))
        contexts = batch.contexts
    else:
        rows = np.flatnonzero(batch.personalized).tolist()
        contexts = tuple(batch.contexts[row] for row in rows)
    try:
        encoded = active.encoder.encode(contexts)
    except InvalidInput as error:
        raise InvalidInput(_fault_of_call(batch, rows, f) for f in error.faults) from None
    if len(rows) == len(batch.ids):
        return encoded
    all_contexts = np.tile(active.encoder.unknown_subject, (len(batch.ids), 1))
    all_contexts[rows] = encoded.contexts
    return EncodedContexts(all_contexts, encoded.counts)


def _eligible(
    active: ActivePolicy, batch: AssignmentBatch, restriction: bytes, rows: IntArray
) -> IntArray:
    try:
        return active.eligible(restriction)
    except InvalidInput as error:
        place = pointer("requests", batch.rows.index(int(rows[0])), "eligible")
        raise error.under(place) from None


def _rows_by_restriction(restrictions: Sequence[bytes]) -> dict[bytes, IntArray]:
    if not any(restrictions):
        return {b"": np.arange(len(restrictions))}
    rows: dict[bytes, list[int]] = {}
    for i, restriction in enumerate(restrictions):
        rows.setdefault(restriction, []).append(i)
    return {restriction: np.array(numbers) for restriction, numbers in rows.items()}


def _fault_of_call(batch: AssignmentBatch, encoded: Sequence[int], fault: Fault) -> Fault:
    """Turn ``/{row}/{feature}`` of the encoded requests into a place of the call."""
    _, row, rest = fault.pointer.split("/", 2)
    place = batch.rows.index(encoded[int(row)])
    return Fault(f"/requests/{place}/context/{rest}", fault.detail)


def request_digest(salt: bytes, request: Request) -> bytes:
    """Hash a request's body; the salt keeps anybody from finding out a subject by trying."""
    context = (request.context or {}) if request.personalize else None
    body = (request.subject_id, context, request.eligible or {})
    return blake2b(msgspec.json.encode(body, order="sorted"), digest_size=16, key=salt).digest()

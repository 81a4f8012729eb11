"""From requests to columns of new decisions: encode, hold out, restrict, draw."""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
import numpy as np

from bandits.array_types import IntArray
from bandits.engine.active_policy import ActivePolicy
from bandits.errors import Fault, IdReused, InvalidInput
from bandits.features import EncodedContexts
from bandits.identifiers import pointer
from bandits.sampling import time_ordered_ids
from bandits.schemas import Request
from bandits.store.values import NewDecisions


class AssignmentBatch:
    """Distinct requests of one call, and which of them each request of the call is."""

    def __init__(self, salt: bytes, requests: Sequence[Request], now: float) -> None:
        """Give ids to requests without one, and find those that come twice.

        Args:
            salt: the experiment's own, so that its digests are no other's.
            requests: in the order of the call.
            now: seconds since 1970, for new ids.

        Raises:
            IdReused: an id comes twice with different bodies.
        """
        made = time_ordered_ids([r.decision_id for r in requests].count(None), now)
        self.ids: list[str] = []
        self.requests: list[Request] = []
        self.digests: list[bytes] = []
        self.rows: list[int] = []  # for each request of the call, its row
        if len(made) == len(requests):
            self.ids, self.requests = made, list(requests)
            self.digests, self.rows = [b""] * len(made), list(range(len(made)))
        else:
            self._enter(salt, requests, made)

    def _enter(self, salt: bytes, requests: Sequence[Request], made: Sequence[str]) -> None:
        fresh = iter(made)
        first: dict[str, int] = {}
        for request in requests:
            key = request.decision_id
            digest = b"" if key is None else _digest(salt, request)
            if key is not None and key in first:
                row = first[key]
                if self.digests[row] != digest:
                    raise IdReused("decision", key)
                self.rows.append(row)
                continue
            if key is not None:
                first[key] = len(self.ids)
            self.rows.append(len(self.ids))
            self.ids.append(next(fresh) if key is None else key)
            self.requests.append(request)
            self.digests.append(digest)


def assign_arms(
    live: ActivePolicy, batch: AssignmentBatch, shipped: int | None = None
) -> NewDecisions:
    """Decide for every distinct request.

    Args:
        live: what decides.
        batch: the requests.
        shipped: the arm that everybody gets now that the experiment is stopped, the held out too;
            who may not get it gets a fallback.

    Raises:
        InvalidInput: at ``/requests/{row}/...``, every row that does not fit.
    """
    requests = batch.requests
    encoded = _encode(live, batch)
    n = len(requests)
    arms = np.zeros(n, dtype=np.int64)
    propensities = np.ones(n)
    subjects = [r.subject_id for r in requests]
    none = np.zeros(n, dtype=np.bool_)
    holdout = live.held_out(subjects) if shipped is None else none
    fallback = none.copy()
    restrictions = [b"" if not r.eligible else _packed(r.eligible) for r in requests]
    for restriction, rows in _groups(restrictions).items():
        eligible = _eligible(live, batch, restriction, rows)
        if shipped is not None:
            fallback[rows] = shipped not in eligible
            arms[rows] = shipped if shipped in eligible else live.stand_in(eligible)
            continue
        out = rows[holdout[rows]]
        arms[out] = live.stand_in(eligible)
        fallback[out] = live.control not in eligible  # somebody who cannot get the control
        decided = rows[~holdout[rows]]
        if len(decided):
            arms[decided], propensities[decided], fallback[decided] = live.choose(
                eligible, encoded.contexts[decided], [batch.ids[i] for i in decided]
            )
    counts = encoded.counts
    return NewDecisions(
        batch.ids,
        subjects,
        batch.digests,
        arms,
        propensities,
        encoded.contexts,
        holdout,
        fallback,
        restrictions,
        live.version,
        (counts.clipped, counts.unknown, counts.missing),
        shipped is not None,
    )


def _encode(live: ActivePolicy, batch: AssignmentBatch) -> EncodedContexts:
    """Encode what may be known of each; who is not to be personalised for looks like nobody."""
    known = [i for i, r in enumerate(batch.requests) if r.personalize]
    try:
        encoded = live.encoder.encode([batch.requests[i].context for i in known])
    except InvalidInput as error:
        raise InvalidInput(_placed(batch, known, f) for f in error.faults) from None
    if len(known) == len(batch.requests):
        return encoded
    contexts = np.tile(live.encoder.nobody, (len(batch.requests), 1))
    contexts[known] = encoded.contexts
    return EncodedContexts(contexts, encoded.counts)


def restriction_of(packed: bytes) -> dict[str, list[str]] | None:
    """Read back a stored `eligible` restriction."""
    return msgspec.json.decode(packed, type=dict[str, list[str]]) if packed else None


def _eligible(
    live: ActivePolicy, batch: AssignmentBatch, restriction: bytes, rows: IntArray
) -> IntArray:
    try:
        return live.eligible(restriction_of(restriction))
    except InvalidInput as error:
        place = pointer("requests", batch.rows.index(int(rows[0])), "eligible")
        raise error.under(place) from None


def _groups(restrictions: Sequence[bytes]) -> dict[bytes, IntArray]:
    if not any(restrictions):
        return {b"": np.arange(len(restrictions))}
    rows: dict[bytes, list[int]] = {}
    for i, restriction in enumerate(restrictions):
        rows.setdefault(restriction, []).append(i)
    return {restriction: np.array(found) for restriction, found in rows.items()}


def _placed(batch: AssignmentBatch, encoded: Sequence[int], fault: Fault) -> Fault:
    """Turn ``/{row}/{feature}`` of the encoded requests into a place of the call."""
    _, row, rest = fault.pointer.split("/", 2)
    place = batch.rows.index(encoded[int(row)])
    return Fault(f"/requests/{place}/context/{rest}", fault.detail)


def _packed(eligible: dict[str, list[str]]) -> bytes:
    ordered = {slot: sorted(set(variants)) for slot, variants in sorted(eligible.items())}
    return msgspec.json.encode(ordered)


def _digest(salt: bytes, request: Request) -> bytes:
    """Tell bodies apart; the salt keeps anybody from finding out a subject by trying."""
    known = (request.context or {}) if request.personalize else None
    body = (request.subject_id, known, request.eligible or {})
    return blake2b(msgspec.json.encode(body, order="sorted"), digest_size=16, key=salt).digest()

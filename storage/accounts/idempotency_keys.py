"""Idempotency keys: what requests with one were answered, so that they may be sent again.

The answers to requests of one API key take at most `LARGEST_SUM` bytes: the oldest make room. A
request whose answer is not there is done again, and answered with the same decisions.
"""

import hmac
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from hashlib import blake2b

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, delete, func, select, update

from bandits.errors import InvalidInput
from bandits.ids import ids_from_bytes
from bandits.sampling import keyed_digests
from storage.databases import Database, SerializationConflict, Transaction, write_again
from storage.schema import ANSWERED, answer_sizes, idempotency_keys
from storage.secrets_table import read_secret

KEPT_SECONDS = 86_400.0
LARGEST_ANSWER = 64_000  # bytes
LARGEST_SUM = 16_000_000  # bytes of answers that are kept for one API key

_SIZE = func.length(idempotency_keys.c.answer)
_DROPPED_AT_ONCE = 1_000
_PART_LEFT = 0.75  # of the largest sum, so that not every answer has to make room

_SECRET = "idempotency keys"  # noqa: S105 - its name in the table of secrets
_DIGEST_BYTES = 32
_ID_BYTES = 10
_COLUMNS = ("api_key_id", "key", "digest", "created_at", "repeatable")


class KeptAnswer(Struct, frozen=True, array_like=True):
    """Answer to a request as it is kept: status and headers of HTTP, and the content."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Claim(Struct, frozen=True):
    """Claim of an idempotency key for one request.

    Attributes:
        api_key_id: the caller, to whom the key belongs.
        key: as the caller sent it.
        created_at: when it was first used.
        answer: of the first request; None where there is none, or none is kept.
        is_new: this request is the first.
    """

    api_key_id: int
    key: str
    created_at: float
    answer: KeptAnswer | None
    is_new: bool


class IdempotencyKeyStore:
    """Idempotency keys of one database, each for a day, by the API key of their caller.

    Requests are kept as hashes under a secret. Times are seconds since 1970. Any method may raise
    `Unavailable`.
    """

    def __init__(self, database: Database) -> None:
        """Work on `database`; `AccountStore.idempotency_keys` is one."""
        self._database = database

    @cached_property
    def _secret(self) -> bytes:
        return read_secret(self._database, _SECRET)

    def claim(
        self, api_key_id: int, key: str, request: bytes, *, repeatable: bool, at: float
    ) -> Claim:
        """Claim a key for a request, or find the claim that an equal request has.

        Args:
            api_key_id: of the caller.
            key: as the caller sent it.
            request: all that makes it this request.
            repeatable: doing it twice changes nothing, so its answer need not be kept.
            at: now.

        Raises:
            InvalidInput: the key came before with another request.
        """
        digest = blake2b(request, key=self._secret, digest_size=_DIGEST_BYTES).digest()
        row = (api_key_id, key, digest, at, repeatable)

        def find_or_insert(transaction: Transaction) -> Claim:
            _remove_before(transaction, at - KEPT_SECONDS)
            if transaction.insert(idempotency_keys, _COLUMNS, [row]):
                return Claim(api_key_id, key, at, None, is_new=True)
            query = select(idempotency_keys).where(*_is(api_key_id, key))
            stored = transaction.execute(query).one_or_none()
            if stored is None:  # it was released in between
                raise SerializationConflict
            if not hmac.compare_digest(stored.digest, digest):
                raise InvalidInput.at(
                    "/Idempotency-Key", "came before with another request; use a new key"
                )
            answer = None
            if stored.answer is not None:
                answer = msgspec.msgpack.decode(stored.answer, type=KeptAnswer)
            return Claim(api_key_id, key, stored.created_at, answer, is_new=False)

        return write_again(self._database, find_or_insert)

    def ids(self, claim: Claim, n: int) -> list[str]:
        """Make n ids of decisions, the same for the same claim: UUIDv7 of its first use."""
        prefix = f"{claim.api_key_id} {claim.key} "
        places = list(map(str, range(n)))
        digests = keyed_digests(self._secret, places, size=_ID_BYTES, prefix=prefix)
        return ids_from_bytes(b"".join(digests), claim.created_at)

    def keep(self, claim: Claim, answer: KeptAnswer) -> None:
        """Keep the answer to a request, unless it is longer than 64 kB or another one was first.

        The oldest answers to requests of the same API key make room for it.
        """
        if len(answer.content) > LARGEST_ANSWER:
            return
        query = update(idempotency_keys).where(
            *_is(claim.api_key_id, claim.key), idempotency_keys.c.answer.is_(None)
        )
        answered = query.values(answer=msgspec.msgpack.encode(answer)).returning(_SIZE)

        def work(transaction: Transaction) -> None:
            size = transaction.execute(answered).scalar_one_or_none()
            if size is None:
                return
            transaction.insert(answer_sizes, ("api_key_id", "size"), [(claim.api_key_id, 0)])
            whole = _add_size(transaction, claim.api_key_id, size)
            if whole > LARGEST_SUM:
                _drop_oldest(transaction, claim.api_key_id, whole - _PART_LEFT * LARGEST_SUM)

        write_again(self._database, work)

    def release(self, claim: Claim) -> None:
        """Give a key back: its request was refused, so nothing was done."""
        query = delete(idempotency_keys).where(*_is(claim.api_key_id, claim.key))
        with self._database.writing() as transaction:
            transaction.execute(query.where(idempotency_keys.c.answer.is_(None)))


def drop_answers(transaction: Transaction) -> None:
    """Drop answers that may speak of subjects: a request that comes again is done again."""
    query = update(idempotency_keys).where(
        idempotency_keys.c.repeatable, idempotency_keys.c.answer.is_not(None)
    )
    transaction.execute(query.values(answer=None))
    left = (
        select(func.coalesce(func.sum(_SIZE), 0))
        .where(idempotency_keys.c.api_key_id == answer_sizes.c.api_key_id, ANSWERED)
        .scalar_subquery()
    )
    transaction.execute(update(answer_sizes).values(size=left))


def _remove_before(transaction: Transaction, at: float) -> None:
    """Remove the keys that were first used before a time, with their answers."""
    old = delete(idempotency_keys).where(idempotency_keys.c.created_at < at)
    sizes: Counter[int] = Counter()
    for number, size in transaction.execute(old.returning(idempotency_keys.c.api_key_id, _SIZE)):
        sizes[number] += size or 0
    for number, size in sorted(sizes.items()):
        if size:
            _add_size(transaction, number, -size)


def _drop_oldest(transaction: Transaction, api_key_id: int, excess: float) -> None:
    """Drop the oldest answers to requests of an API key, so many bytes of them.

    Those first that are made again where their request comes again.
    """
    answers = (
        select(idempotency_keys.c.key, _SIZE)
        .where(idempotency_keys.c.api_key_id == api_key_id, ANSWERED)
        .order_by(idempotency_keys.c.repeatable.desc(), idempotency_keys.c.created_at)
        .limit(_DROPPED_AT_ONCE)
    )
    while excess > 0 and (rows := transaction.execute(answers).all()):
        dropped: list[str] = []
        freed = 0
        for key, size in rows:
            if freed >= excess:
                break
            dropped.append(key)
            freed += size
        _add_size(transaction, api_key_id, -freed)
        excess -= freed
        of_keys = idempotency_keys.c.key.in_(dropped)
        query = update(idempotency_keys).where(idempotency_keys.c.api_key_id == api_key_id, of_keys)
        transaction.execute(query.values(answer=None))


def _add_size(transaction: Transaction, api_key_id: int, size: int) -> int:
    """Add to the bytes of answers to requests of an API key; return how many these are."""
    query = (
        update(answer_sizes)
        .where(answer_sizes.c.api_key_id == api_key_id)
        .values(size=answer_sizes.c.size + size)
        .returning(answer_sizes.c.size)
    )
    whole: int = transaction.execute(query).scalar_one_or_none() or 0
    return whole


def _is(api_key_id: int, key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return idempotency_keys.c.api_key_id == api_key_id, idempotency_keys.c.key == key

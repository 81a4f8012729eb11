"""What idempotency keys do, in every database."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from bandits.errors import InvalidInput
from storage.accounts import idempotency_keys as idempotency
from storage.accounts.idempotency_keys import KEPT_SECONDS, LARGEST_ANSWER, KeptAnswer

ANSWER = KeptAnswer(201, {"ETag": '"1"'}, b'{"decision_id":"d\xc3\xbc"}')
AT = 1_800_000_000.25


@pytest.fixture
def keys(store):
    return store.accounts.idempotency_keys


@pytest.fixture
def claim(keys):
    def make(key="k", request=b"choose {}", *, api_key_id=1, repeatable=True, at=AT):
        return keys.claim(api_key_id, key, request, repeatable=repeatable, at=at)

    return make


def repeated(first, answer=None):
    """Return what a later claim of the same request finds."""
    return type(first)(first.api_key_id, first.key, first.created_at, answer, is_new=False)


def test_claim_of_the_same_request_finds_the_first_and_its_answer(keys, claim):
    first = claim()
    assert (first.is_new, first.answer, first.created_at) == (True, None, AT)
    assert claim(at=AT + 5) == repeated(first)
    keys.keep(first, ANSWER)
    assert claim(at=AT + 5) == repeated(first, answer=ANSWER)


def test_claim_of_another_request_is_refused_and_changes_nothing(keys, claim):
    keys.keep(claim(), ANSWER)
    with pytest.raises(InvalidInput, match="came before with another request") as caught:
        claim(request=b"choose {1}")
    assert caught.value.faults[0].pointer == "/Idempotency-Key"
    assert claim().answer == ANSWER


def test_claim_belongs_to_one_api_key(claim):
    claim()
    assert claim(request=b"other", api_key_id=2).is_new


def test_claim_ends_after_a_day(keys, claim):
    keys.keep(claim(), ANSWER)
    assert claim(at=AT + KEPT_SECONDS).answer == ANSWER
    later = claim(request=b"other", at=AT + KEPT_SECONDS + 1)
    assert later.is_new


def test_release_gives_a_key_back_unless_it_was_answered(keys, claim):
    keys.release(claim())
    again = claim(request=b"other")
    assert again.is_new
    keys.keep(again, ANSWER)
    keys.release(again)
    assert claim(request=b"other").answer == ANSWER


def test_keep_leaves_the_first_answer_as_it_is(keys, claim):
    first = claim()
    keys.keep(first, ANSWER)
    keys.keep(claim(), KeptAnswer(200, {}, b"{}"))
    assert claim().answer == ANSWER


def test_keep_leaves_out_a_long_answer(keys, claim):
    first = claim()
    keys.keep(first, KeptAnswer(200, {}, b"x" * (LARGEST_ANSWER + 1)))
    assert claim() == repeated(first)


def sizes(store):
    """Read the bytes of answers by API key, as they are counted and as they are."""
    with store.database.reading() as transaction:
        run = transaction.connection.exec_driver_sql
        counted = run("SELECT api_key_id, size FROM answer_sizes ORDER BY api_key_id").all()
        kept = run(
            "SELECT api_key_id, SUM(LENGTH(answer)) FROM idempotency_keys"
            " WHERE answer IS NOT NULL GROUP BY api_key_id ORDER BY api_key_id"
        ).all()
    return [tuple(row) for row in counted if row[1]], [(k, int(n)) for k, n in kept]


def test_answers_of_one_api_key_take_no_more_than_their_share(store, keys, claim, monkeypatch):
    """Before: 384 MB a minute, at 6,000 requests of 64 kB each."""
    monkeypatch.setattr(idempotency, "LARGEST_SUM", 10_000)
    long = KeptAnswer(200, {}, b"x" * 2_000)
    keys.keep(claim("made", repeatable=False), long)  # to make it twice is refused
    keys.keep(claim("other", api_key_id=2), long)
    for number in range(20):
        keys.keep(claim(f"k{number}", at=AT + number), long)
        counted, kept = sizes(store)
        assert counted == kept
        assert dict(kept)[1] <= 10_000
    answered = [n for n in range(20) if claim(f"k{n}").answer is not None]
    assert answered == list(range(answered[0], 20)), "the newest stay"
    assert len(answered) >= 2
    assert claim("made", repeatable=False).answer == long
    assert claim("other", api_key_id=2).answer == long
    first = claim("k0")
    assert (first.is_new, first.created_at) == (False, AT), "its ids are the same as before"


def test_sizes_of_answers_go_with_them(store, keys, claim):
    for number in range(3):
        keys.keep(claim(f"k{number}", at=AT + number, api_key_id=1 + number % 2), ANSWER)
    assert len(sizes(store)[0]) == 2
    with store.database.writing() as transaction:
        idempotency.drop_answers(transaction)
    assert sizes(store) == ([], [])
    keys.keep(claim("k9", at=AT), ANSWER)
    claim("late", at=AT + 2 * KEPT_SECONDS)
    assert sizes(store) == ([], [])


def test_ids_are_the_same_for_the_same_claim_alone(keys, claim):
    first = claim()
    ids = keys.ids(first, 3)
    assert keys.ids(claim(at=AT + 9), 3) == ids
    assert keys.ids(first, 1) == ids[:1]
    others = [claim("l"), claim(api_key_id=2)]
    assert len({*ids, *(i for other in others for i in keys.ids(other, 3))}) == 9
    assert {UUID(i).version for i in ids} == {7}
    assert {UUID(i).int >> 80 for i in ids} == {int(AT * 1000)}


def test_many_claims_at_once_are_one(claim):
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: claim(), range(8)))
    assert [c.is_new for c in claims].count(True) == 1


def test_requests_are_kept_as_hashes_alone(store, claim):
    claim(request=b"ann@shop.example")
    with store.database.reading() as transaction:
        (row,) = transaction.connection.exec_driver_sql("SELECT * FROM idempotency_keys").all()
    assert b"ann" not in b"".join(bytes(v) for v in row if isinstance(v, bytes | memoryview))

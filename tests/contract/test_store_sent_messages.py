"""Sent messages of a store: noted before they are sent, and forgotten where they were not."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.connections.sent_messages import KEPT_SECONDS, UNANSWERED_SECONDS


@pytest.fixture
def sent(store):
    return store.connections.sent_messages


@pytest.fixture
def connection(store) -> int:
    made = store.connections.add("listmonk", "lists", {}, fields={}, metrics={}, at=1.0, by="test")
    return made.id


def test_message_is_noted_once(sent, connection):
    assert sent.state("m-1", at=1.0) is None
    assert sent.begin(connection, "m-1", "ann", at=1.0) is None
    assert sent.begin(connection, "m-1", "ann", at=2.0) == "sending"
    assert sent.begin(connection, "m-2", "ann", at=2.0) is None
    sent.confirm("m-1", at=3.0)
    assert sent.begin(connection, "m-1", "ann", at=4.0) == "sent"
    assert (sent.state("m-1", at=4.0), sent.state("m-2", at=4.0)) == ("sent", "sending")


def test_message_that_was_refused_may_be_sent_again(sent, connection):
    sent.begin(connection, "m-1", "ann", at=1.0)
    sent.remove("m-1")
    assert sent.begin(connection, "m-1", "ann", at=2.0) is None


def test_message_of_a_process_that_ended_counts_as_sent(sent, connection):
    sent.begin(connection, "m-1", "ann", at=1.0)
    assert sent.state("m-1", at=1.0 + UNANSWERED_SECONDS) == "sending"
    assert sent.state("m-1", at=1.1 + UNANSWERED_SECONDS) == "sent"


def test_message_of_many_calls_at_once_is_begun_by_one(sent, connection):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: sent.begin(connection, "m", "ann", at=1.0), range(16)))
    assert (found.count(None), found.count("sending")) == (1, 15)


def test_messages_end_with_their_time_and_with_their_connection(store, sent, connection):
    sent.begin(connection, "m-1", "ann", at=1.0)
    sent.confirm("m-1", at=1.0)
    store.connections.remove_expired(at=1.0 + KEPT_SECONDS)
    assert sent.state("m-1", at=2.0) == "sent"
    store.connections.remove_expired(at=1.1 + KEPT_SECONDS)
    assert sent.state("m-1", at=2.0) is None
    sent.begin(connection, "m-2", "ann", at=2.0)
    store.connections.delete("lists", at=3.0, by="test")
    assert sent.state("m-2", at=3.0) is None

"""Key ring: a link of a known key never waits for the database."""

from threading import Event, Thread

import pytest

from bandits.errors import Unavailable
from bandits.tracking_tokens import BadToken
from storage.connections import NoEncryptionKey
from storage.tracked_links import KnownKey, LinkRules
from tests.patience import LIMIT_SECONDS, join, wait_until
from webapp.links.key_ring import KeyRing


class Reads:
    """What the database has, and how often it was read."""

    def __init__(self) -> None:
        self.rules = LinkRules({"a": KnownKey("s", counts=True)}, frozenset({"shop.example"}))
        self.count = 0
        self.away = False
        self.open = Event()
        self.open.set()
        self.now = 0.0

    def __call__(self) -> LinkRules:
        self.count += 1
        assert self.open.wait(LIMIT_SECONDS)
        if self.away:
            raise Unavailable("away")
        return self.rules

    def ring(self) -> KeyRing:
        return KeyRing(self, lambda: self.now)


@pytest.fixture
def reads() -> Reads:
    return Reads()


def test_known_key_is_read_once_and_works_while_the_database_is_away(reads):
    ring = reads.ring()
    assert ring.rules_for("a") is ring.rules_for("a") is reads.rules
    assert reads.count == 1
    reads.away, reads.now = True, 3600.0
    assert ring.rules_for("a") is reads.rules
    wait_until(lambda: reads.count, "second read", lambda n: n == 2)
    assert ring.rules_for("a") is reads.rules


def test_known_key_does_not_wait_for_the_read_that_it_causes(reads):
    ring = reads.ring()
    ring.rules_for("a")
    reads.open.clear()
    reads.now = 10.0
    changed = LinkRules({"a": KnownKey("s", counts=False)}, frozenset())
    before, reads.rules = reads.rules, changed
    assert ring.rules_for("a") is before
    reads.open.set()
    wait_until(lambda: ring.rules_for("a"), "change", lambda rules: rules is changed)


def test_unknown_key_is_looked_for_at_most_once_a_second(reads):
    ring = reads.ring()
    for _ in range(50):
        with pytest.raises(BadToken):
            ring.rules_for("b")
    assert reads.count == 1
    reads.rules = LinkRules({"b": KnownKey("t", counts=True)}, frozenset())
    reads.now = 1.5
    assert ring.rules_for("b") is reads.rules
    assert reads.count == 2


def test_key_that_cannot_be_looked_for_is_unavailable_not_unknown(reads):
    ring = reads.ring()
    reads.away = True
    with pytest.raises(Unavailable):
        ring.rules_for("a")
    reads.away, reads.now = False, 2.0
    reads.rules = LinkRules({}, frozenset(), frozenset({"a"}))
    with pytest.raises(NoEncryptionKey):
        ring.rules_for("a")


def test_forget_reads_a_change_of_this_process_at_once(reads):
    ring = reads.ring()
    ring.rules_for("a")
    reads.rules = LinkRules({"a": KnownKey("s", counts=False)}, frozenset())
    ring.forget()
    ring.rules_for("a")
    wait_until(lambda: ring.rules_for("a"), "change", lambda rules: rules is reads.rules)


def test_many_threads_at_the_start_read_once(reads):
    ring, seen = reads.ring(), []
    reads.open.clear()
    threads = [Thread(target=lambda: seen.append(ring.rules_for("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    reads.open.set()
    join(*threads)
    assert seen == [reads.rules] * 8
    assert reads.count == 1

"""What drafts do, in every database."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bandits.errors import NotFound, StaleEdit

PEOPLE = 6


@pytest.fixture
def drafts(store):
    return store.drafts


def test_a_draft_reads_back_with_who_saved_it_last(drafts):
    made = drafts.add('{"name": "Ünfertig \\u0000"}', at=1.0, by="ann")
    assert drafts.read(made.id) == made
    saved = drafts.save(made.id, "{}", version=1, at=2.0, by="bob")
    assert drafts.read(made.id) == saved
    assert (saved.version, saved.body, saved.created_by, saved.changed_by) == (
        2,
        "{}",
        "ann",
        "bob",
    )
    assert (saved.created_at, saved.changed_at) == (1.0, 2.0)


def test_draft_saved_last_is_listed_first(drafts):
    first, second = (drafts.add("{}", at=at, by="ann") for at in (1.0, 2.0))
    assert [d.id for d in drafts.all()] == [second.id, first.id]
    drafts.save(first.id, "{}", version=1, at=3.0, by="ann")
    assert [d.id for d in drafts.all()] == [first.id, second.id]


def test_draft_saved_by_many_at_one_version_is_saved_by_one(drafts):
    made = drafts.add("{}", at=1.0, by="ann")

    def save(person):
        try:
            return drafts.save(made.id, str(person), version=1, at=2.0, by="ann")
        except StaleEdit:
            return None

    with ThreadPoolExecutor(PEOPLE) as pool:
        saved = [s for s in pool.map(save, range(PEOPLE)) if s is not None]
    assert saved == [drafts.read(made.id)]
    assert saved[0].version == 2


def test_an_ended_draft_is_gone_and_the_audit_log_keeps_what_it_said(store, drafts):
    made = drafts.add('{"name":"x"}', at=1.0, by="ann")
    drafts.remove(made.id, at=2.0, by="bob")
    for ask in (
        lambda: drafts.read(made.id),
        lambda: drafts.remove(made.id, at=3.0, by="bob"),
        lambda: drafts.save(made.id, "{}", version=1, at=3.0, by="bob"),
    ):
        with pytest.raises(NotFound, match="draft"):
            ask()
    (change,) = store.accounts.changes()
    assert (change.by, change.action, change.before) == ("bob", "remove", '{"name":"x"}')
    assert change.subject == f"draft:{made.id}"

"""What accounts do, in every database."""

import pytest
from sqlalchemy import select

from bandits.errors import AlreadyExists, Conflict, NotFound
from storage.accounts.sessions import LASTING_SECONDS
from storage.audit_log import AuditFilter
from storage.schema import api_keys, audit_log, sessions


@pytest.fixture
def accounts(store):
    return store.accounts


class TestPeople:
    def test_a_person_reads_back_by_address_and_by_number(self, accounts):
        ann = accounts.add_user("Ann@Shop.example", "hash", "admin", at=5.0, by="cli")
        assert (ann.email, ann.password_hash, ann.role) == ("ann@shop.example", "hash", "admin")
        assert accounts.user(" ANN@shop.EXAMPLE ") == ann
        assert accounts.user_by_id(ann.id) == ann
        assert accounts.users() == [ann]

    def test_an_address_is_taken_once_in_whatever_case(self, accounts):
        accounts.add_user("ann@shop.example", "hash", "viewer", at=5.0, by="cli")
        with pytest.raises(AlreadyExists, match=r"ann@shop\.example"):
            accounts.add_user("ANN@shop.example", "other", "admin", at=6.0, by="cli")
        assert accounts.user("ann@shop.example").role == "viewer"
        assert len(accounts.changes()) == 1

    def test_changes_keep_to_one_person_and_are_logged_without_hashes(self, accounts):
        for name in ("ann", "bob"):
            accounts.add_user(f"{name}@shop.example", "hash", "viewer", at=5.0, by="cli")
        accounts.set_role("ann@shop.example", "manager", at=6.0, by="bob@shop.example")
        accounts.set_password("ann@shop.example", "new hash", at=7.0, by="ann@shop.example")
        ann, bob = accounts.users()
        assert (ann.role, ann.password_hash) == ("manager", "new hash")
        assert (bob.role, bob.password_hash) == ("viewer", "hash")
        changes = accounts.changes(subject="user:ann@shop.example")
        assert [(c.action, c.before, c.after) for c in changes] == [
            ("set password", None, None),
            ("set role", {"role": "viewer"}, {"role": "manager"}),
            ("add", None, {"role": "viewer"}),
        ]

    def test_a_person_is_removed_and_the_log_remembers(self, accounts):
        accounts.add_user("ann@shop.example", "hash", "viewer", at=5.0, by="cli")
        accounts.remove_user("Ann@shop.example", at=6.0, by="cli")
        assert accounts.users() == []
        assert accounts.changes()[0].before == {"role": "viewer"}

    @pytest.mark.parametrize(
        "ask",
        [
            lambda a: a.user("nobody@shop.example"),
            lambda a: a.user_by_id(1),
            lambda a: a.set_role("nobody@shop.example", "admin", at=1.0, by="cli"),
            lambda a: a.set_password("nobody@shop.example", "hash", at=1.0, by="cli"),
            lambda a: a.remove_user("nobody@shop.example", at=1.0, by="cli"),
        ],
    )
    def test_unknown_user_is_not_found(self, accounts, ask):
        with pytest.raises(NotFound, match="there is no user"):
            ask(accounts)
        assert accounts.changes() == []


class TestKeys:
    def test_a_token_finds_its_key_with_its_scopes(self, accounts):
        made = accounts.keys.create("sender", ["choose", "reward"], at=5.0, by="cli")
        assert made.token.startswith("bandits_")
        assert made.token.startswith(made.key.start)
        found = accounts.keys.find(made.token, at=6.0)
        assert (found.id, found.name, found.scopes) == (made.key.id, "sender", ("choose", "reward"))

    def test_tokens_are_distinct(self, accounts):
        tokens = {accounts.keys.create("k", ["read"], at=5.0, by="cli").token for _ in range(20)}
        assert len(tokens) == 20
        assert min(map(len, tokens)) >= 43  # 256 bits and their prefix

    def test_token_of_a_key_is_stored_nowhere(self, store, accounts):
        token = accounts.keys.create("sender", ["choose"], at=5.0, by="cli").token
        secret = token.rpartition("_")[2] if token.count("_") == 2 else token[21:]
        with store.database.reading() as transaction:
            rows = [
                *transaction.execute(api_keys.select()),
                *transaction.execute(audit_log.select()),
            ]
        assert rows
        assert not any(secret in repr(row) for row in rows)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda t: t[:-1] + ("A" if t[-1] != "A" else "B"),
            lambda t: t[:-1],
            lambda t: t + "A",
            lambda t: t.removeprefix("bandits_"),
            lambda _: "",
            lambda _: "bandits_",
            lambda _: "bandits_\0_x",
            lambda _: "bandits_é_é",
            lambda _: "\ud800",
        ],
    )
    def test_a_token_but_for_one_sign_is_refused(self, accounts, spoil):
        made = accounts.keys.create("sender", ["choose"], at=5.0, by="cli")
        with pytest.raises(NotFound) as caught:
            accounts.keys.find(spoil(made.token), at=6.0)
        assert made.token not in str(caught.value)

    def test_a_revoked_key_is_refused(self, accounts):
        made = accounts.keys.create("sender", ["choose"], at=5.0, by="cli")
        other = accounts.keys.create("other", ["choose"], at=5.0, by="cli")
        accounts.keys.revoke(made.key.id, at=0.0, by="cli")
        accounts.keys.revoke(made.key.id, at=9.0, by="cli")
        with pytest.raises(NotFound):
            accounts.keys.find(made.token, at=6.0)
        assert accounts.keys.find(other.token, at=6.0).name == "other"
        every = accounts.keys.all()
        assert [(k.name, k.revoked_at) for k in every] == [("other", None), ("sender", 0)]
        assert [c.action for c in accounts.changes(subject=f"key:{made.key.id}")] == [
            "revoke",
            "create",
        ]

    @pytest.mark.parametrize("number", [77, 10**30])
    def test_a_key_that_is_not_there_cannot_be_revoked(self, accounts, number):
        with pytest.raises(NotFound, match=str(number)):
            accounts.keys.revoke(number, at=5.0, by="cli")

    def test_a_rotated_key_takes_both_tokens_for_a_while(self, accounts):
        first = accounts.keys.create("sender", ["choose"], at=5.0, by="cli")
        second = accounts.keys.rotate(first.key.id, grace_seconds=10.0, at=6.0, by="cli")
        assert second.token.startswith(second.key.start)
        assert second.key.previous_until == 16.0
        for token in (first.token, second.token):
            assert accounts.keys.find(token, at=15.9).id == first.key.id
        with pytest.raises(NotFound):
            accounts.keys.find(first.token, at=17.0)
        assert accounts.keys.find(second.token, at=17.0).scopes == ("choose",)
        mixed = second.token.replace(second.key.start, first.key.start)
        with pytest.raises(NotFound):  # the secret of one with the name of the other
            accounts.keys.find(mixed, at=7.0)
        (rotated, _) = accounts.changes(subject=f"key:{first.key.id}")
        assert (rotated.action, rotated.after["grace_seconds"]) == ("rotate", 10.0)

    def test_a_second_rotation_ends_the_first_token(self, accounts):
        made = accounts.keys.create("sender", ["choose"], at=5.0, by="cli")
        number = made.key.id
        again = [
            accounts.keys.rotate(number, grace_seconds=100.0, at=at, by="cli") for at in (6.0, 7.0)
        ]
        tokens = [m.token for m in (made, *again)]
        with pytest.raises(NotFound):
            accounts.keys.find(tokens[0], at=8.0)
        for token in tokens[1:]:
            assert accounts.keys.find(token, at=8.0)
        accounts.keys.revoke(number, at=9.0, by="cli")
        for token in tokens:
            with pytest.raises(NotFound):
                accounts.keys.find(token, at=9.0)
        with pytest.raises(Conflict, match="revoked"):
            accounts.keys.rotate(number, grace_seconds=0.0, at=10.0, by="cli")
        with pytest.raises(NotFound):
            accounts.keys.rotate(77, grace_seconds=0.0, at=10.0, by="cli")

    def test_last_use_of_a_key_is_recorded_every_five_minutes(self, accounts):
        token = accounts.keys.create("sender", ["choose"], at=0.0, by="cli").token
        assert accounts.keys.all()[0].last_used_at is None
        known = []
        for at in (10.0, 100.0, 309.0, 310.0):
            accounts.keys.find(token, at=at)
            known.append(accounts.keys.all()[0].last_used_at)
        assert known == [10.0, 10.0, 10.0, 310.0]


def test_audit_log_pages_follow_each_other(accounts):
    for i in range(5):
        accounts.keys.create(f"key {i}", ["read"], at=float(i), by="cli")
    first = accounts.changes(limit=2)
    assert [c.at for c in first] == [4.0, 3.0]
    assert [c.at for c in accounts.changes(before_id=first[-1].id)] == [2.0, 1.0, 0.0]


class TestSessions:
    @pytest.fixture
    def ann(self, accounts):
        return accounts.add_user("ann@shop.example", "hash", "viewer", at=5.0, by="cli")

    def test_session_is_found_by_its_token_which_is_stored_nowhere(self, store, accounts, ann):
        token = accounts.sessions.begin(ann.id, agent="Firefox", address="192.0.2.1", at=10.0)
        found = accounts.sessions.find(token, at=11.0)
        assert (found.user_id, found.agent, found.address) == (ann.id, "Firefox", "192.0.2.1")
        assert accounts.sessions.active(ann.id, at=11.0) == [found]
        with store.database.reading() as transaction:
            (row,) = transaction.execute(select(sessions))
        assert token not in str(tuple(row))
        with pytest.raises(NotFound):
            accounts.sessions.find(token[:-1], at=11.0)

    def test_session_is_kept_by_use_and_ends_after_a_week_without(self, accounts, ann):
        token = accounts.sessions.begin(ann.id, agent="", address="", at=0.0)
        week = LASTING_SECONDS
        assert accounts.sessions.find(token, at=week).seen_at == 0.0
        assert accounts.sessions.find(token, at=2 * week).seen_at == week
        with pytest.raises(NotFound):
            accounts.sessions.find(token, at=3 * week + 1)
        assert accounts.sessions.active(ann.id, at=3 * week + 1) == []
        accounts.sessions.begin(ann.id, agent="new", address="", at=4 * week)
        assert [s.agent for s in accounts.sessions.active(ann.id, at=0.0)] == ["new"], "swept"

    def test_sessions_end_one_and_then_all_others_of_the_user(self, accounts, ann):
        bob = accounts.add_user("bob@shop.example", "hash", "viewer", at=5.0, by="cli")
        tokens = [
            accounts.sessions.begin(who.id, agent="", address="", at=10.0)
            for who in (ann, ann, ann, bob)
        ]
        found = [accounts.sessions.find(token, at=10.0) for token in tokens]
        accounts.sessions.end(found[0].id)
        assert accounts.sessions.end_others(found[1], at=11.0, by=ann.email) == 1
        assert accounts.sessions.end_others(found[1], at=12.0, by=ann.email) == 0
        assert accounts.sessions.active(ann.id, at=12.0) == [found[1]]
        assert accounts.sessions.active(bob.id, at=12.0) == [found[3]]
        signed_out = [c for c in accounts.changes() if c.action == "sign out"]
        assert [(c.subject, c.before, c.after) for c in signed_out] == [
            ("user:ann@shop.example", {"sessions": 2}, {"sessions": 1})
        ]

    def test_a_new_password_ends_sessions_and_a_new_hash_of_the_same_does_not(self, accounts, ann):
        token = accounts.sessions.begin(ann.id, agent="", address="", at=10.0)
        accounts.rehash("ANN@shop.example", "the same, hashed better")
        assert accounts.sessions.find(token, at=11.0)
        assert accounts.user(ann.email).password_hash == "the same, hashed better"
        accounts.set_password(ann.email, "another", at=12.0, by="cli")
        with pytest.raises(NotFound):
            accounts.sessions.find(token, at=13.0)

    def test_removed_user_is_signed_out_and_cannot_sign_in(self, accounts, ann):
        token = accounts.sessions.begin(ann.id, agent="", address="", at=10.0)
        accounts.remove_user(ann.email, at=11.0, by="cli")
        with pytest.raises(NotFound):
            accounts.sessions.find(token, at=12.0)
        with pytest.raises(NotFound):
            accounts.sessions.begin(ann.id, agent="", address="", at=12.0)


class TestSearchingTheLog:
    @pytest.fixture(autouse=True)
    def _changes(self, accounts):
        accounts.add_user("ann@shop.example", "hash", "viewer", at=1.0, by="cli")
        accounts.add_user("100%_sure@shop.example", "hash", "viewer", at=2.0, by="cli")
        accounts.keys.create("sender", ["choose"], at=3.0, by="ann@shop.example")
        accounts.set_role("ann@shop.example", "admin", at=4.0, by="ann@shop.example")

    @pytest.mark.parametrize(
        ("sought", "times"),
        [
            (AuditFilter(), [4.0, 3.0, 2.0, 1.0]),
            (AuditFilter(by="cli"), [2.0, 1.0]),
            (AuditFilter(kind="key"), [3.0]),
            (AuditFilter(kind="user"), [4.0, 2.0, 1.0]),
            (AuditFilter(text="ROLE"), [4.0]),
            (AuditFilter(text="Ann"), [4.0, 1.0]),
            (AuditFilter(text="%"), [2.0]),
            (AuditFilter(text="_"), [2.0]),
            (AuditFilter(since=2.0, until=4.0), [3.0, 2.0]),
            (AuditFilter(by="cli", text="ann", since=2.0), []),
        ],
    )
    def test_audit_log_search_is_narrowed_by_each_filter(self, accounts, sought, times):
        assert [c.at for c in accounts.changes(filters=sought)] == times

    def test_audit_log_search_is_read_page_by_page(self, accounts):
        first = accounts.changes(filters=AuditFilter(kind="user"), limit=2)
        on = accounts.changes(filters=AuditFilter(kind="user"), before_id=first[-1].id, limit=2)
        assert [c.at for c in (*first, *on)] == [4.0, 2.0, 1.0]

    def test_audit_log_authors_are_listed_once(self, accounts):
        assert accounts.authors() == ["ann@shop.example", "cli"]

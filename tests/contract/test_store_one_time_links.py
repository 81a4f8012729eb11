"""What one-time links open, in every database: each once, within its time, for its purpose."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from bandits.errors import AlreadyExists, NotFound
from storage.accounts.one_time_links import VALID_SECONDS
from storage.schema import audit_log, one_time_links
from tests.patience import LIMIT_SECONDS

ANN, BOB = "ann@shop.example", "bob@shop.example"
DAY = 86_400.0


@pytest.fixture
def accounts(store):
    return store.accounts


def set_up(accounts, at=0.0):
    return accounts.links.create_set_up(at=at, by="server")


def reset_code(accounts, email=ANN, at=0.0):
    return accounts.links.create_reset(email, at=at, by="test")


class TestSetUpLink:
    def test_set_up_link_makes_one_admin_and_is_used_up(self, accounts):
        code = set_up(accounts)
        ann = accounts.add_first_user(code, " Ann@shop.example", "hash", at=DAY - 1)
        assert accounts.users() == [ann]
        assert (ann.email, ann.role, ann.must_change_password) == (ANN, "admin", False)
        (entry,) = accounts.changes()
        assert (entry.action, entry.subject, entry.by) == ("add", f"user:{ANN}", "set-up link")
        with pytest.raises(NotFound):
            accounts.add_first_user(code, BOB, "hash", at=DAY - 1)
        assert accounts.links.set_up_expiry() is None

    def test_set_up_link_ends_after_a_day(self, accounts):
        code = set_up(accounts)
        assert accounts.links.set_up_expiry() == DAY
        assert accounts.links.find("set-up", code, at=DAY - 1).purpose == "set-up"
        with pytest.raises(NotFound):
            accounts.links.find("set-up", code, at=DAY)
        with pytest.raises(NotFound):
            accounts.add_first_user(code, ANN, "hash", at=DAY)
        assert accounts.users() == []

    def test_set_up_link_ends_with_the_next_start(self, accounts):
        former, code = set_up(accounts), set_up(accounts)
        with pytest.raises(NotFound):
            accounts.add_first_user(former, ANN, "hash", at=1.0)
        assert accounts.add_first_user(code, ANN, "hash", at=1.0).role == "admin"

    @pytest.mark.parametrize(
        "spoil", [lambda c: c[:-1], lambda c: c + "A", lambda _: "", lambda _: "\ud800"]
    )
    def test_set_up_without_the_whole_code_is_refused(self, accounts, spoil):
        code = set_up(accounts)
        with pytest.raises(NotFound):
            accounts.add_first_user(spoil(code), ANN, "hash", at=1.0)
        assert accounts.users() == []
        assert accounts.add_first_user(code, ANN, "hash", at=1.0), "a wrong one ends nothing"

    def test_set_up_link_opens_nothing_once_somebody_has_an_account(self, accounts):
        code = set_up(accounts)
        accounts.add_user(BOB, "hash", "viewer", at=1.0, by="cli")
        with pytest.raises(NotFound):
            accounts.add_first_user(code, ANN, "hash", at=1.0)
        assert [user.email for user in accounts.users()] == [BOB]
        assert set_up(accounts) is None
        assert accounts.links.set_up_expiry() is None

    def test_set_up_of_two_at_once_makes_one_account(self, accounts):
        code = set_up(accounts)

        def take(email):
            try:
                return accounts.add_first_user(code, email, "hash", at=1.0)
            except NotFound:
                return None

        with ThreadPoolExecutor(8) as pool:
            emails = [f"{i}@shop.example" for i in range(8)]
            made = [user for user in pool.map(take, emails, timeout=LIMIT_SECONDS) if user]
        assert accounts.users() == made
        assert len(made) == 1


class TestInvitation:
    def test_invitation_makes_an_account_with_its_role(self, accounts):
        code = accounts.links.invite("Ann@Shop.example", "manager", at=0.0, by=BOB)
        (link,) = accounts.links.invitations()
        assert (link.email, link.role, link.created_by) == (ANN, "manager", BOB)
        ann = accounts.accept_invitation(code, "hash", at=7 * DAY - 1)
        assert (ann.email, ann.role) == (ANN, "manager")
        assert accounts.user(ANN) == ann
        assert accounts.links.invitations() == []
        with pytest.raises(NotFound):
            accounts.accept_invitation(code, "hash", at=1.0)
        actions = [(c.action, c.by) for c in accounts.changes(subject=f"user:{ANN}")]
        assert actions == [("add", ANN), ("invite", BOB)]

    def test_invitation_ends_after_a_week_and_is_renewed(self, accounts):
        code = accounts.links.invite(ANN, "viewer", at=0.0, by=BOB)
        with pytest.raises(NotFound):
            accounts.accept_invitation(code, "hash", at=7 * DAY)
        (link,) = accounts.links.invitations()
        renewed = accounts.links.renew_invitation(link.id, at=7 * DAY)
        with pytest.raises(NotFound):
            accounts.accept_invitation(code, "hash", at=1.0)
        assert accounts.accept_invitation(renewed, "hash", at=8 * DAY).email == ANN
        with pytest.raises(NotFound):
            accounts.links.renew_invitation(link.id, at=8 * DAY)

    def test_invitation_is_withdrawn(self, accounts):
        code = accounts.links.invite(ANN, "viewer", at=0.0, by=BOB)
        (link,) = accounts.links.invitations()
        assert accounts.links.withdraw_invitation(link.id, at=1.0, by=BOB) == ANN
        with pytest.raises(NotFound):
            accounts.accept_invitation(code, "hash", at=1.0)
        with pytest.raises(NotFound):
            accounts.links.withdraw_invitation(link.id, at=1.0, by=BOB)

    def test_invitation_of_somebody_with_an_account_is_refused(self, accounts):
        accounts.add_user(ANN, "hash", "viewer", at=1.0, by="cli")
        with pytest.raises(AlreadyExists):
            accounts.links.invite("ANN@shop.example", "admin", at=1.0, by=BOB)
        assert accounts.links.invitations() == []

    def test_invitation_of_somebody_added_meanwhile_changes_nothing(self, accounts):
        code = accounts.links.invite(ANN, "admin", at=0.0, by=BOB)
        accounts.add_user(ANN, "hash", "viewer", at=1.0, by="cli")
        with pytest.raises(AlreadyExists):
            accounts.accept_invitation(code, "other", at=1.0)
        assert accounts.user(ANN).role == "viewer"

    @pytest.mark.parametrize("change", ["demote", "remove"])
    def test_invitation_ends_with_the_rights_of_who_made_it(self, accounts, change):
        accounts.add_user(BOB, "hash", "admin", at=1.0, by="cli")
        code = accounts.links.invite(ANN, "admin", at=1.0, by=BOB)
        if change == "demote":
            accounts.set_role(BOB, "manager", at=1.0, by="cli")
        else:
            accounts.remove_user(BOB, at=1.0, by="cli")
        with pytest.raises(NotFound):
            accounts.accept_invitation(code, "hash", at=1.0)


class TestResetLink:
    @pytest.fixture(autouse=True)
    def ann(self, accounts):
        return accounts.add_user(ANN, "hash", "manager", at=0.0, by="cli", must_change=True)

    def test_reset_link_sets_a_password_and_ends_sessions(self, accounts, ann):
        token = accounts.sessions.begin(ann.id, agent="", address="", at=0.0)
        code = reset_code(accounts)
        assert accounts.reset_password(code, "new", at=1.0) == ANN
        user = accounts.user(ANN)
        assert (user.password_hash, user.must_change_password) == ("new", False)
        with pytest.raises(NotFound):
            accounts.sessions.find(token, at=1.0)
        with pytest.raises(NotFound):
            accounts.reset_password(code, "newer", at=1.0)
        assert accounts.user(ANN).password_hash == "new"

    def test_reset_link_ends_after_two_hours(self, accounts):
        code = reset_code(accounts)
        with pytest.raises(NotFound):
            accounts.reset_password(code, "new", at=VALID_SECONDS["reset"])
        assert accounts.user(ANN).password_hash == "hash"

    def test_reset_link_ends_with_another_password_or_the_next_link(self, accounts):
        former, code = reset_code(accounts), reset_code(accounts)
        with pytest.raises(NotFound):
            accounts.reset_password(former, "new", at=1.0)
        accounts.set_password(ANN, "own", at=1.0, by=ANN)
        with pytest.raises(NotFound):
            accounts.reset_password(code, "new", at=1.0)
        assert accounts.user(ANN).password_hash == "own"

    def test_reset_link_of_a_removed_user_opens_no_later_account(self, accounts):
        code = reset_code(accounts)
        accounts.remove_user(ANN, at=1.0, by="cli")
        accounts.add_user(ANN, "later", "admin", at=1.0, by="cli")
        with pytest.raises(NotFound):
            accounts.reset_password(code, "new", at=1.0)

    def test_reset_link_of_nobody_is_not_made(self, accounts):
        with pytest.raises(NotFound):
            reset_code(accounts, BOB)


def test_codes_open_their_own_purpose_alone_and_are_stored_nowhere(store, accounts):
    accounts.add_user(ANN, "hash", "viewer", at=0.0, by="cli")
    invited, reset = accounts.links.invite(BOB, "admin", at=0.0, by=ANN), reset_code(accounts)
    with pytest.raises(NotFound):
        accounts.accept_invitation(reset, "hash", at=1.0)
    with pytest.raises(NotFound):
        accounts.reset_password(invited, "hash", at=1.0)
    with pytest.raises(NotFound):
        accounts.links.find("set-up", invited, at=1.0)
    with store.database.reading() as transaction:
        rows = [
            *transaction.execute(select(one_time_links)),
            *transaction.execute(select(audit_log)),
        ]
    assert len(rows) >= 4
    assert len(invited) >= 43  # 256 bits
    assert not any(code in repr(row) for code in (invited, reset) for row in rows)

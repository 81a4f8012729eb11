"""Pages of one-time links: the first account, invitations, forgotten passwords."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.patience import LIMIT_SECONDS
from webapp import passwords

ANN = "ann@shop.example"
PHRASE = "seven grey herons wade"


@pytest.fixture
def set_up_code(site):
    return site.accounts.links.create_set_up(at=site.clock(), by="server")


def typed(code, **fields):
    return {"code": code, "email": ANN, "password": PHRASE, "again": PHRASE} | fields


class TestSetUp:
    def test_set_up_makes_an_admin_who_is_signed_in(self, site, set_up_code):
        visitor = site.visitor()
        assert visitor.form("/set-up", "again").keys() == {
            "csrf_token",
            "code",
            "email",
            "password",
            "again",
        }
        answer = visitor.post("/set-up", typed(set_up_code))
        assert (answer.status_code, answer.location) == (302, "/")
        front = visitor.get("/")
        assert "Your account is ready." in front.text
        assert visitor.get("/settings/people").status_code == 200
        assert site.accounts.user(ANN).role == "admin"
        assert visitor.get("/set-up").location == "/sign-in", "nobody is offered it again"

    def test_set_up_takes_the_whole_link_as_code(self, site, set_up_code):
        link = f"http://127.0.0.1:8000/set-up#{set_up_code}"
        assert site.visitor().post("/set-up", typed(link)).status_code == 302

    @pytest.mark.parametrize("code", ["", "x", "x" * 5000, "\0", "é"])
    def test_set_up_without_the_link_is_refused_and_hashes_nothing(
        self, site, set_up_code, code, monkeypatch
    ):
        hashed = []
        monkeypatch.setattr(passwords._hasher.__class__, "hash", lambda *_: hashed.append(1))
        answer = site.visitor().post("/set-up", typed(code))
        assert answer.status_code == 422
        assert "This link does not work" in answer.text
        assert site.accounts.users() == []
        assert hashed == []

    def test_set_up_after_a_day_is_refused(self, site, set_up_code):
        visitor = site.visitor()
        site.clock.now += 86_400
        assert visitor.post("/set-up", typed(set_up_code)).status_code == 422
        assert site.accounts.users() == []

    def test_set_up_once_somebody_has_an_account_is_refused(self, site, set_up_code):
        visitor = site.visitor()
        visitor.token  # noqa: B018 - of the page while it was there
        site.add("viewer", "first@shop.example")
        answer = visitor.post("/set-up", typed(set_up_code))
        assert answer.location == "/sign-in"
        assert [user.email for user in site.accounts.users()] == ["first@shop.example"]

    @pytest.mark.parametrize(
        ("field", "value", "error"),
        [
            ("email", "ann", "must be an e-mail address"),
            ("password", "short", "must have at least 10 characters"),
            ("password", "newsletter2026", "too easy to guess"),
            ("again", "something else", "differs from the password above"),
        ],
    )
    def test_set_up_keeps_the_link_when_a_field_does_not_fit(
        self, site, set_up_code, field, value, error
    ):
        visitor = site.visitor()
        answer = visitor.post("/set-up", typed(set_up_code, **{field: value}))
        assert answer.status_code == 422
        assert error in answer.text
        assert f'name="code" value="{set_up_code}"' in answer.text
        assert visitor.post("/set-up", typed(set_up_code)).status_code == 302

    def test_set_up_of_two_at_once_makes_one_account(self, site, set_up_code):
        visitors = [site.visitor() for _ in range(4)]
        tokens = [visitor.token for visitor in visitors]
        assert all(tokens)

        def take(number):
            fields = typed(set_up_code, email=f"{number}@shop.example")
            return visitors[number].post("/set-up", fields)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(take, range(4), timeout=LIMIT_SECONDS))
        assert len(site.accounts.users()) == 1
        assert sum(answer.location == "/" for answer in answers) == 1
        assert all(a.location == "/sign-in" or a.status_code in {302, 422} for a in answers)

    def test_set_up_codes_are_slowed_down(self, site, set_up_code):
        visitor = site.visitor()
        statuses = [visitor.post("/set-up", typed("guess")).status_code for _ in range(21)]
        assert statuses == [422] * 20 + [429]
        assert visitor.post("/set-up", typed(set_up_code)).status_code == 429

    def test_set_up_of_another_site_is_refused(self, site, set_up_code):
        answer = site.visitor().client.post("/set-up", data=typed(set_up_code))
        assert answer.status_code == 400
        assert site.accounts.users() == []


class TestInvitation:
    def test_invitation_without_a_mail_server_is_a_link_to_copy(self, site, admin):
        answer = admin.post("/settings/people/invitations", {"email": ANN, "role": "manager"})
        assert answer.status_code == 200
        code = re.search(r'href="/invitation#([^"]+)"', answer.text)[1]
        assert ANN in admin.get("/settings/people").text
        visitor = site.visitor()
        answer = visitor.post("/invitation", typed(code))
        assert (answer.status_code, answer.location) == (302, "/")
        assert site.accounts.user(ANN).role == "manager"
        assert visitor.get("/new-experiment").status_code == 200
        assert visitor.get("/settings/people").status_code == 403
        assert site.visitor().post("/invitation", typed(code)).status_code == 422

    def test_invitation_is_renewed_and_withdrawn(self, site, admin):
        answer = admin.post("/settings/people/invitations", {"email": ANN, "role": "viewer"})
        former = re.search(r'href="/invitation#([^"]+)"', answer.text)[1]
        (link,) = site.accounts.links.invitations()
        answer = admin.post(f"/settings/people/invitations/{link.id}/link")
        code = re.search(r'href="/invitation#([^"]+)"', answer.text)[1]
        assert site.visitor().post("/invitation", typed(former)).status_code == 422
        answer = admin.post(f"/settings/people/invitations/{link.id}/withdraw")
        assert answer.location == "/settings/people"
        assert site.visitor().post("/invitation", typed(code)).status_code == 422
        assert ANN not in [user.email for user in site.accounts.users()]

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"email": "ann", "role": "viewer"}, "must be an e-mail address"),
            ({"email": "admin@shop.example", "role": "viewer"}, "there is an account"),
            ({"email": ANN, "role": "owner"}, "choose what this person may do"),
        ],
    )
    def test_invitation_that_does_not_fit_is_not_made(self, site, admin, fields, error):
        answer = admin.post("/settings/people/invitations", fields)
        assert answer.status_code == 422
        assert error in answer.text
        assert site.accounts.links.invitations() == []

    def test_link_never_names_the_host_of_a_request(self, admin):
        fields = {"email": ANN, "role": "viewer"}
        answer = admin.post(
            "/settings/people/invitations",
            fields,
            headers={"X-Forwarded-Host": "evil.example"},
        )
        assert "evil.example" not in answer.text
        assert 'href="/invitation#' in answer.text


class TestResetLink:
    def test_reset_link_sets_a_new_password(self, site, admin):
        site.add("viewer", ANN)
        number = site.accounts.user(ANN).id
        answer = admin.post(f"/settings/people/{number}/link")
        code = re.search(r'href="/new-password#([^"]+)"', answer.text)[1]
        visitor = site.visitor()
        refused = visitor.post("/new-password", typed(code, again="other"))
        assert refused.status_code == 422
        answer = visitor.post("/new-password", typed(code))
        assert answer.location == "/sign-in"
        assert "Your password is changed." in visitor.get("/sign-in").text
        entered = visitor.post("/sign-in", {"email": ANN, "password": PHRASE})
        assert (entered.status_code, entered.location) == (302, "/")
        assert site.visitor().post("/new-password", typed(code)).status_code == 422

    def test_reset_link_leaves_the_second_factor_on(self, site, admin):
        site.add("viewer", ANN)
        site.accounts.set_totp(ANN, "JBSWY3DPEHPK3PXP", at=site.clock(), by=ANN)
        code = site.accounts.links.create_reset(ANN, at=site.clock(), by="test")
        visitor = site.visitor()
        assert visitor.post("/new-password", typed(code)).status_code == 302
        answer = visitor.post("/sign-in", {"email": ANN, "password": PHRASE})
        assert 'name="ticket"' in answer.text

    def test_links_do_not_open_while_passwords_are_off(self, site, monkeypatch):
        code = site.accounts.links.invite(ANN, "admin", at=site.clock(), by="test")
        visitor = site.visitor()
        visitor.token  # noqa: B018 - before passwords go
        monkeypatch.setitem(site.app.config, "PASSWORD_SIGN_IN", value=False)
        answer = visitor.post("/invitation", typed(code))
        assert answer.status_code == 422
        assert "Passwords are turned off here." in answer.text
        assert site.accounts.users() == []

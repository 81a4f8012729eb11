"""Sign-in by OpenID Connect, at a provider that is honest, attacked, wrong or away."""

import logging

import pyotp
import pytest

from bandits.errors import InvalidInput
from tests.security.provider import ANNA, CLIENT, SECRET, new_key, running
from webapp.identity_provider import IdentityProvider
from webapp.passwords import matches
from webapp.settings import Settings

EMAIL = ANNA["email"]
PUBLIC = "https://bandits.shop.example"
TOTP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def settings(issuer, **others):
    values = {
        "BANDITS_PUBLIC_URL": PUBLIC,
        "BANDITS_OIDC_ISSUER": issuer,
        "BANDITS_OIDC_CLIENT_ID": CLIENT,
        "BANDITS_OIDC_CLIENT_SECRET": SECRET,
        "BANDITS_OIDC_NAME": "Shop login",
        "BANDITS_OIDC_ROLES": "team=viewer, marketing=manager, it=admin",
    }
    return Settings.read({k: v for k, v in (values | others).items() if v is not None})


@pytest.fixture
def provider(site, clock, monkeypatch):
    """A provider that the site signs people in by."""
    with running(clock) as provider:
        own = IdentityProvider(settings(provider.issuer))
        monkeypatch.setitem(site.app.extensions, "bandits.provider", own)
        site.provider = provider
        yield provider


@pytest.fixture
def visit(site, provider):
    """Sign in by the provider in a new browser; return the browser and the last answer."""

    def visit(visitor=None, path="/sign-in/provider", **changed):
        visitor = visitor or site.visitor()
        answer = visitor.get(path)
        if answer.status_code != 302:
            return visitor, answer
        query = provider.authorize(answer.location) | changed
        return visitor, visitor.get("/sign-in/provider/return", query_string=query)

    return visit


def sign_in_entries(site, email=EMAIL):
    entries = site.accounts.changes(subject=f"user:{email}")
    return [(e.action, e.by, e.after) for e in entries if "sign in" in e.action]


def test_sign_in_makes_an_account_and_finds_it_again(site, provider, visit) -> None:
    visitor, answer = visit(path="/sign-in/provider?next=/segments")
    assert (answer.status_code, answer.location) == (302, "/segments")
    assert visitor.get("/segments").status_code == 200
    user = site.accounts.user(EMAIL)
    assert (user.role, user.password_hash) == ("viewer", "")
    provider.person["email"] = "anna@married.example"
    visit()
    assert [u.email for u in site.accounts.users()] == [EMAIL], "the subject is who it is"
    address = {"address": "127.0.0.1", "provider": provider.issuer}
    assert sign_in_entries(site) == [("sign in", EMAIL, address)] * 2


def test_sign_in_page_offers_the_provider_beside_the_password(site, provider) -> None:
    page = site.visitor().get("/sign-in?next=/segments").text
    assert 'href="/sign-in/provider?next=/segments">Sign in with Shop login</a>' in page
    assert 'name="password"' in page


@pytest.mark.parametrize(
    ("values", "role"),
    [(["team", "it"], "admin"), ("marketing", "manager"), (["x", "team"], "viewer")],
)
def test_role_is_the_highest_that_the_claim_has(site, provider, visit, values, role) -> None:
    provider.person["roles"] = values
    visit()
    assert site.accounts.user(EMAIL).role == role


def test_role_follows_the_claim_at_each_sign_in(site, provider, visit) -> None:
    provider.person["roles"] = ["it"]
    visitor, _ = visit()
    assert visitor.get("/settings/people").status_code == 200
    provider.person["roles"] = ["team"]
    visit()
    assert visitor.get("/settings/people").status_code == 403
    (change,) = (e for e in site.accounts.changes() if e.action == "set role")
    assert (change.by, change.after) == (provider.issuer, {"role": "viewer"})


def test_person_without_a_role_is_refused_in_words_and_signed_out(site, provider, visit) -> None:
    visitor, _ = visit()
    provider.person["roles"] = ["warehouse"]
    _, answer = visit()
    assert answer.status_code == 403
    assert "has no role in Bandits" in answer.text
    assert visitor.get("/").status_code == 302, "what was open is ended"
    assert sign_in_entries(site)[0][:2] == ("fail to sign in", "anonymous")
    assert sign_in_entries(site)[0][2]["reason"] == "no role"


def refused(site, answer, reason, caplog):
    assert answer.status_code == 403
    assert site.accounts.users() == []
    assert f"sign-in failed: {reason}" in caplog.text
    return True


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"nonce": "another"}, "invalid ID token"),
        ({"nonce": None}, "invalid ID token"),
        ({"aud": "another client"}, "invalid ID token"),
        ({"aud": [CLIENT, "another client"]}, "invalid ID token"),
        ({"aud": None}, "invalid ID token"),
        ({"iss": "https://another.example"}, "invalid ID token"),
        ({"exp": 1_799_999_000}, "invalid ID token"),
        ({"exp": None}, "invalid ID token"),
        ({"sub": None}, "invalid ID token"),
        ({"sub": ""}, ""),
        ({"email_verified": False}, "e-mail address not verified"),
        ({"email_verified": None}, "e-mail address not verified"),
        ({"email_verified": "yes"}, "e-mail address not verified"),
        ({"email": "no address"}, "e-mail address not verified"),
        ({"roles": []}, "no role"),
        ({"roles": {"it": True}}, "no role"),
    ],
)
def test_token_with_wrong_claims_is_refused(site, visit, caplog, claims, reason) -> None:
    site.provider.claims = claims
    visitor, answer = visit()
    assert refused(site, answer, reason, caplog)
    assert visitor.get("/").status_code == 302


@pytest.mark.parametrize("algorithm", ["none", "HS256", "forged"])
def test_token_that_the_provider_did_not_sign_is_refused(
    site, provider, visit, caplog, algorithm
) -> None:
    provider.algorithm = algorithm
    _, answer = visit()
    assert refused(site, answer, "invalid ID token", caplog)


def test_answer_with_a_wrong_state_is_refused(site, provider, visit, caplog) -> None:
    _, answer = visit(state="another")
    assert refused(site, answer, "wrong state", caplog)
    assert "/token" not in provider.requests


def test_answer_in_a_browser_that_did_not_ask_is_refused(site, provider, caplog) -> None:
    query = provider.authorize(site.visitor().get("/sign-in/provider").location)
    answer = site.visitor().get("/sign-in/provider/return", query_string=query)
    assert refused(site, answer, "no sign-in was begun in this browser", caplog)


def test_answer_of_another_issuer_is_refused(site, provider, visit, caplog) -> None:
    _, answer = visit(iss="https://another.example")
    assert refused(site, answer, "wrong issuer of the answer", caplog)


def test_answer_that_took_too_long_is_refused(site, provider, caplog) -> None:
    visitor = site.visitor()
    query = provider.authorize(visitor.get("/sign-in/provider").location)
    site.clock.now += 601
    answer = visitor.get("/sign-in/provider/return", query_string=query)
    assert refused(site, answer, "took too long", caplog)


def test_code_works_once(site, provider, caplog) -> None:
    """Even for who restores the cookie of before."""
    visitor = site.visitor()
    query = provider.authorize(visitor.get("/sign-in/provider").location)
    name = site.app.config["SESSION_COOKIE_NAME"]
    cookie = visitor.client.get_cookie(name).value
    assert visitor.get("/sign-in/provider/return", query_string=query).status_code == 302
    again = visitor.get("/sign-in/provider/return", query_string=query)
    assert again.status_code == 403
    thief = site.visitor()
    thief.client.set_cookie(name, cookie)
    assert thief.get("/sign-in/provider/return", query_string=query).status_code == 403
    assert "the provider refused the code" in caplog.text
    assert thief.get("/").status_code == 302


def test_rotated_key_is_fetched_once_it_is_needed(site, provider, visit, monkeypatch) -> None:
    visit()
    visit()
    assert provider.requests.count("/keys") == 1
    provider.keys = [new_key("second"), *provider.keys]
    monkeypatch.setattr("webapp.identity_provider._REFETCH_SECONDS", 0.0)
    assert visit()[1].status_code == 302
    assert provider.requests.count("/keys") == 2


def test_unknown_key_fetches_keys_seldom(site, provider, visit) -> None:
    visit()
    provider.keys = [new_key("second")]
    for _ in range(3):
        assert visit()[1].status_code == 403
    assert provider.requests.count("/keys") == 1


def test_account_of_the_same_address_is_connected_by_its_password(
    site, provider, visit, password
) -> None:
    site.add("admin", EMAIL)
    visitor, page = visit()
    assert "Enter its password once" in page.text
    assert visitor.get("/").status_code == 302, "the address alone opens nothing"
    wrong = visitor.post("/sign-in/provider/connect", {"password": "a guess"})
    assert wrong.status_code == 422
    assert visit()[1].status_code == 200, "it asks again"
    right = visitor.post("/sign-in/provider/connect", {"password": password})
    assert right.status_code == 302
    assert site.accounts.user(EMAIL).role == "viewer", "the claim's"
    assert visit()[1].status_code == 302
    actions = [e.action for e in site.accounts.changes(subject=f"user:{EMAIL}")]
    assert actions == ["sign in", "sign in", "set role", "connect", "fail to sign in", "add"]


def test_account_with_codes_asks_for_one_each_time(
    site, provider, visit, password, read_form
) -> None:
    site.add("viewer", EMAIL)
    site.accounts.set_totp(EMAIL, TOTP, at=site.clock(), by=EMAIL)
    visitor, _ = visit()
    fields = {"password": password}
    assert visitor.post("/sign-in/provider/connect", fields).status_code == 422
    fields["code"] = pyotp.TOTP(TOTP).at(int(site.clock.now))
    assert visitor.post("/sign-in/provider/connect", fields).status_code == 302
    visitor, page = visit()
    assert visitor.get("/").status_code == 302
    site.clock.now += 60
    form = read_form(page.text, "ticket").fields
    code = pyotp.TOTP(TOTP).at(int(site.clock.now))
    assert visitor.client.post("/sign-in/code", data=form | {"code": code}).status_code == 302
    assert sign_in_entries(site)[0][2]["provider"] == provider.issuer


def test_another_subject_with_the_same_address_gets_no_account(site, provider, visit) -> None:
    visit()
    provider.person["sub"] = "u-2"
    visitor, answer = visit()
    assert answer.status_code == 403
    assert "belongs to another person" in answer.text
    assert visitor.get("/").status_code == 302


@pytest.mark.parametrize("guess", ["", "no user has this password"])
def test_account_without_a_password_opens_by_none(site, provider, visit, guess) -> None:
    visit()
    answer = site.visitor().post("/sign-in", {"email": EMAIL, "password": guess})
    assert answer.status_code == 422
    assert not matches("", guess)


def test_host_header_changes_no_address(site, provider) -> None:
    head = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    answer = site.visitor().get("/sign-in/provider", headers=head)
    provider.authorize(answer.location)
    assert provider.redirect_uris == [f"{PUBLIC}/sign-in/provider/return"]


@pytest.mark.parametrize("address", ["//evil.example/", "https://evil.example/"])
def test_sign_in_leads_to_no_other_site(site, provider, visit, address) -> None:
    _, answer = visit(path=f"/sign-in/provider?next={address}")
    assert answer.location == "/"


@pytest.mark.parametrize(
    "broken",
    [
        ("/.well-known/openid-configuration", 500, b"{}"),
        ("/.well-known/openid-configuration", 200, b"<html>"),
        ("/.well-known/openid-configuration", 200, b'{"issuer": "https://another.example"}'),
        ("/.well-known/openid-configuration", 200, b"[" * 200_000),
        ("/.well-known/openid-configuration", 302, b"http://127.0.0.1:1/secret"),
        ("/token", 500, b"oops"),
        ("/token", 200, b" " * 300_000),
        ("/token", 401, b'{"error": "invalid_client"}'),
        ("/keys", 200, b'{"keys": []}'),
        ("/keys", 200, b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA"}, 7]}'),
        ("/keys", 302, b"http://127.0.0.1:1/secret"),
    ],
)
def test_provider_that_does_not_work_leaves_passwords(
    site, provider, visit, password, broken
) -> None:
    path, *answer = broken
    site.add("viewer", "otto@shop.example")
    provider.broken[path] = tuple(answer)
    _, answer = visit()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    assert "Shop login does not answer" in answer.text
    entered = site.visitor().post("/sign-in", {"email": "otto@shop.example", "password": password})
    assert entered.status_code == 302


def test_provider_that_is_gone_is_asked_seldom(site, provider, visit) -> None:
    provider.broken["/.well-known/openid-configuration"] = (500, b"")
    for _ in range(3):
        assert visit()[1].status_code == 503
    assert len(provider.requests) == 1


def test_short_token_is_completed_by_user_info_of_the_same_person(site, provider, visit) -> None:
    provider.person = {"sub": "u-1"}
    provider.user_info = dict(ANNA)
    assert visit()[1].status_code == 302
    provider.user_info["sub"] = "u-2"
    assert visit()[1].status_code == 403


def test_secret_token_and_code_are_in_no_log(site, provider, visit, caplog) -> None:
    with caplog.at_level(logging.DEBUG, "webapp"):
        visit()
        visit(state="another")
        provider.broken["/token"] = (401, b'{"error": "invalid_client"}')
        visit()
    assert caplog.records
    for private in (SECRET, "opaque", EMAIL, *provider.codes):
        assert private not in caplog.text


def test_sign_out_says_that_the_provider_may_go_on(site, provider, visit) -> None:
    visitor, _ = visit()
    visitor.email = EMAIL
    visitor.post("/sign-out")
    assert "still be signed in at Shop login" in visitor.get("/sign-in").text
    assert visitor.get("/").status_code == 302


def test_removed_person_is_a_new_one(site, provider, visit) -> None:
    visit()
    first = site.accounts.user(EMAIL)
    site.accounts.remove_user(EMAIL, at=site.clock(), by="test")
    visit()
    assert site.accounts.user(EMAIL).created_at == first.created_at
    assert [e.action for e in site.accounts.changes()].count("add") == 2


@pytest.fixture
def without_passwords(site, password, monkeypatch):
    """Everybody's password, which is off."""
    monkeypatch.setitem(site.app.config, "PASSWORD_SIGN_IN", False)
    monkeypatch.setattr("webapp.identity_provider._WORKING_SECONDS", 0.0)
    return password


def enters(site, email, password):
    answer = site.visitor().post("/sign-in", {"email": email, "password": password})
    assert answer.status_code == 302 or "Passwords are turned off" in answer.text
    return answer.status_code == 302


def test_passwords_that_are_off_let_in_an_admin_until_one_signs_in_by_the_provider(
    site, provider, visit, without_passwords
) -> None:
    site.add("manager", "otto@shop.example")
    site.add("admin", "ida@shop.example")
    assert not enters(site, "otto@shop.example", without_passwords)
    assert enters(site, "ida@shop.example", without_passwords)
    provider.person["roles"] = ["it"]
    visit()
    assert not enters(site, "ida@shop.example", without_passwords)
    assert sign_in_entries(site, "ida@shop.example")[0][2]["reason"] == "password sign-in is off"


@pytest.mark.parametrize(
    "broken",
    [
        ("/.well-known/openid-configuration", (500, b"")),
        ("/token", (401, b'{"error": "invalid_client"}')),
    ],
)
def test_passwords_that_are_off_let_in_an_admin_while_the_provider_does_not_work(
    site, provider, visit, without_passwords, broken
) -> None:
    site.add("manager", "otto@shop.example")
    site.add("admin", "ida@shop.example")
    provider.person["roles"] = ["it"]
    visit()
    provider.broken |= dict([broken])
    visit()
    assert not enters(site, "otto@shop.example", without_passwords)
    assert enters(site, "ida@shop.example", without_passwords)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", None),
        ("PUBLIC_URL", "http://bandits.shop.example"),
        ("PUBLIC_URL", "https://bandits.shop.example/elsewhere"),
        ("OIDC_ISSUER", "http://login.shop.example"),
        ("OIDC_ISSUER", "login.shop.example"),
        ("OIDC_ISSUER", "https://login.shop.example/?realm=shop"),
        ("OIDC_CLIENT_ID", None),
        ("OIDC_CLIENT_SECRET", None),
        ("OIDC_CLIENT_SECRET", ""),
        ("OIDC_ROLES", None),
        ("OIDC_ROLES", "it=owner"),
        ("OIDC_ROLES", "it"),
    ],
)
def test_settings_that_cannot_be_right_stop_the_server(name, value) -> None:
    with pytest.raises(InvalidInput, match=f"BANDITS_{name}") as refusal:
        settings("https://login.shop.example", **{f"BANDITS_{name}": value})
    assert SECRET not in str(refusal.value)


def test_settings_show_no_secret() -> None:
    assert SECRET not in repr(settings("https://login.shop.example"))


def test_passwords_cannot_be_off_without_a_provider() -> None:
    with pytest.raises(InvalidInput, match="BANDITS_PASSWORD_SIGN_IN"):
        Settings.read({"BANDITS_PASSWORD_SIGN_IN": "false"})

"""People: sign-ins are on record, weak passwords refused, sessions and keys end."""

import logging
import re
from html import unescape

import pyotp
import pytest

from bandits.errors import NotFound
from webapp.pages.admin.second_factor import qr_code, takes_code
from webapp.passwords import refuse_password

ANNA = "anna@shop.example"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
FORM = {"name": "Sender", "scopes": "choose"}


@pytest.fixture
def sign_in(site, password):
    """Send the form for signing in, in a new browser."""

    def send(email=ANNA, password=password, **fields):
        visitor = site.visitor()
        answer = visitor.post("/sign-in", {"email": email, "password": password} | fields)
        visitor._token = ""
        visitor.email = email if answer.status_code == 302 else None
        return visitor, answer

    return send


def code(site, periods=0):
    return pyotp.TOTP(SECRET).at(int(site.clock.now) + 30 * periods)


def signed_in_entries(site):
    entries = site.accounts.changes(subject=f"user:{ANNA}")
    return [(e.action, e.by, e.after) for e in entries if "sign in" in e.action]


def test_sign_ins_and_failures_are_in_the_audit_log(site, sign_in) -> None:
    """Before: neither left a trace."""
    site.add("viewer", ANNA)
    sign_in(password="wrong")
    sign_in()
    assert signed_in_entries(site) == [
        ("sign in", ANNA, {"address": "127.0.0.1"}),
        (
            "fail to sign in",
            "anonymous",
            {"address": "127.0.0.1", "reason": "wrong password"},
        ),
    ]


def test_sign_ins_and_failures_are_in_the_log_without_what_was_typed(site, sign_in, caplog) -> None:
    site.add("viewer", ANNA)
    with caplog.at_level(logging.INFO, "webapp"):
        sign_in(password="wrong guess")
        sign_in(email="my password by mistake")
        sign_in()
    records = [r for r in caplog.records if r.name.endswith("sign_in")]
    assert [r.levelname for r in records] == ["WARNING", "WARNING", "INFO"]
    user = site.accounts.user(ANNA).id
    assert [getattr(r, "user", None) for r in records] == [user, None, user]
    assert {r.address for r in records} == {"127.0.0.1"}
    assert "mistake" not in caplog.text
    assert "wrong guess" not in caplog.text


@pytest.mark.parametrize(
    "weak",
    [
        *("password123", "Password123!", "qwertyuiop", "1234567890", "summer2026!", "letmein1234"),
        *("shop.example", "anna@shop.example1", "bandits2026", "abcabcabcabc", "newsletter2026"),
    ],
)
def test_password_that_is_guessed_first_is_refused(weak) -> None:
    """Before: all but the repeated letters were taken."""
    assert "too easy" in (refuse_password(weak, ANNA) or "")


@pytest.mark.parametrize("strong", ["three words in a row", "plum velvet harbour", "x9$Kq2!mVb7"])
def test_password_that_is_hard_to_guess_is_taken(strong) -> None:
    assert refuse_password(strong, ANNA) is None


def test_password_that_an_admin_set_has_to_be_changed(site, admin, sign_in) -> None:
    first = "three words in a row"
    admin.post("/settings/people", {"email": ANNA, "role": "viewer", "password": first})
    visitor, answer = sign_in(password=first)
    assert answer.status_code == 302
    for path in ("/", "/segments", "/settings/codes"):
        assert visitor.get(path).location == "/settings", path
    assert "Choose a password of your own first" in visitor.get("/settings").text
    same = {"current": first, "new": first, "again": first}
    assert visitor.post("/settings", same).status_code == 422
    new = same | {"new": "four other words in it", "again": "four other words in it"}
    assert visitor.post("/settings", new).status_code == 302
    assert visitor.get("/").status_code == 200
    user = site.accounts.user(ANNA)
    admin.post(f"/settings/people/{user.id}/password", {"password": "and a third one of these"})
    assert site.accounts.user(ANNA).must_change_password


@pytest.mark.parametrize("path", ["/settings/keys", "/settings/keys/1/rotate"])
def test_a_stolen_session_makes_no_token(site, manager, password, path) -> None:
    """Before: a session left open was enough for a key that outlives it."""
    site.accounts.keys.create("Sender", ["choose"], at=site.clock(), by="test")
    for wrong in ({}, {"password": "a guess"}):
        refused = manager.post(path, FORM | wrong)
        assert refused.status_code == 422
        assert 'id="password-error"' in refused.text
        assert 'id="token"' not in refused.text
    assert 'id="token"' in manager.post(path, FORM | {"password": password}).text


def test_manager_gets_no_token_of_a_key_that_may_do_more(site, manager, password) -> None:
    """Before: they rotated an admin's key, and voided with it."""
    site.accounts.keys.create("Operator", ["manage"], at=site.clock(), by="cli")
    assert "Rotate…" not in manager.get("/settings/keys").text
    for path in ("/settings/keys/1/rotate", "/settings/keys/1/revoke"):
        expected = 403 if "rotate" in path else 200
        assert manager.get(path).status_code == expected
    refused = manager.post("/settings/keys/1/rotate", {"password": password})
    assert (refused.status_code, 'id="token"' in refused.text) == (403, False)


def test_change_of_a_role_says_which_keys_it_limits(site, admin, password) -> None:
    otto = site.visitor("manager", "otto@shop.example")
    otto.post("/settings/keys", FORM | {"password": password})
    address = f"/settings/people/{site.accounts.user(otto.email).id}/role"
    admin.post(address, {"role": "viewer"})
    assert (
        "1 API key of theirs may only do what that role may" in admin.get("/settings/people").text
    )
    assert "otto@shop.example is a viewer, so it may not choose" in admin.get("/settings/keys").text


def test_session_ends_however_much_it_is_used(site, viewer, monkeypatch) -> None:
    """Before: a session that was used once a week lasted for ever."""
    monkeypatch.setitem(site.app.config, "SESSION_SECONDS", 12 * 3600.0)
    for _ in range(11):
        site.clock.now += 3600
        assert viewer.get("/").status_code == 200
    site.clock.now += 3600
    assert viewer.get("/").status_code == 302
    user = site.accounts.user(viewer.email)
    assert site.accounts.sessions.active(user.id, at=site.clock()) == []


@pytest.mark.parametrize("handed", [False, True])
def test_keys_end_with_the_person_who_made_them_or_are_handed_over(
    site, admin, password, handed
) -> None:
    """Before: they went on working, and nobody was named who answers for them."""
    otto = site.visitor("manager", "otto@shop.example")
    otto.post("/settings/keys", FORM | {"password": password})
    own = site.accounts.keys.all()[0]
    child = site.accounts.keys.create(
        "its own", ["choose"], at=site.clock(), by=f"key:{own.id}", owner=own.owner
    )
    other = site.accounts.keys.create("other", ["read"], at=site.clock(), by="test")
    address = f"/settings/people/{site.accounts.user(otto.email).id}/remove"
    assert "“Sender”" in admin.get(address).text
    admin.post(address, {"keys": "hand over" if handed else "end"})
    assert site.accounts.keys.find(other.token, at=site.clock())
    owners = {k.name: k.owner for k in site.accounts.keys.all()}
    if handed:
        assert site.accounts.keys.find(child.token, at=site.clock())
        assert owners == {"Sender": admin.email, "its own": admin.email, "other": None}
    else:
        with pytest.raises(NotFound):
            site.accounts.keys.find(child.token, at=site.clock())
    actions = [e.action for e in site.accounts.changes(limit=3)]
    assert actions == ["remove", *["hand over" if handed else "revoke"] * 2]


def test_key_makes_and_rotates_none_that_may_do_more(api, problem) -> None:
    """Before: a key with `manage` alone made itself one that chooses, rewards and reads."""
    token = api.key("manage")
    body = {"name": "more", "scopes": ["manage", "choose"]}
    problem(api.post("/keys", body, token=token), 403, "forbidden")
    problem(api.post("/keys/1/rotate", {}, token=token), 403, "forbidden")
    same = api.post("/keys", {"name": "same", "scopes": ["manage"]}, token=token)
    assert same.status_code == 201
    number = same.json["key"]["id"]
    assert api.post(f"/keys/{number}/rotate", {}, token=token).status_code == 200


def test_key_that_a_key_makes_ends_with_the_same_person(api) -> None:
    api.accounts.add_user(ANNA, "", "manager", at=api.clock(), by="test")
    key = api.accounts.keys.create("own", ["manage"], at=api.clock(), by=ANNA, owner=ANNA)
    api.post("/keys", {"name": "child", "scopes": ["manage"]}, token=key.token)
    assert api.accounts.keys.all()[0].owner == ANNA


@pytest.fixture
def coded(site):
    """Anna, who has an app that shows codes."""
    site.add("viewer", ANNA)
    site.accounts.set_totp(ANNA, SECRET, at=site.clock(), by=ANNA)
    return site.accounts.user(ANNA)


def send_code(visitor, answer, read_form, digits):
    fields = read_form(answer.text, "ticket").fields
    return visitor.client.post("/sign-in/code", data=fields | {"code": digits})


def test_code_is_asked_for_after_the_password(site, coded, sign_in, read_form) -> None:
    visitor, answer = sign_in()
    assert answer.status_code == 200
    assert visitor.get("/").status_code == 302, "the password alone opens nothing"
    wrong = send_code(visitor, answer, read_form, "000000")
    assert wrong.status_code == 422
    assert send_code(visitor, wrong, read_form, code(site)).status_code == 302
    assert visitor.get("/").status_code == 200
    reasons = [after.get("reason") for _, _, after in signed_in_entries(site)]
    assert reasons == [None, "wrong code"]


def test_code_of_a_clock_that_is_a_little_off_is_taken(site, coded, clock) -> None:
    with site.app.test_request_context():
        for periods, taken in {-2: False, -1: True, 1: True, 2: False}.items():
            clock.now += 300
            assert takes_code(coded, code(site, periods)) is taken


def test_code_works_once(site, coded, sign_in, read_form) -> None:
    digits = code(site)
    visitor, answer = sign_in()
    assert send_code(visitor, answer, read_form, digits).status_code == 302
    thief, answer = sign_in()
    assert send_code(thief, answer, read_form, digits).status_code == 422


def test_codes_are_guessed_no_faster_than_passwords(site, coded, sign_in, read_form) -> None:
    visitor, answer = sign_in()
    fields = read_form(answer.text, "ticket").fields
    guesses = [
        visitor.client.post("/sign-in/code", data=fields | {"code": f"{n:06}"}).status_code
        for n in range(11)
    ]
    assert guesses[-1] == 429


@pytest.mark.parametrize("ticket", ["", "a.b.c"])
def test_code_without_a_password_before_it_is_refused(site, coded, ticket) -> None:
    visitor = site.visitor()
    answer = visitor.post("/sign-in/code", {"ticket": ticket, "code": code(site)})
    assert answer.location == "/sign-in"
    assert visitor.get("/").status_code == 302


def test_codes_are_turned_on_and_off_with_the_password(site, viewer, password, clock) -> None:
    page = viewer.get("/settings/codes").text
    with viewer.client.session_transaction() as session:
        secret = session["new_totp_secret"]
    assert secret[:4] in page
    (address,) = re.findall(r'href="(otpauth:[^"]+)"', page)
    assert f"secret={secret}" in address
    assert qr_code(unescape(address)) in page
    right = {"code": pyotp.TOTP(secret).at(int(clock.now)), "password": password}
    for wrong in ({"code": "000000"}, {"password": "a guess"}):
        assert viewer.post("/settings/codes", right | wrong).status_code == 422
    assert viewer.post("/settings/codes", right).location == "/settings"
    assert site.accounts.user(viewer.email).totp_secret == secret
    assert viewer.post("/settings/codes/off", {"password": "a guess"}).status_code == 422
    assert viewer.post("/settings/codes/off", {"password": password}).location == "/settings"
    assert site.accounts.user(viewer.email).totp_secret is None


def test_admin_turns_off_the_codes_of_a_lost_phone(site, admin, coded) -> None:
    address = f"/settings/people/{coded.id}/password"
    admin.post(address, {"password": "three words in a row", "codes_off": "on"})
    assert site.accounts.user(ANNA).totp_secret is None

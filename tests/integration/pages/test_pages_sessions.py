"""Where one is signed in, and passwords that an admin sets."""

import re

import pytest

from webapp.pages.admin.sessions import browser_name

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def sign_in(site, password, agent=FIREFOX):
    visitor = site.visitor()
    sent = {"email": "viewer@shop.example", "password": password}
    assert visitor.post("/sign-in", sent, headers={"User-Agent": agent}).status_code == 302
    visitor.email = "viewer@shop.example"
    visitor._token = ""
    return visitor


def test_sessions_are_listed_and_ended_one_by_one(site, viewer, password):
    elsewhere = sign_in(site, password)
    page = viewer.get("/settings").text
    assert "Firefox on Linux" in page
    assert page.count("this one") == 1
    (address,) = re.findall(r'action="(/settings/sessions/\d+/end)"', page)
    assert viewer.post(address).location == "/settings"
    assert elsewhere.get("/").status_code == 302
    assert viewer.get("/").status_code == 200
    assert viewer.post(address).status_code == 404, "it is over already"


def test_sign_out_everywhere_else_leaves_this_browser(site, viewer, password):
    others = [sign_in(site, password) for _ in range(2)]
    viewer.post("/settings/sessions/end-others")
    assert [other.get("/").status_code for other in others] == [302, 302]
    assert "signed out in 2 other places" in viewer.get("/settings").text
    assert "Sign out everywhere else" not in viewer.get("/settings").text


def test_session_of_another_user_cannot_be_ended(site, viewer, admin):
    (own,) = site.accounts.sessions.active(site.accounts.user(viewer.email).id, at=site.clock())
    assert admin.post(f"/settings/sessions/{own.id}/end").status_code == 404
    assert viewer.get("/").status_code == 200


def test_a_copied_cookie_is_worth_nothing_once_its_owner_signed_out(site, viewer):
    name = site.app.config["SESSION_COOKIE_NAME"]
    copied = viewer.client.get_cookie(name).value
    viewer.post("/sign-out")
    thief = site.visitor()
    thief.client.set_cookie(name, copied)
    assert thief.get("/").status_code == 302


def test_cookie_of_another_server_on_the_same_host_is_left_alone(site, viewer):
    name = site.app.config["SESSION_COOKIE_NAME"]
    assert re.fullmatch("bandits_[0-9a-f]{8}", name)
    viewer.client.set_cookie("bandits_00000000", "of another server")
    viewer.client.set_cookie("bandits", "of an older one with another secret")
    assert viewer.get("/").status_code == 200
    assert "of an older one" in viewer.client.get_cookie("bandits").value
    stranger = site.visitor()
    stranger.client.set_cookie("bandits", "of an older one with another secret")
    assert stranger.get("/").status_code == 302


def test_session_of_before_servers_had_cookies_of_their_own_goes_on(site, viewer):
    name = site.app.config["SESSION_COOKIE_NAME"]
    browser = site.visitor()
    browser.client.set_cookie("bandits", viewer.client.get_cookie(name).value)
    assert browser.get("/").status_code == 200
    assert browser.client.get_cookie(name) is not None
    viewer.post("/sign-out")
    assert browser.get("/").status_code == 302


def test_a_session_ends_when_it_is_not_used_for_a_week(site, viewer):
    site.clock.now += 6 * 86_400
    assert viewer.get("/").status_code == 200
    site.clock.now += 6 * 86_400
    assert viewer.get("/").status_code == 200
    site.clock.now += 8 * 86_400
    assert viewer.get("/").status_code == 302


def test_an_admin_gives_somebody_a_new_password(site, admin, viewer, password):
    address = f"/settings/people/{site.accounts.user(viewer.email).id}/password"
    assert "New password for viewer@shop.example" in admin.get(address).text
    refused = admin.post(address, {"password": "short"})
    assert refused.status_code == 422
    assert "password-error" in refused.text
    assert viewer.get("/").status_code == 200, "nothing has changed yet"
    admin.post(address, {"password": "three words in a row"})
    assert viewer.get("/").status_code == 302
    sent = {"email": viewer.email, "password": password}
    assert site.visitor().post("/sign-in", sent).status_code == 422
    sign_in(site, "three words in a row")
    own = site.accounts.user(admin.email).id
    refused = admin.post(f"/settings/people/{own}/password", {"password": "three words in a row"})
    assert refused.status_code == 409, "one's own is changed with the present one"


@pytest.mark.parametrize(
    ("agent", "called"),
    [
        (FIREFOX, "Firefox on Linux"),
        (
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
                " Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0"
            ),
            "Edge on Windows",
        ),
        (
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"
                " (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
            ),
            "Safari on iPhone",
        ),
        ("curl/8.5.0", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_browsers_are_called_as_people_call_them(agent, called):
    assert browser_name(agent) == called

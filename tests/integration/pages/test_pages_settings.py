"""Keys, people and one's own account."""

import re

import pytest

from bandits.errors import NotFound


def test_a_key_is_shown_once_and_works(site, manager, password):
    sent = {"name": "Sender", "scopes": "choose", "password": password}
    answer = manager.post("/settings/keys", sent)
    token = re.search(r'id="token">([^<]+)<', answer.text)[1]
    key = site.accounts.keys.find(token, at=site.clock())
    assert (key.name, key.scopes, key.created_by) == ("Sender", ("choose",), manager.email)
    later = manager.get("/settings/keys").text
    assert token not in later
    assert key.start in later


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"name": "", "scopes": "read"}, "name"),
        ({"name": "x" * 101, "scopes": "read"}, "name"),
        ({"name": "a\x00b", "scopes": "read"}, "name"),
        ({"name": "Sender"}, "scopes"),
        ({"name": "Sender", "scopes": "everything"}, "scopes"),
    ],
)
def test_a_key_without_name_or_scope_is_refused_beside_the_field(site, manager, sent, field):
    answer = manager.post("/settings/keys", sent)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text
    assert site.accounts.keys.all() == []


@pytest.mark.parametrize(("typed", "limit"), [("", None), ("6,000", 6000), (" 1 ", 1)])
def test_key_form_sets_a_limit_of_rows(site, manager, password, typed, limit):
    sent = {"name": "Sender", "scopes": "choose", "password": password, "rows_per_minute": typed}
    assert manager.post("/settings/keys", sent).status_code == 200
    (key,) = site.accounts.keys.all()
    assert key.rows_per_minute == limit
    shown = "default" if limit is None else f"{limit:,}"
    assert f'data-label="Rows a minute">{shown}<' in manager.get("/settings/keys").text


@pytest.mark.parametrize("typed", ["0", "-1", "1.5", "many", "2147483648", "1e3"])
def test_key_form_refuses_a_limit_that_is_none(site, manager, password, typed):
    sent = {"name": "Sender", "scopes": "choose", "password": password, "rows_per_minute": typed}
    answer = manager.post("/settings/keys", sent)
    assert answer.status_code == 422
    assert "enter a whole number from 1" in answer.text
    assert f'value="{typed}"' in answer.text
    assert site.accounts.keys.all() == []


def test_key_form_keeps_ticks_and_name_after_an_error(manager):
    text = manager.post("/settings/keys", {"name": "", "scopes": "manage"}).text
    assert re.search(r'value="manage" id="scope-manage" checked', text)
    assert not re.search(r'value="choose" id="scope-choose" checked', text)


@pytest.mark.parametrize(("grace", "works"), [("0", False), ("3600", True), ("x", True)])
def test_a_rotated_key_shows_its_new_token_once(site, manager, password, grace, works):
    new_key = site.accounts.keys.create("Sender", ["choose"], at=site.clock(), by="test")
    address = f"/settings/keys/{new_key.key.id}/rotate"
    assert "Give “Sender” a new token?" in manager.get(address).text
    answer = manager.post(address, {"grace": grace, "password": password})
    token = re.search(r'id="token">([^<]+)<', answer.text)[1]
    assert site.accounts.keys.find(token, at=site.clock()).id == new_key.key.id
    assert token not in manager.get("/settings/keys").text
    if works:
        assert site.accounts.keys.find(new_key.token, at=site.clock())
    else:
        with pytest.raises(NotFound):
            site.accounts.keys.find(new_key.token, at=site.clock())


def test_a_key_is_revoked_after_asking(site, manager):
    new_key = site.accounts.keys.create("Sender", ["choose"], at=site.clock(), by="test")
    address = f"/settings/keys/{new_key.key.id}/revoke"
    question = manager.get(address)
    assert "It was never used" in question.text
    assert site.accounts.keys.find(new_key.token, at=site.clock())
    assert manager.post(address).location == "/settings/keys"
    with pytest.raises(NotFound):
        site.accounts.keys.find(new_key.token, at=site.clock())
    assert "revoked" in manager.get("/settings/keys").text
    assert site.accounts.changes()[0].by == manager.email


def test_a_key_that_does_not_exist_is_not_found(manager):
    assert manager.get("/settings/keys/99/revoke").status_code == 404
    assert manager.post("/settings/keys/99/revoke").status_code == 404


def test_an_admin_adds_people_who_can_sign_in(site, admin):
    sent = {"email": "otto@shop.example", "role": "viewer", "password": "quite long enough"}
    assert admin.post("/settings/people", sent).location == "/settings/people"
    otto = site.visitor()
    answer = otto.post("/sign-in", {"email": "otto@shop.example", "password": "quite long enough"})
    assert answer.status_code == 302
    assert site.accounts.user("otto@shop.example").role == "viewer"
    assert "quite long" not in str(site.accounts.changes())


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": "a b@shop.example"}, "email"),
        ({"email": "x" * 250 + "@shop.example"}, "email"),
        ({"email": "admin@shop.example"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "otto@shop.example"}, "password"),
        ({"role": "emperor"}, "role"),
    ],
)
def test_a_person_who_does_not_fit_is_refused_beside_the_field(site, admin, wrong, field):
    sent = {"email": "otto@shop.example", "role": "viewer", "password": "quite long enough"}
    answer = admin.post("/settings/people", sent | wrong)
    assert answer.status_code == 422
    label = {"email": "E-mail address", "password": "First password", "role": "Role"}[field]
    assert 'class="error"' in answer.text.split(label)[-1]
    assert len(site.accounts.users()) == 1


def test_faults_of_a_person_are_told_at_once(admin):
    sent = {"email": "Admin@shop.example", "role": "emperor", "password": "short"}
    answer = admin.post("/settings/people", sent)
    assert answer.text.count('class="error"') == 3
    assert "there is an account with this address already" in answer.text


def test_an_admin_changes_roles_and_removes_people_but_not_themselves(site, admin, viewer):
    other = site.accounts.user(viewer.email)
    own = site.accounts.user(admin.email)
    admin.post(f"/settings/people/{other.id}/role", {"role": "manager"})
    assert site.accounts.user(viewer.email).role == "manager"
    assert admin.post(f"/settings/people/{other.id}/role", {"role": "x"}).status_code == 400
    assert "Remove viewer@shop.example?" in admin.get(f"/settings/people/{other.id}/remove").text
    admin.post(f"/settings/people/{other.id}/remove")
    with pytest.raises(NotFound):
        site.accounts.user(viewer.email)
    for address in (f"/settings/people/{own.id}/role", f"/settings/people/{own.id}/remove"):
        refused = admin.post(address, {"role": "viewer"})
        assert refused.status_code == 409
        assert "ask another admin" in refused.text
    assert site.accounts.user(admin.email).role == "admin"


def test_changing_the_password_keeps_this_session_and_ends_the_others(site, viewer, password):
    elsewhere = site.visitor()
    elsewhere.post("/sign-in", {"email": viewer.email, "password": password})
    assert elsewhere.get("/").status_code == 200
    new = "a new one, quite long"
    sent = {"current": password, "new": new, "again": new}
    assert viewer.post("/settings", sent).location == "/settings"
    assert viewer.get("/").status_code == 200
    assert elsewhere.get("/").status_code == 302
    signed = site.visitor().post("/sign-in", {"email": viewer.email, "password": new})
    assert signed.status_code == 302


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"current": "wrong"}, "current"),
        ({"new": "short", "again": "short"}, "new"),
        ({"again": "something else"}, "again"),
    ],
)
def test_a_password_change_that_does_not_fit_changes_nothing(site, viewer, password, wrong, field):
    before = site.accounts.user(viewer.email)
    sent = {"current": password, "new": "quite long enough", "again": "quite long enough"}
    answer = viewer.post("/settings", sent | wrong)
    assert answer.status_code == 422
    assert re.findall(r'id="(\w+)-error"', answer.text) == [field]
    assert site.accounts.user(viewer.email) == before


def test_password_guesses_in_an_open_session_are_slowed_down(viewer):
    sent = {"current": "wrong", "new": "quite long enough", "again": "quite long enough"}
    statuses = [viewer.post("/settings", sent).status_code for _ in range(11)]
    assert statuses == [422] * 10 + [429]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_is_kept_without_script(viewer, theme):
    answer = viewer.post("/theme", {"theme": theme, "next": "/decisions"})
    assert answer.location == "/decisions"
    assert f'data-theme="{theme}"' in viewer.get("/decisions").text
    viewer.post("/theme", {"theme": "", "next": "https://evil.example"})
    assert "data-theme" not in viewer.get("/decisions").text

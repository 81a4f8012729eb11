"""Page of tracked links: hosts, and keys that are made, rotated and revoked."""

import re

import pytest

from bandits.tracking_tokens import TrackingKey
from webapp.links.link_views import PUBLIC_URL

PAGE = "/settings/tracked-links"
KEYS = f"{PAGE}/keys"


@pytest.fixture
def links(site):
    return site.store.tracked_links


def make(admin, password, name="mailer") -> tuple[TrackingKey, str]:
    """Make a key by the page; return it and the page."""
    answer = admin.post(KEYS, {"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    return TrackingKey.parse(re.search(r'id="token">([^<]+)<', answer.text)[1]), answer.text


def test_page_tells_the_public_address_or_how_to_set_it(site, admin, monkeypatch):
    assert "BANDITS_PUBLIC_URL" in admin.get(PAGE).text
    monkeypatch.setitem(site.app.config, PUBLIC_URL, "https://links.shop.example")
    page = admin.get(PAGE).text
    assert "https://links.shop.example" in page
    assert "BANDITS_PUBLIC_URL" not in page
    assert "localhost" not in page


def test_key_is_shown_once(admin, links, password):
    key, shown = make(admin, password)
    assert "shown this once" in shown
    page = admin.get(PAGE).text
    assert key.secret not in page
    assert key.id in page
    assert "stored unencrypted" in page
    assert links.all()[0].created_by == admin.email


@pytest.mark.parametrize(
    ("changed", "place"), [({"name": ""}, "name-error"), ({"password": "x"}, "password-error")]
)
def test_fault_of_a_new_key_stands_beside_its_field(admin, links, password, changed, place):
    answer = admin.post(KEYS, {"name": "mailer", "password": password} | changed)
    assert answer.status_code == 422
    assert f'id="{place}"' in answer.text
    assert links.all() == []


def test_hosts_are_saved_and_typed_ones_are_kept_on_a_fault(admin, links):
    saved = admin.post(f"{PAGE}/hosts", {"hosts": "Shop.example\r\n*.shop.example\r\n"})
    assert saved.status_code == 302
    assert links.hosts() == ["*.shop.example", "shop.example"]
    answer = admin.post(f"{PAGE}/hosts", {"hosts": "shop.example\r\nhttps://x"})
    assert answer.status_code == 422
    assert "“https://x” must be a host" in answer.text
    assert "https://x</textarea>" in answer.text
    assert links.hosts() == ["*.shop.example", "shop.example"]
    assert admin.post(f"{PAGE}/hosts", {"hosts": ""}).status_code == 302
    assert links.hosts() == []


def test_key_is_rotated_after_a_confirmation(admin, links, password):
    key, _ = make(admin, password)
    path = f"{KEYS}/{links.all()[0].id}/rotate"
    assert "go on to work" in admin.get(path).text
    assert admin.post(path, {"password": "x"}).status_code == 422
    shown = admin.post(path, {"password": password}).text
    new = TrackingKey.parse(re.search(r'id="token">([^<]+)<', shown)[1])
    assert new.id != key.id
    assert links.rules().keys[key.id].counts
    again = admin.post(path, {"password": password}, follow_redirects=True)
    assert "replaced or revoked already" in again.text
    assert "Replaced" in admin.get(PAGE).text


def test_key_is_revoked_after_a_confirmation(admin, links, password):
    key, _ = make(admin, password)
    path = f"{KEYS}/{links.all()[0].id}/revoke"
    assert "cannot be undone" in admin.get(path).text
    done = admin.post(path, follow_redirects=True)
    assert "lead on and count no more" in done.text
    assert not links.rules().keys[key.id].counts


def test_key_that_is_not_there_is_not_found(admin):
    for action in ("rotate", "revoke"):
        assert admin.get(f"{KEYS}/999/{action}").status_code == 404


def test_page_is_for_admins(manager, viewer, password):
    for visitor in (manager, viewer):
        assert visitor.get(PAGE).status_code == 403
        assert visitor.post(KEYS, {"name": "x", "password": password}).status_code == 403
        assert visitor.post(f"{PAGE}/hosts", {"hosts": "x.example"}).status_code == 403

"""The campaign page is short, also with twelve versions, and prints on one sheet."""

import re
from contextlib import closing
from threading import Thread

import pytest
from werkzeug.serving import make_server

from bandits.engine import Engine
from storage import open_store, upgrade
from tests.campaigns import Clock
from tests.patience import LIMIT_MS, join
from tests.screenshots import make_campaigns, sign_in
from webapp.app import create_app
from webapp.services import Services
from webapp.settings import Settings

CAMPAIGNS = ["many events", "ship"]  # of twelve versions, and of three
MOST_PIXELS = 2000


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory):
    """A server of campaigns in this process: its port, and their keys."""
    url = f"sqlite:///{tmp_path_factory.mktemp('sizes')}/campaigns.db"
    upgrade(url)
    with closing(open_store(url)) as store:
        keys = make_campaigns(store, CAMPAIGNS)
        services = Services(
            Engine(store, Clock(), lambda n: b"s" * n),
            store.accounts,
            store.drafts,
            store.connections,
            store.tracked_links,
            store.spool,
            store.outgoing,
        )
        app = create_app(services, Settings(secret_key="made up for a test, long enough"))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.port, keys
        server.shutdown()
        join(thread)


def drawn(page, key):
    """Open a campaign's page and wait for its chart."""
    page.goto(f"/experiments/{key}")
    page.locator("[data-chart=shares] .main-svg").first.wait_for(timeout=LIMIT_MS)
    return page


def test_campaign_page_is_short_and_fits_a_phone(browser, campaigns):
    port, keys = campaigns
    wide, narrow = (sign_in(browser, port, width, "light") for width in (1440, 390))
    for key in keys:
        height = drawn(wide, key).evaluate("document.documentElement.scrollHeight")
        assert height <= MOST_PIXELS, (key, height)
        assert drawn(narrow, key).evaluate("document.documentElement.scrollWidth") <= 390


def test_folded_panels_show_what_they_have(browser, campaigns):
    port, _ = campaigns
    page = drawn(sign_in(browser, port, 1440, "light"), "many-events")
    heading = page.get_by_role("heading", name="Score per email over time")
    heading.click()
    page.locator("[data-chart=rewards] .main-svg").first.wait_for(timeout=LIMIT_MS)
    page.get_by_role("heading", name="Score per email by version").click()
    table = page.locator("[data-live=versions] table")
    assert table.locator("tbody tr").count() == 5  # three, the control, and the control group
    page.get_by_text("Show 8 other versions").first.click()
    assert page.locator("[data-live=others] tbody tr").count() == 8


def test_campaign_prints_on_one_sheet(browser, campaigns):
    port, keys = campaigns
    page = sign_in(browser, port, 1440, "light")
    for key in keys:
        pdf = drawn(page, key).pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1, key

"""Pictures of the campaign page and the stop page in every state, for people to look at.

    .venv/bin/python tests/screenshots.py FOLDER [STATE…]

Wide and narrow, light and dark. Nothing is asserted; the pictures are not kept in the repository.
"""

import sys
from contextlib import closing
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import make_server

sys.path.insert(0, str(Path(__file__).parents[1]))

from bandits.engine import Engine
from storage import open_store, upgrade
from tests.campaigns import STATES, CampaignMaker, Clock
from webapp.app import create_app
from webapp.jobs.uploads import Uploads
from webapp.passwords import hash_password
from webapp.services import Services
from webapp.settings import Settings

EMAIL, PASSWORD = "anna@shop.example", "a long enough password"
WIDTHS = {"wide": 1440, "narrow": 390}
SCHEMES = ("light", "dark")


def main(folder: Path, states: list[str]) -> None:
    """Make the campaigns, serve them, and take the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        url = f"sqlite:///{temporary}/campaigns.db"
        upgrade(url)
        with closing(open_store(url)) as store:
            clock = Clock()
            engine = Engine(store, clock, lambda n: b"s" * n)
            store.accounts.add_user(EMAIL, hash_password(PASSWORD), "admin", at=clock(), by="test")
            maker = CampaignMaker(engine, clock)
            keys = [STATES[state](maker) for state in states or STATES]
            services = Services(
                engine,
                store.accounts,
                store.drafts,
                store.connections,
                store.tracked_links,
                store.spool,
            )
            app = create_app(services, Settings(secret_key="made up for pictures, long enough"))
            app.extensions["bandits.uploads"] = Uploads(Path(temporary) / "files")
            server = make_server("127.0.0.1", 0, app, threaded=True)
            Thread(target=server.serve_forever, daemon=True).start()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--headless", "--no-sandbox"]
                )
                for width, scheme in product(WIDTHS, SCHEMES):
                    shoot(browser, server.port, folder, keys, f"{width}-{scheme}")
            server.shutdown()


def shoot(browser: Browser, port: int, folder: Path, keys: list[str], look: str) -> None:
    """Take the pictures of one look: "wide-light"."""
    width, _, scheme = look.partition("-")
    context = browser.new_context(
        base_url=f"http://127.0.0.1:{port}",
        viewport={"width": WIDTHS[width], "height": 900},
        color_scheme=scheme,
    )
    page = context.new_page()
    page.goto("/sign-in")
    page.fill("#email", EMAIL)
    page.fill("#password", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")
    page.screenshot(path=folder / f"list-{look}.png", full_page=True)
    for key in keys:
        for name, path in (("page", ""), ("stop", "/stop")):
            answer = page.goto(f"/experiments/{key}{path}", wait_until="networkidle")
            if answer is not None and answer.ok:
                target = folder / f"{key}-{name}-{look}.png"
                page.screenshot(path=target, full_page=True)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

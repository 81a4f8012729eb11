"""Pictures of the pages of a campaign in every state, for people to look at.

    .venv/bin/python tests/screenshots.py FOLDER [STATE…]

Wide and narrow, light and dark, and as print. Long pages are cut into strips, which lie side by
side in sheets that can be read whole: `FOLDER/narrow-light-03.png`. Nothing is asserted, and the
pictures are not kept in the repository.
"""

import logging
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from struct import unpack
from tempfile import TemporaryDirectory
from threading import Thread
from typing import NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright
from werkzeug.serving import make_server

sys.path.insert(0, str(Path(__file__).parents[1]))

from bandits.engine import Engine
from storage import SqlStore, open_store, upgrade
from tests.campaigns import STATES, CampaignMaker, Clock
from webapp.app import create_app
from webapp.jobs.uploads import Uploads
from webapp.passwords import hash_password
from webapp.services import Services
from webapp.settings import Settings

EMAIL, PASSWORD = "anna@shop.example", "a long enough password"
WIDTHS = {"wide": 1440, "narrow": 390}
SCHEMES = ("light", "dark")
PAPER_WIDTH = 703  # pixels of an A4 sheet within its margins
SHEET_WIDTH, SHEET_HEIGHT = 1600, 1600

# Pages of every campaign, and those of one that has something on them.
PAGES = {"page": "", "stop": "/stop"}
FURTHER_PAGES = {
    "confirm": ("ship", "/experiments/{}/stop/1"),
    "list": ("", "/"),
    "segments": ("personal", "/experiments/{}/segments"),
    "all-segments": ("", "/segments"),
    "decisions": ("personal", "/experiments/{}/decisions"),
    "find-decision": ("", "/decisions"),
    "try": ("ship", "/experiments/{}/try"),
    "history": ("shipped", "/experiments/{}/history"),
    "setup": ("many-events", "/experiments/{}/setup"),
}


class Picture(NamedTuple):
    """A page as it looked."""

    title: str
    png: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, from the header."""
        width, height = unpack(">II", self.png[16:24])
        return width, height


class Strip(NamedTuple):
    """A part of a picture that is as wide as it, and no higher than a sheet."""

    picture: Picture
    top: int
    height: int
    title: str


def main(folder: Path, states: list[str]) -> None:
    """Make the campaigns, serve them, and take the pictures."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        url = f"sqlite:///{temporary}/campaigns.db"
        upgrade(url)
        with closing(open_store(url)) as store:
            keys = make_campaigns(store, states or list(STATES))
            services = Services(
                Engine(store, Clock(), lambda n: b"s" * n),
                store.accounts,
                store.drafts,
                store.connections,
                store.tracked_links,
                store.spool,
                store.outgoing,
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
                    pictures = list(take_pictures(browser, server.port, keys, width, scheme))
                    lay_out(browser, folder, f"{width}-{scheme}", pictures)
                lay_out(browser, folder, "print", list(print_pages(browser, server.port, keys)))
            server.shutdown()


def make_campaigns(store: SqlStore, states: list[str]) -> list[str]:
    """Make a campaign in each state, and somebody who may see all of them; return their keys."""
    clock = Clock()
    engine = Engine(store, clock, lambda n: b"s" * n)
    store.accounts.add_user(EMAIL, hash_password(PASSWORD), "admin", at=clock(), by="test")
    maker = CampaignMaker(engine, clock)
    return [STATES[state](maker) for state in states]


def take_pictures(
    browser: Browser, port: int, keys: list[str], width: str, scheme: str
) -> Iterator[Picture]:
    """Take the pictures of one look: each campaign's pages, then the others."""
    page = sign_in(browser, port, WIDTHS[width], scheme)
    for key, (name, path) in product(keys, PAGES.items()):
        yield from _picture(page, f"{key} {name}", f"/experiments/{key}{path}")
    for name, (key, path) in FURTHER_PAGES.items():
        if not key or key in keys:
            yield from _picture(page, name, path.format(key))
    if "personal" in keys:
        page.goto("/experiments/personal/decisions")
        receipt = page.locator("tbody a").first.get_attribute("href")
        yield from _picture(page, "receipt", str(receipt))
    page.context.close()


def print_pages(browser: Browser, port: int, keys: list[str]) -> Iterator[Picture]:
    """Take pictures of the campaigns' pages as they are printed."""
    page = sign_in(browser, port, PAPER_WIDTH, "light")
    page.emulate_media(media="print")
    for key in keys:
        yield from _picture(page, f"{key} print", f"/experiments/{key}")
    page.context.close()


def sign_in(browser: Browser, port: int, width: int, scheme: str) -> Page:
    """Open a browser's window, signed in."""
    context = browser.new_context(
        base_url=f"http://127.0.0.1:{port}",
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto("/sign-in")
    page.fill("#email", EMAIL)
    page.fill("#password", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")
    return page


def _picture(page: Page, title: str, path: str) -> Iterator[Picture]:
    """Take the picture of a page; none of one that there is not, such as a draft's stop page."""
    answer = page.goto(path, wait_until="networkidle")
    if answer is not None and answer.ok:
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        yield Picture(
            f"{title}{' (WIDER THAN THE SCREEN)' if wide else ''}", page.screenshot(full_page=True)
        )


def lay_out(browser: Browser, folder: Path, look: str, pictures: list[Picture]) -> None:
    """Write sheets of the strips of pictures that are equally wide."""
    page = browser.new_page(viewport={"width": SHEET_WIDTH, "height": 400})
    for number, strips in enumerate(_sheets(pictures), start=1):
        columns = "".join(_column(strip) for strip in strips)
        page.set_content(
            "<!doctype html><body style='margin:0;display:flex;gap:8px;background:#888;"
            f"font:12px sans-serif'>{columns}</body>"
        )
        page.screenshot(path=folder / f"{look}-{number:02}.png", full_page=True)
    page.close()


def _sheets(pictures: Iterable[Picture]) -> Iterator[list[Strip]]:
    """Cut pictures into strips, and put as many beside each other as a sheet is wide."""
    strips = [
        Strip(picture, top, min(SHEET_HEIGHT, height - top), f"{picture.title}, from {top}")
        for picture in pictures
        for height in [picture.size[1]]
        for top in range(0, height, SHEET_HEIGHT)
    ]
    beside = max(1, SHEET_WIDTH // max(picture.size[0] for picture in pictures))
    for first in range(0, len(strips), beside):
        yield strips[first : first + beside]


def _column(strip: Strip) -> str:
    width, _ = strip.picture.size
    source = b64encode(strip.picture.png).decode()
    return (
        f"<div><b>{strip.title}</b><div style='width:{width}px;height:{strip.height}px;"
        f"background:url(data:image/png;base64,{source}) 0 -{strip.top}px'></div></div>"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Pages for what went wrong."""

import logging
import re
from pathlib import Path

import pytest
from sqlalchemy import text

from bandits.errors import Unavailable
from webapp.pages.layout import PLOTLY_VERSION


@pytest.mark.parametrize("address", ["/nothing", "/experiments/none", "/experiments/none/live"])
def test_unknown_address_is_a_page_that_helps(viewer, address):
    answer = viewer.get(address)
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
    assert "To the campaigns" in answer.text
    assert "Sign out" in answer.text, "still signed in"


def test_an_unknown_experiment_is_named(viewer):
    assert "there is no experiment &#39;none&#39;" in viewer.get("/experiments/none").text


def test_a_stranger_gets_the_page_without_the_navigation(site):
    answer = site.visitor().get("/nothing")
    assert answer.status_code == 404
    assert "Campaigns</a>" not in answer.text


def test_the_api_goes_on_answering_with_problems(viewer):
    answer = viewer.get("/api/v1/nothing")
    assert answer.status_code == 404
    assert answer.mimetype == "application/problem+json"


def test_a_method_that_a_page_does_not_take_is_told(viewer):
    assert viewer.client.delete("/settings").status_code == 405


def test_form_that_is_too_large_is_told(manager):
    answer = manager.post("/new-experiment", {"name": "x" * 9_000_000})
    assert answer.status_code == 413
    assert "too much at once" in answer.text


def test_a_form_of_a_few_megabytes_is_taken(manager):
    """Werkzeug's own limit is half a megabyte: two HTML blocks."""
    answer = manager.post("/new-experiment", {"name": "x" * 2_000_000})
    assert answer.status_code == 422


def test_a_busy_database_asks_to_come_back(site, viewer, monkeypatch, caplog):
    def busy():
        raise Unavailable("the database is locked", 3)

    monkeypatch.setattr(site.engine.store.experiments, "records", busy)
    with caplog.at_level(logging.ERROR):
        answer = viewer.get("/", headers={"X-Request-ID": "req-41"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "3"
    assert "The database does not answer" in answer.text
    assert "Nothing was changed" in answer.text
    assert "req-41" in answer.text
    assert "the database is locked" in caplog.text, "the number leads to the reason"
    assert "locked" not in answer.text


def words(html: str) -> str:
    """Return what a page says."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html))


@pytest.mark.parametrize(
    "missing", ["ALTER TABLE experiments DROP COLUMN early", "DROP TABLE sessions"]
)
def test_a_database_of_an_older_version_asks_for_its_upgrade(site, viewer, missing):
    with site.engine.store.database.writing() as transaction:
        transaction.execute(text(missing))
    answer = viewer.get("/")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    page_text = words(answer.text)
    assert "The database has to be upgraded" in page_text
    assert "bandits db upgrade" in page_text
    assert "bandits serve" in page_text
    for noise in ("busy", "no such", "early", "sessions", "column"):
        assert noise not in page_text.lower()


def test_a_database_whose_file_is_gone_is_told_as_that(site, viewer, caplog):
    path = Path(site.engine.store.database.engine.url.database)
    site.engine.store.close()  # connections opened from here on look for the file
    moved = path.rename(path.with_suffix(".moved"))
    try:
        with caplog.at_level(logging.ERROR):
            answer = viewer.get("/")
    finally:
        moved.rename(path)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    page_text = words(answer.text)
    assert "The database is not there" in page_text
    assert "bandits serve" in page_text
    assert "busy" not in page_text
    assert "upgrade" not in page_text
    assert str(path) not in answer.text
    assert str(path) in caplog.text, "an administrator finds where it was looked for"
    assert viewer.get("/").status_code == 200


def test_an_unforeseen_failure_is_a_page_with_the_number_in_the_log(
    site, viewer, monkeypatch, caplog
):
    def broken():
        raise RuntimeError("the cat sat on it")

    monkeypatch.setattr(site.engine.store.experiments, "records", broken)
    with caplog.at_level(logging.ERROR):
        answer = viewer.get("/", headers={"X-Request-ID": "req-42"})
    assert answer.status_code == 500
    assert "req-42" in answer.text
    assert "the cat" not in answer.text
    assert "the cat sat on it" in caplog.text


def test_a_failure_while_something_is_saved_does_not_claim_that_nothing_was(
    site, manager, monkeypatch
):
    def broken(*_, **__):
        raise RuntimeError("cut off")

    monkeypatch.setattr(site.engine.store.experiments, "record", broken)
    read = manager.get("/experiments/spring")
    assert read.status_code == 500
    assert '<a class="button" href="/experiments/spring">Try again</a>' in read.text
    assert "may have been saved" not in read.text
    wrote = manager.post("/experiments/spring/pause")
    assert wrote.status_code == 500
    assert "may have been saved or not" in wrote.text
    assert "Try again" not in wrote.text


@pytest.mark.parametrize(("lost", "status"), [("sessions", 503), ("users", 503)])
def test_page_without_a_readable_session_says_so(site, viewer, lost, status):
    with site.engine.store.database.writing() as transaction:
        transaction.connection.exec_driver_sql(f"ALTER TABLE {lost} RENAME TO elsewhere")
    answer = viewer.get("/", headers={"X-Request-ID": "req-43"})
    assert answer.status_code == status
    assert "The database has to be upgraded" in answer.text
    assert "req-43" in answer.text
    assert "Sign out" not in answer.text, "nobody knows who is signed in"


def test_plotly_comes_from_its_wheel_compressed_and_kept_for_ever(site):
    visitor = site.visitor()
    address = f"/assets/plotly-{PLOTLY_VERSION}.js"
    plain = visitor.get(address)
    packed = visitor.get(address, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.data) < len(plain.data) / 2
    assert b"plotly.js" in plain.data[:200]
    assert "immutable" in plain.headers["Cache-Control"]
    assert visitor.get("/assets/plotly-0.js").status_code == 404

"""Hanging the pages into an application."""

from flask import Flask

from webapp.pages import access, assets, authors, chrome, filters, problems, security
from webapp.pages.administration import audit, keys, people, sessions, signing, throttle
from webapp.pages.blueprint import pages
from webapp.pages.campaign import (
    campaigns,
    deciding,
    downloads,
    lifecycle,
    receipts,
    results,
    segments,
    setup,
    stopping,
    trying,
    uploads,
)
from webapp.pages.form import drafting, editing, exporting, forecasts, previews
from webapp.pages.gate import gate
from webapp.settings import Settings

# Importing them hung their views into the blueprint.
VIEWS = (
    assets,
    audit,
    authors,
    campaigns,
    deciding,
    downloads,
    drafting,
    editing,
    exporting,
    keys,
    lifecycle,
    people,
    previews,
    receipts,
    results,
    segments,
    sessions,
    setup,
    signing,
    stopping,
    uploads,
    trying,
)

pages.before_request(gate)


def init(app: Flask, settings: Settings) -> None:
    """Give `app` what the pages need, and add them."""
    for part in (access, throttle, security, filters, chrome, problems, forecasts):
        part.init(app)
    uploads.init(app, settings)
    # Werkzeug's own limit for forms is half a megabyte; an HTML block or two are more.
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_CONTENT_LENGTH"]
    app.register_blueprint(pages)

"""Hanging the pages into an application."""

from flask import Flask

from webapp.pages import (
    access,
    assets,
    campaigns,
    chrome,
    editing,
    filters,
    keys,
    lifecycle,
    people,
    previews,
    problems,
    receipts,
    results,
    security,
    signing,
    throttle,
)
from webapp.pages.blueprint import pages

# Importing them hung their views into the blueprint.
VIEWS = (assets, campaigns, editing, keys, lifecycle, people, previews, receipts, results, signing)


def init(app: Flask) -> None:
    """Give `app` what the pages need, and add them."""
    for part in (access, throttle, security, filters, chrome, problems):
        part.init(app)
    # Werkzeug's own limit for forms is half a megabyte; an HTML block or two are more.
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_CONTENT_LENGTH"]
    app.register_blueprint(pages)

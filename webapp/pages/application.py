"""Hanging the pages into an application."""

from flask import Flask

from webapp.pages import access, assets, error_pages, formatting, headers, layout
from webapp.pages.admin import api_keys, audit_log, sessions, sign_in, throttle, users
from webapp.pages.blueprint import pages
from webapp.pages.experiment import (
    decisions,
    downloads,
    experiment_list,
    history,
    lifecycle,
    preview,
    results,
    segments,
    stop,
    uploads,
)
from webapp.pages.form import forecasts, one_page_views, plan_csv, previews, wizard_views
from webapp.pages.gate import gate
from webapp.settings import Settings

# Importing them hung their views into the blueprint.
VIEWS = (
    assets,
    audit_log,
    formatting,
    experiment_list,
    decisions,
    downloads,
    wizard_views,
    one_page_views,
    plan_csv,
    api_keys,
    lifecycle,
    users,
    previews,
    decisions,
    results,
    segments,
    sessions,
    history,
    sign_in,
    stop,
    uploads,
    preview,
)

pages.before_request(gate)


def init(app: Flask, settings: Settings) -> None:
    """Give `app` what the pages need, and add them."""
    for part in (access, throttle, headers, formatting, layout, error_pages, forecasts):
        part.init(app)
    uploads.init(app, settings)
    # Werkzeug's own limit for forms is half a megabyte; an HTML block or two are more.
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_CONTENT_LENGTH"]
    app.register_blueprint(pages)

"""The pages that people see: server-rendered, working without script and better with it.

``init(app)`` adds the blueprint `pages` and what it needs of an application: sessions, protection
against forged forms, headers, filters and pages for errors.
"""

from flask import Blueprint, Flask

from webapp.settings import Settings

pages = Blueprint("pages", __name__)


def init(app: Flask, settings: Settings) -> None:
    """Add the pages to `app`, and what they need of it."""
    # Here, since they import the blueprint. Those that nothing below names add views to it.
    from webapp.pages import (  # noqa: PLC0415
        access,
        error_pages,
        formatting,
        layout,
    )
    from webapp.pages.admin import (  # noqa: F401, PLC0415
        alerts,
        api_keys,
        audit_log,
        connections,
        email,
        forgotten_password,
        invitations,
        link_forms,
        provider,
        provider_sign_in,
        second_factor,
        sessions,
        sign_in,
        throttle,
        tracked_links,
        users,
        workspace_name,
    )
    from webapp.pages.experiment import (  # noqa: F401, PLC0415
        decisions,
        downloads,
        experiment_list,
        guardrail_undo,
        history,
        lifecycle,
        preview,
        results,
        segments,
        set_aside,
        stop,
        upload_folder,
        uploads,
        voids,
        what_if,
    )
    from webapp.pages.form import (  # noqa: F401, PLC0415
        forecasts,
        one_page_views,
        plan_csv,
        previews,
        wizard_views,
    )

    access.init(app, sign_in.ask_to_sign_in)
    for module in (throttle, formatting, layout, error_pages, forecasts):
        module.init(app)
    what_if.init(app)
    upload_folder.init(app, settings)
    provider.init(app, settings)
    email.init(app, settings)
    forgotten_password.init(app)
    # Werkzeug's own limit for forms is half a megabyte; an HTML block or two are more.
    app.config["MAX_FORM_MEMORY_SIZE"] = app.config["MAX_CONTENT_LENGTH"]
    app.register_blueprint(pages)

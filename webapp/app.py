"""The application: plain WSGI, made by a factory."""

from collections.abc import Callable
from typing import Any

from flask import Flask

from webapp import pages, tracing
from webapp.api import express, routes
from webapp.services import Services
from webapp.settings import Settings


class Application(Flask):
    """Flask, which here need not look at every function of every request for a coroutine."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: no view or hook of ours is asynchronous."""
        return func


def create_app(services: Services, settings: Settings) -> Flask:
    """Make the application: the API below ``/api/v1``, the pages at ``/``, and what operators read.

    Args:
        services: what the views work with; `webapp.services.services` hands it to them.
        settings: what this server was told; ``app.config`` carries what Flask itself needs.
    """
    app = Application(__name__)
    app.config["SECRET_KEY"] = settings.secret_key
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_UPLOAD_BYTES"] = settings.max_upload_bytes
    app.config["SESSION_COOKIE_SECURE"] = settings.secure_cookies
    services.attach(app.extensions)
    tracing.init(app, settings)
    routes.init(app)
    express.init(app, routes.PREFIX)
    pages.init(app, settings)
    return app

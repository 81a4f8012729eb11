"""Application of the server: plain WSGI, made by a factory."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from werkzeug.exceptions import RequestEntityTooLarge

from webapp import pages, request_context
from webapp.api import routes
from webapp.links import link_views
from webapp.listmonk import messenger
from webapp.middleware import SecurityHeaders, StallGuard
from webapp.services import Services
from webapp.settings import Settings
from webapp.trusted_proxies import TrustedProxies, parse_networks
from webapp.webhooks import receiver


class WholeRequest(Request):
    """Request whose body is read whole or refused: Werkzeug cuts a body of no declared length."""

    def get_data(self, *args: Any, **kwargs: Any) -> Any:
        """Return the body.

        Raises:
            RequestEntityTooLarge: it is longer than the server takes.
        """
        data = super().get_data(*args, **kwargs)
        if len(data) == self.max_content_length and self.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge
        return data


class Application(Flask):
    """Flask without its look at every function of every request for a coroutine."""

    request_class = WholeRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: no view or hook of the application is asynchronous."""
        return func


def create_app(services: Services, settings: Settings) -> Flask:
    """Make the application: API, webhooks, messengers, links, pages at ``/``, and health.

    Args:
        services: for the handlers of the API and, by `webapp.services.services`, for the pages.
        settings: of this server; ``app.config`` holds those that Flask reads.
    """
    app = Application(__name__)
    app.config["SECRET_KEY"] = settings.secret_key
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_UPLOAD_BYTES"] = settings.max_upload_bytes
    app.config["SESSION_COOKIE_SECURE"] = settings.secure_cookies
    app.config["SESSION_COOKIE_PATH"] = settings.url_prefix or "/"
    app.config["SESSION_SECONDS"] = 3600 * settings.session_hours
    services.rates.rows_per_minute = settings.rows_per_minute
    services.attach(app)
    request_context.init(app, settings)
    link_views.init(app, settings)
    routes.init(app, settings.url_prefix)
    receiver.init(app, settings)
    messenger.init(app, settings)
    pages.init(app, settings)
    app.wsgi_app = SecurityHeaders(app.wsgi_app)  # type: ignore[method-assign]  # as its manual does
    app.wsgi_app = StallGuard(app.wsgi_app, services.progress, settings.wait_seconds)  # type: ignore[method-assign]  # as its manual does
    networks = parse_networks(settings.trusted_proxies)
    if networks or settings.url_prefix:
        app.wsgi_app = TrustedProxies(app.wsgi_app, networks, settings.url_prefix)  # type: ignore[method-assign]  # as its manual does
    return app

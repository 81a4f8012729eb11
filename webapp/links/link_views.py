"""Views of tracked links: the page to unsubscribe, with a button for people.

Mail programs unsubscribe by one click (RFC 8058), at the same address. It needs no cookie, no
script and no sign-in: the link in the email is the proof, and holds for that email alone. Only a
POST unsubscribes, since scanners follow every link.
"""

from flask import Blueprint, Flask, Response, current_app, render_template, request

from bandits.client.tracking import ONE_CLICK, UNSUBSCRIBE_PATH
from bandits.errors import Unavailable
from bandits.tracking_tokens import BadToken, TokenKind
from webapp.links.explanation_views import explanations
from webapp.links.key_ring import KeyRing
from webapp.links.link_path import BROKEN_LINK, BUSY, TrackedLinkPath
from webapp.links.link_reader import LinkReader
from webapp.services import services_of
from webapp.settings import Settings

PUBLIC_URL = "bandits.public_url"  # under this name the config of an application has it
_READER = "bandits.link_reader"

tracked_links = Blueprint("tracked_links", __name__)


def link_reader() -> LinkReader:
    """Return the running application's reader of tracked links."""
    own: LinkReader = current_app.extensions[_READER]
    return own


@tracked_links.route(f"{UNSUBSCRIBE_PATH}<token>", methods=["GET", "POST"])
def unsubscribe(token: str) -> Response:
    """Ask whether to unsubscribe, or unsubscribe."""
    signed, content = link_reader().prove(token, TokenKind.UNSUBSCRIBE)
    if request.method == "POST":
        link_reader().record(signed, content, request.environ)
    return Response(
        render_template(
            "unsubscribe.html", unsubscribed=request.method == "POST", field=ONE_CLICK.split("=")
        )
    )


@tracked_links.errorhandler(BadToken)
def _not_found(_error: BadToken) -> Response:
    return Response(BROKEN_LINK, 404, mimetype="text/plain")


@tracked_links.errorhandler(Unavailable)
def _unavailable(error: Unavailable) -> Response:
    current_app.logger.error("cannot unsubscribe anybody: %s", error.log_text)
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return Response(BUSY, 503, headers, mimetype="text/plain")


def init(app: Flask, settings: Settings) -> None:
    """Add tracked links to `app`."""
    app.config[PUBLIC_URL] = settings.public_url
    own = services_of(app)
    ring = KeyRing(own.tracked_links.rules)
    reader = LinkReader(ring, own.spool, own.engine.clock)
    app.extensions[_READER] = reader
    app.register_blueprint(tracked_links)
    app.register_blueprint(explanations)
    app.wsgi_app = TrackedLinkPath(  # type: ignore[method-assign]  # as its manual does
        app.wsgi_app, reader, own.metrics, access_log=settings.access_log
    )

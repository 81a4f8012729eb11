"""Previews of HTML blocks, for frames without any rights."""

from flask import Response, abort, request
from flask.typing import ResponseReturnValue

from webapp.middleware import PREVIEW_POLICY
from webapp.pages import pages
from webapp.pages.access import needs
from webapp.services import services


@pages.post("/preview")
@needs("manager")
def typed_preview() -> ResponseReturnValue:
    """Show a block from the form, by the field that the button ``preview`` names."""
    return _framed(request.form.get(request.form.get("preview", ""), ""))


@pages.get("/experiments/<key:key>/preview/<int:slot>/<int:variant>")
@needs("viewer")
def variant_preview(key: str, slot: int, variant: int) -> ResponseReturnValue:
    """Show a stored block."""
    slots = services().engine.store.experiments.record(key).configuration.experiment.slots
    if slot >= len(slots) or variant >= len(slots[slot].variants):
        abort(404)
    return _framed(str(slots[slot].variants[variant].payload.get("html", "")))


def _framed(html: str) -> Response:
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = PREVIEW_POLICY
    return response

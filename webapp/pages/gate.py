"""The gate before every page: signed in? really from our form? allowed?"""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Response, abort, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from storage.accounts import Role
from webapp.pages.access import CSRF, person
from webapp.pages.admin.sign_in import ask_again

_SAFE = {"GET", "HEAD", "OPTIONS"}

V = TypeVar("V", bound=Callable[..., ResponseReturnValue])


def takes_files(view: V) -> V:
    """Say that a view takes files, which may be longer than other requests."""
    view.takes_files = True  # type: ignore[attr-defined]
    return view


def gate() -> ResponseReturnValue | None:
    """Ask before each request of a page: signed in? really from our form? allowed?"""
    view: Any = current_app.view_functions[str(request.endpoint)]
    role: Role | None = view.needs
    if role is not None and not current_user.is_authenticated:
        return _to_sign_in()
    if getattr(view, "takes_files", False):
        request.max_content_length = current_app.config["MAX_UPLOAD_BYTES"]
    if request.method not in _SAFE:
        current_app.extensions[CSRF].protect()
    if role is not None and not person().may(role):
        abort(403, role)
    return None


def _to_sign_in() -> ResponseReturnValue:
    if request.headers.get("X-Requested-With"):  # our script: it turns to the whole page
        return Response("sign in again", 401, content_type="text/plain")
    if request.method in _SAFE:
        return redirect(url_for("pages.sign_in", next=request.full_path.rstrip("?")))
    return ask_again()

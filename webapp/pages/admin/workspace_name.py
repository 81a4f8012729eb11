"""Page of the workspace: the name that pages and mails show."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from storage.outgoing.workspace import PRODUCT
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.services import services

_LONGEST = 40


@pages.get("/settings/workspace")
@needs("admin")
def workspace() -> ResponseReturnValue:
    """Show the name."""
    return _page(services().outgoing.workspace.name())


@pages.post("/settings/workspace")
@needs("admin")
def rename_workspace() -> ResponseReturnValue:
    """Change the name; without one, the product's is shown."""
    name = " ".join(request.form.get("name", "").split())
    if len(name) > _LONGEST or not name.isprintable():
        return _page(name, f"enter a name of at most {_LONGEST} characters"), 422
    at, by = services().engine.clock(), person().email
    services().outgoing.workspace.rename(name, at=at, by=by)
    flash("Saved.")
    return redirect(url_for("pages.workspace"))


def _page(name: str, error: str = "") -> str:
    return render_template(
        "admin/workspace.html", name=name, product=PRODUCT, error=error, tab="workspace"
    )

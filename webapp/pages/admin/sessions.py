"""Where one is signed in, and ending it from elsewhere."""

from flask import abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from webapp.pages.access import needs, person
from webapp.pages.blueprint import pages
from webapp.pages.formatting import plural
from webapp.services import services

# In this order, since each browser also claims to be those after it.
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome"} | {
    "CriOS": "Chrome",
    "FxiOS": "Firefox",
    "Safari": "Safari",
}
_SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows"} | {
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


class SignInPlace(Struct, frozen=True):
    """One browser that somebody is signed in with, as the page shows it."""

    id: int
    browser: str
    address: str
    created_at: float
    seen_at: float
    here: bool


def places() -> list[SignInPlace]:
    """List where the person who asks is signed in, the last used first."""
    told, own = services(), person()
    found = told.accounts.sessions.active(own.user.id, at=told.engine.clock())
    return [
        SignInPlace(
            s.id, browser(s.agent), s.address, s.created_at, s.seen_at, s.id == own.session.id
        )
        for s in found
    ]


def browser(agent: str) -> str:
    """Say which browser calls itself so: Firefox on Windows."""
    name = next((said for mark, said in _BROWSERS.items() if f"{mark}/" in agent), "")
    system = next((said for mark, said in _SYSTEMS.items() if mark in agent), "")
    if not name and not system:
        return "Unknown browser"
    return f"{name or 'Browser'} on {system}" if system else name


@pages.post("/settings/sessions/<int:session_id>/end")
@needs("viewer")
def end_session(session_id: int) -> ResponseReturnValue:
    """Sign out in one other place."""
    if all(place.here or place.id != session_id for place in places()):
        abort(404)
    services().accounts.sessions.end(session_id)
    flash("You are signed out there.")
    return redirect(url_for("pages.account"))


@pages.post("/settings/sessions/end-others")
@needs("viewer")
def end_other_sessions() -> ResponseReturnValue:
    """Sign out everywhere else."""
    told, own = services(), person()
    ended = told.accounts.sessions.end_others(own.session, at=told.engine.clock(), by=own.email)
    flash(f"You are signed out in {plural(ended, 'other place')}.")
    return redirect(url_for("pages.account"))

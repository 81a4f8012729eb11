"""Sessions of the person who is signed in: listed, and ended from another one."""

from flask import abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from webapp.pages import pages
from webapp.pages.access import needs, person
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
    """One browser with a session of this person, as the page shows it."""

    id: int
    browser: str
    address: str
    created_at: float
    seen_at: float
    here: bool


def sign_in_places() -> list[SignInPlace]:
    """List the sessions of the person who is signed in, the last used first."""
    own, now = person(), services().engine.clock()
    sessions = services().accounts.sessions.active(own.user.id, at=now)
    return [
        SignInPlace(
            s.id, browser_name(s.agent), s.address, s.created_at, s.seen_at, s.id == own.session.id
        )
        for s in sessions
    ]


def browser_name(agent: str) -> str:
    """Name the browser and system of a user-agent text: Firefox on Windows."""
    name = next((label for mark, label in _BROWSERS.items() if f"{mark}/" in agent), "")
    system = next((label for mark, label in _SYSTEMS.items() if mark in agent), "")
    if not name and not system:
        return "Unknown browser"
    return f"{name or 'Browser'} on {system}" if system else name


@pages.post("/settings/sessions/<int:session_id>/end")
@needs("viewer")
def end_session(session_id: int) -> ResponseReturnValue:
    """End one other session."""
    if all(place.here or place.id != session_id for place in sign_in_places()):
        abort(404)
    services().accounts.sessions.end(session_id)
    flash("You are signed out there.")
    return redirect(url_for("pages.account"))


@pages.post("/settings/sessions/end-others")
@needs("viewer")
def end_other_sessions() -> ResponseReturnValue:
    """End all other sessions."""
    own, now = person(), services().engine.clock()
    ended = services().accounts.sessions.end_others(own.session, at=now, by=own.email)
    flash(f"You are signed out in {plural(ended, 'other place')}.")
    return redirect(url_for("pages.account"))

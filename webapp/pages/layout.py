"""What every page has around its content: who is signed in, the theme, what they may do."""

from typing import Any

from flask import Flask, Response, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from bandits.registry import policies
from bandits.store.values import ExperimentRecord
from webapp.charts import ArmStyle
from webapp.pages import pages
from webapp.pages.access import allow_anybody, local_address
from webapp.pages.assets import PLOTLY_VERSION
from webapp.pages.experiment.labels import STATES, called, named, titled
from webapp.pages.experiment.lifecycle import steps_of
from webapp.pages.formatting import every, plural, say
from webapp.services import services

_THEMES = {"light", "dark"}
_COOKIE = "theme"
_YEAR = 31_536_000
_DAY = 86_400


@pages.post("/theme")
@allow_anybody
def set_theme() -> ResponseReturnValue:
    """Choose light, dark, or what the device says."""
    response: Response = redirect(local_address(request.form.get("next")))  # type: ignore[assignment]
    chosen = request.form.get("theme", "")
    if chosen in _THEMES:
        response.set_cookie(_COOKIE, chosen, max_age=_YEAR, httponly=True, samesite="Lax")
    else:
        response.delete_cookie(_COOKIE)
    return response


def init(app: Flask) -> None:
    """Offer to templates what they all use."""
    app.context_processor(_around)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        every=every,
        say=say,
        steps_of=steps_of,
        called=called,
        named=named,
        titled=titled,
        states=STATES,
        swatch=_swatch,
        hue=_hue,
        day_of=_day_of,
        method_of=_method_of,
    )


def _around() -> dict[str, Any]:
    chosen = request.cookies.get(_COOKIE, "")
    person = _signed_in()
    return {
        "person": person,
        "may_manage": person is not None and person.may("manager"),
        "theme": chosen if chosen in _THEMES else "",
        "here": request.full_path.rstrip("?"),
        "plotly_version": PLOTLY_VERSION,
    }


def _signed_in() -> Any:
    """Tell who is signed in: nobody where that cannot be read, or no page could say what broke."""
    try:
        return current_user if current_user.is_authenticated else None
    except Exception:  # noqa: BLE001 - the gate met it before, and it is told; this is around that
        return None


def _swatch(look: ArmStyle) -> str:
    """Name the classes that colour an arm's mark."""
    return f"swatch {_hue(look)} pattern-{look.pattern}"


def _hue(look: ArmStyle) -> str:
    """Name the class that sets an arm's colour."""
    return "grey" if look.hue is None else f"hue-{look.hue}"


def _day_of(record: ExperimentRecord) -> str:
    """Say which day of its life a started experiment is in, or how long it ran."""
    end = services().engine.clock() if record.stopped_at is None else record.stopped_at
    started_at = end if record.started_at is None else record.started_at
    days = 1 + int((end - started_at) // _DAY)
    return f"day {days}" if record.stopped_at is None else plural(days, "day")


def _method_of(record: ExperimentRecord) -> str:
    """Say what its learning method is called."""
    name = record.configuration.experiment.policy.name
    return policies()[name].label

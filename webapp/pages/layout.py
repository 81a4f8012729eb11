"""Layout of every page: the person who is signed in, the theme, and globals of templates."""

import gzip
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from flask import Flask, Response, abort, redirect, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from bandits.registry import policies
from bandits.store.values import ExperimentRecord
from storage.outgoing.workspace import PRODUCT
from webapp.charts import ArmStyle, figure_styles
from webapp.pages import pages
from webapp.pages.access import allow_anybody, current_address, local_address
from webapp.pages.experiment.labels import STATES, arm_name, slot_name, variant_name
from webapp.pages.experiment.lifecycle import available_steps
from webapp.pages.formatting import duration_text, period_text, plural
from webapp.services import services

PLOTLY_VERSION = version("plotly")
_FOREVER = "public, max-age=31536000, immutable"  # the address changes with the version


@pages.get("/assets/plotly-<version>.js")
@allow_anybody
def plotly_script(version: str) -> ResponseReturnValue:
    """Serve the script, compressed where the browser takes that."""
    if version != PLOTLY_VERSION:
        abort(404)
    compressed = request.accept_encodings.find("gzip") >= 0
    script = _script()
    response = Response(script if compressed else gzip.decompress(script))
    response.content_type = "text/javascript; charset=utf-8"
    response.headers["Cache-Control"] = _FOREVER
    response.vary.add("Accept-Encoding")
    if compressed:
        response.content_encoding = "gzip"
    return response


@cache
def _script() -> bytes:
    return gzip.compress(files("plotly").joinpath("package_data/plotly.min.js").read_bytes(), 6)


_THEMES = {"light", "dark"}
_COOKIE = "theme"
_YEAR = 31_536_000
_DAY = 86_400


@pages.post("/theme")
@allow_anybody
def set_theme() -> ResponseReturnValue:
    """Keep the choice of light or dark, or forget it, so that the device decides."""
    response: Response = redirect(local_address(request.form.get("next")))  # type: ignore[assignment]
    choice = request.form.get("theme", "")
    if choice in _THEMES:
        response.set_cookie(_COOKIE, choice, max_age=_YEAR, httponly=True, samesite="Lax")
    else:
        response.delete_cookie(_COOKIE)
    return response


def init(app: Flask) -> None:
    """Add to templates the values and functions that all of them use."""
    app.context_processor(_template_context)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        period_text=period_text,
        duration_text=duration_text,
        available_steps=available_steps,
        variant_name=variant_name,
        arm_name=arm_name,
        slot_name=slot_name,
        states=STATES,
        swatch=_swatch,
        figure_styles=figure_styles,
        hue=_hue,
        day_text=_day_text,
        method_name=_method_name,
    )


def _template_context() -> dict[str, Any]:
    choice = request.cookies.get(_COOKIE, "")
    person = _find_person()
    return {
        "person": person,
        "may_manage": person is not None and person.may("manager"),
        "theme": choice if choice in _THEMES else "",
        "here": current_address(),
        "workspace_name": _workspace_name(),
        "plotly_version": PLOTLY_VERSION,
    }


def _find_person() -> Any:
    """Return the person who is signed in, None where reading that fails: error pages need it."""
    try:
        return current_user if current_user.is_authenticated else None
    except Exception:  # noqa: BLE001 - the gate met the error before, and its page is rendered here
        return None


def _workspace_name() -> str:
    """Return the name of the workspace, the product's where reading that fails."""
    try:
        return services().outgoing.workspace.name()
    except Exception:  # noqa: BLE001 - as for the person
        return PRODUCT


def _swatch(style: ArmStyle) -> str:
    """Name the classes that colour an arm's mark."""
    return f"swatch {_hue(style)} pattern-{style.pattern}"


def _hue(style: ArmStyle) -> str:
    """Name the class that sets an arm's colour."""
    return "grey" if style.hue is None else f"hue-{style.hue}"


def _day_text(record: ExperimentRecord) -> str:
    """Write the day that a started experiment is in, or the number of days that it ran."""
    end = services().engine.clock() if record.stopped_at is None else record.stopped_at
    started_at = end if record.started_at is None else record.started_at
    days = 1 + int((end - started_at) // _DAY)
    return f"day {days}" if record.stopped_at is None else plural(days, "day")


def _method_name(record: ExperimentRecord) -> str:
    """Name the learning method of an experiment."""
    name = record.configuration.experiment.policy.name
    return policies()[name].label

"""Plotly's script, served from the installed wheel: browsers ask no other server."""

import gzip
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from flask import Response, abort, request
from flask.typing import ResponseReturnValue

from webapp.pages import pages
from webapp.pages.access import allow_anybody

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

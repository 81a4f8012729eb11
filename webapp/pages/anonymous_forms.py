"""Anonymous forms: short, of few fields, few at once; a browser that was signed in may send more.

Nothing else that an unknown caller sends is read: the API reads bodies of authorized callers only.
"""

from flask import abort, request, session

from webapp.body_places import BodyPlaces
from webapp.pages.known_device import known_device

MAX_BYTES = 16_000
MAX_FIELDS = 20
AT_ONCE = 8  # of the places for requests that a worker has
_OF_ONE_ADDRESS = 4
_FORM = "application/x-www-form-urlencoded"

_places = BodyPlaces(AT_ONCE, _OF_ONE_ADDRESS)


def is_returning() -> bool:
    """Return True for a browser in which somebody was signed in before, by a cookie of ours."""
    return "_user_id" in session or known_device() is not None


def read_anonymous_form() -> None:
    """Read the form of a caller who is not signed in, or refuse it before it is parsed.

    Raises:
        HTTPException: it is too long, has too many fields, is no plain form, or too many are read
            right now.
    """
    if is_returning():  # a form whose session ended may be as long as that form is
        return
    if not request.content_length and "Transfer-Encoding" not in request.headers:
        return
    if request.mimetype != _FORM:
        abort(415)
    request.max_content_length = MAX_BYTES
    with _places.taken(request.remote_addr or ""):
        text = request.get_data()
    if text.count(b"&") >= MAX_FIELDS:
        abort(413)

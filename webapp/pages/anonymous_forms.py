"""Anonymous forms: short, of few fields, few at once; a browser that was signed in may send more.

Nothing else that an unknown caller sends is read: the API reads bodies of authorized callers only.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from flask import abort, request, session
from werkzeug.exceptions import TooManyRequests

from webapp.pages.known_device import known_device

MAX_BYTES = 16_000
MAX_FIELDS = 20
AT_ONCE = 8  # of the places for requests that a worker has
_OF_ONE_ADDRESS = 4
_RETRY_SECONDS = 5
_FORM = "application/x-www-form-urlencoded"

_lock = Lock()
_readers: Counter[str] = Counter()


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
    with _place(request.remote_addr or ""):
        text = request.get_data()
    if text.count(b"&") >= MAX_FIELDS:
        abort(413)


@contextmanager
def _place(address: str) -> Iterator[None]:
    """Take one of the places for anonymous bodies.

    Raises:
        TooManyRequests: none is free, or this address has its share.
    """
    with _lock:
        if _readers.total() >= AT_ONCE or _readers[address] >= _OF_ONE_ADDRESS:
            raise TooManyRequests(retry_after=_RETRY_SECONDS)
        _readers[address] += 1
    try:
        yield
    finally:
        with _lock:
            _readers[address] -= 1
            if not _readers[address]:
                del _readers[address]

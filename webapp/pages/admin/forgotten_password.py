"""Page for those who forgot their password: a link by mail, to an address that has an account.

The answer is the same for every address, and comes before any account is looked up: neither its
words nor its time tell who has one.
"""

import logging
import secrets
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore

from flask import Flask, current_app, render_template, request
from flask.typing import ResponseReturnValue

from bandits.errors import BanditsError, NotFound
from storage.outgoing import NewNotice
from webapp.notices.outbox_worker import RESET
from webapp.pages import pages
from webapp.pages.access import allow_anybody
from webapp.pages.admin.email import sends_mails
from webapp.pages.admin.provider import takes_passwords
from webapp.pages.admin.throttle import count_reset
from webapp.services import Services, services

_NAME = "bandits.reset_requests"
_ANYBODY = "anonymous"
_MOST_WAITING = 100
_log = logging.getLogger(__name__)


class ResetRequests:
    """Addresses that somebody forgot the password of, looked up one after the other."""

    def __init__(self) -> None:
        """Begin without any; the thread starts with the first."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="resets")
        self._places = BoundedSemaphore(_MOST_WAITING)

    def add(self, services: Services, email: str) -> Future[None] | None:
        """Look an address up soon; None, and nothing happens, where too many wait."""
        if not self._places.acquire(blocking=False):
            return None
        return self._thread.submit(self._put_into_outbox, services, email)

    def settle(self) -> None:
        """Wait until all addresses so far are looked up."""
        self._thread.submit(lambda: None).result()

    def _put_into_outbox(self, services: Services, email: str) -> None:
        try:
            user = services.accounts.user(email)
            if not user.password_hash:  # their provider lets them in, and nothing beside it
                return
            content = {"email": user.email, "by": _ANYBODY}
            event = f"reset:{secrets.token_hex(8)}"
            notice = NewNotice(event, f"user:{user.id}", RESET, content)
            services.outgoing.outbox.add([notice], at=services.engine.clock())
        except NotFound:
            pass
        except BanditsError as error:
            _log.warning("cannot look for who forgot a password: %s", error)
        finally:
            self._places.release()


def init(app: Flask) -> None:
    """Give `app` its queue of addresses."""
    app.extensions[_NAME] = ResetRequests()


def reset_requests() -> ResetRequests:
    """Return the queue of the running application."""
    requests: ResetRequests = current_app.extensions[_NAME]
    return requests


@pages.get("/forgotten-password")
@allow_anybody
def forgotten_password() -> ResponseReturnValue:
    """Ask for the address; or say whom to turn to, where no mail can be sent."""
    return _page()


@pages.post("/forgotten-password")
@allow_anybody
def send_reset_link() -> ResponseReturnValue:
    """Answer that a mail is on its way if there is such an account."""
    email = request.form.get("email", "").strip()
    if count_reset(email) and takes_passwords() and sends_mails():
        reset_requests().add(services(), email)
    return _page(is_sent=True)


def _page(*, is_sent: bool = False) -> str:
    mails = takes_passwords() and sends_mails()
    return render_template("admin/forgotten_password.html", mails=mails, is_sent=is_sent)

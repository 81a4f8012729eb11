"""Page of the mail server that the workspace sends mails to people by."""

from typing import cast, get_args

from flask import Flask, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from storage.outgoing import MailSecurity, MailSettings
from webapp.egress import EgressGuard, EgressRefused
from webapp.links.link_views import PUBLIC_URL
from webapp.notices.mails import Unwritable, encode_mail, mail_of_test, submission_by
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.admin.confirmation import NOT_YOURS, is_own_password
from webapp.pages.admin.throttle import count_guess
from webapp.pages.admin.users import refuse_address
from webapp.services import services
from webapp.settings import Settings
from webapp.smtp import MailDeferred, MailRefused

SECURITIES: dict[MailSecurity, str] = {
    "starttls": "STARTTLS (usually port 587)",
    "tls": "TLS (usually port 465)",
    "none": "None, in a private network only",
}
_GUARD = "bandits.mail_guard"
_LONGEST = 253
_LARGEST_PORT = 65_535


def init(app: Flask, settings: Settings) -> None:
    """Give `app` the guard of the mail servers that it may reach."""
    app.extensions[_GUARD] = EgressGuard(settings.egress_networks)


def sends_mails() -> bool:
    """Return True where people can be sent links: by a mail server, to an address that is known."""
    has_address = current_app.config[PUBLIC_URL] is not None
    return has_address and services().outgoing.mail_settings.exists()


@pages.get("/settings/email")
@needs("admin")
def email() -> ResponseReturnValue:
    """Show the mail server."""
    return _page({})


@pages.post("/settings/email")
@needs("admin")
def save_email() -> ResponseReturnValue:
    """Save the mail server."""
    form, stored = request.form, services().outgoing.mail_settings.read()
    host, port = form.get("host", "").strip(), form.get("port", "").strip()
    security, sender = form.get("security", ""), form.get("sender", "").strip()
    errors = {}
    if not host or not host.isprintable() or " " in host or len(host) > _LONGEST:
        errors["host"] = "enter a name such as smtp.example.com"
    if not port.isdecimal() or not port.isascii() or not 0 < int(port[:9]) <= _LARGEST_PORT:
        errors["port"] = "enter a number from 1 to 65535"
    if security not in get_args(MailSecurity):
        errors["security"] = "choose one"
    if refusal := refuse_address(sender):
        errors["sender"] = refusal
    user, secret = form.get("user", "").strip(), form.get("smtp_password", "")
    if not secret and stored is not None and (stored.host, stored.user) == (host, user):
        secret = stored.password
    if not is_own_password(form.get("password", "")):
        errors["password"] = NOT_YOURS
    if errors:
        return _page(errors), 422
    settings = MailSettings(host, int(port), cast("MailSecurity", security), user, secret, sender)
    services().outgoing.mail_settings.save(
        settings, at=services().engine.clock(), by=person().email
    )
    flash("Saved. Send a test to yourself.")
    return redirect(url_for("pages.email"))


@pages.post("/settings/email/remove")
@needs("admin")
def remove_email() -> ResponseReturnValue:
    """Remove the mail server: nothing is sent by mail any more."""
    services().outgoing.mail_settings.remove(at=services().engine.clock(), by=person().email)
    flash("Removed. Nothing is sent by mail any more.")
    return redirect(url_for("pages.email"))


@pages.post("/settings/email/test")
@needs("admin")
def send_test_email() -> ResponseReturnValue:
    """Send a mail to the person who is signed in, and to nobody else."""
    settings, own = services().outgoing.mail_settings.read(), person().email
    if settings is None:
        return _page({"test": "Save a mail server first."}), 422
    count_guess(f"test mail {own}")
    submission = submission_by(settings, current_app.extensions[_GUARD])
    workspace = services().outgoing.workspace.name()
    try:
        content = encode_mail(
            mail_of_test(workspace),
            (workspace, settings.sender),
            own,
            message_id=f"test {services().engine.clock()}",
        )
        submission.send(settings.sender, own, content, before_data=lambda: None)
    except (MailRefused, MailDeferred, EgressRefused, Unwritable) as error:
        return _page({"test": str(error)}), 422
    finally:
        submission.close()
    flash(f"A test is on its way to {own}.")
    return redirect(url_for("pages.email"))


def _page(errors: dict[str, str]) -> str:
    stored = services().outgoing.mail_settings.read()
    form = request.form
    typed = {
        "host": "" if stored is None else stored.host,
        "port": "587" if stored is None else str(stored.port),
        "security": "starttls" if stored is None else stored.security,
        "user": "" if stored is None else stored.user,
        "sender": "" if stored is None else stored.sender,
    }
    return render_template(
        "admin/email.html",
        stored=stored,
        typed={name: form.get(name, value) for name, value in typed.items()},
        securities=SECURITIES,
        encrypts=services().connections.encrypts,
        public_url=current_app.config[PUBLIC_URL],
        errors=errors,
        tab="email",
    )

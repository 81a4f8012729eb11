"""Pages to sign in by a provider, and to connect it with an account that has a password."""

import logging

from flask import Response, abort, redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from msgspec import ValidationError, convert, to_builtins

from bandits.errors import AlreadyExists, NotFound
from storage.accounts import Identity, User
from webapp.identity_provider import (
    FLOW_SECONDS,
    RETURN_PATH,
    IdentityProvider,
    ProvenPerson,
    ProviderAway,
    SignInFlow,
    SignInRefused,
)
from webapp.pages import pages
from webapp.pages.access import allow_anybody
from webapp.pages.admin.provider import provider
from webapp.pages.admin.second_factor import takes_code
from webapp.pages.admin.sign_in import code_form, enter, find_user, record_failure
from webapp.pages.admin.throttle import count_guess, forget_guesses
from webapp.passwords import matches
from webapp.services import services

_FLOW = "sign_in_flow"
_PROVEN = "proven_person"
_TRY_AGAIN = "Nothing was changed. Start again from the sign-in page."
_log = logging.getLogger(__name__)


@pages.get("/sign-in/provider")
@allow_anybody
def start_provider_sign_in() -> ResponseReturnValue:
    """Send the browser to the provider."""
    own, now = _own_provider(), services().engine.clock()
    try:
        address, flow = own.begin(request.args.get("next", ""), at=now)
    except ProviderAway as error:
        return _away_page(own, error)
    session[_FLOW] = to_builtins(flow)
    return redirect(address)


@pages.get(RETURN_PATH)
@allow_anybody
def finish_provider_sign_in() -> ResponseReturnValue:
    """Sign in whom the provider proves, with the role that its claim has."""
    own, now = _own_provider(), services().engine.clock()
    try:
        flow = convert(session.pop(_FLOW, None), SignInFlow)
    except ValidationError:
        return _refuse(own, SignInRefused("no sign-in was begun in this browser"))
    try:
        proven = own.finish(flow, request.args.to_dict(), at=now)
    except ProviderAway as error:
        return _away_page(own, error)
    except SignInRefused as error:
        return _refuse(own, error)
    return _admit(own, proven, flow.address)


def _admit(own: IdentityProvider, proven: ProvenPerson, target: str) -> ResponseReturnValue:
    """Find or make the account of a proven person, and sign them in."""
    accounts, now = services().accounts, services().engine.clock()
    try:
        user = accounts.user_by_id(accounts.identities.user_id(proven.identity))
    except NotFound:
        pass
    else:
        user = _with_role(user, proven)
        if user.totp_secret is not None:
            return code_form(user, target, issuer=own.issuer)
        return enter(user, target, issuer=own.issuer)
    account = find_user(proven.email)
    if account is not None:
        return _ask_to_connect(own, account, proven, target)
    try:
        user = accounts.add_user(
            proven.email, "", proven.role, at=now, by=own.issuer, identity=proven.identity
        )
    except AlreadyExists:  # a moment ago, in another tab
        return _refuse(own, SignInRefused("two sign-ins at once"))
    return enter(user, target, issuer=own.issuer)


def _ask_to_connect(
    own: IdentityProvider, account: User, proven: ProvenPerson, target: str
) -> ResponseReturnValue:
    """Ask for the password of the account that has this address: only its owner connects it."""
    if not account.password_hash:
        text = (
            f"The account of {account.email} belongs to another person at {own.name}. Ask an admin"
            " of your team to remove it."
        )
        return _refuse(own, SignInRefused("address of another identity", text))
    session[_PROVEN] = [to_builtins(proven), target, services().engine.clock()]
    return _connect_page(own, account.email)


@pages.post("/sign-in/provider/connect")
@allow_anybody
def connect_provider() -> ResponseReturnValue:
    """Connect an account with an identity, by the account's password and code, and sign in."""
    own, accounts, now = _own_provider(), services().accounts, services().engine.clock()
    try:
        proven, target, at = convert(session.get(_PROVEN), tuple[ProvenPerson, str, float])
        user = accounts.user(proven.email)
    except (ValidationError, NotFound):
        return _refuse(own, SignInRefused("no sign-in was begun in this browser"))
    if now - at > FLOW_SECONDS or proven.identity.issuer != own.issuer:
        return _refuse(own, SignInRefused("took too long"))
    count_guess(user.email)
    right = matches(user.password_hash, request.form.get("password", ""))
    if right and user.totp_secret is not None:
        right = takes_code(user, request.form.get("code", ""))
    if not right:
        record_failure(user, "wrong password or code")
        return Response(_connect_page(own, user.email, wrong=True), 422)
    forget_guesses(user.email)
    try:
        accounts.identities.connect(user.id, user.email, proven.identity, at=now)
    except AlreadyExists:
        return _refuse(own, SignInRefused("two sign-ins at once"))
    return enter(_with_role(user, proven), target, issuer=own.issuer)


def _connect_page(own: IdentityProvider, email: str, *, wrong: bool = False) -> str:
    return render_template("admin/connect.html", name=own.name, email=email, wrong=wrong)


def _with_role(user: User, proven: ProvenPerson) -> User:
    """Return the user with the role that the provider's claim has, which is stored."""
    if user.role == proven.role:
        return user
    accounts, now = services().accounts, services().engine.clock()
    accounts.set_role(user.email, proven.role, at=now, by=proven.identity.issuer)
    return accounts.user_by_id(user.id)


def _refuse(own: IdentityProvider, error: SignInRefused) -> ResponseReturnValue:
    record_failure(None if error.identity is None else _end_access(error.identity), error.reason)
    return Response(
        render_template(
            "admin/provider_problem.html",
            title=f"{own.name} did not sign you in",
            text=error.text or "The sign-in was not completed, or it took too long.",
            help="" if error.text else _TRY_AGAIN,
        ),
        403,
    )


def _end_access(identity: Identity) -> User | None:
    """End the sessions of a person who has no role any more; return their account, if any."""
    accounts = services().accounts
    try:
        user = accounts.user_by_id(accounts.identities.user_id(identity))
    except NotFound:
        return None
    accounts.sessions.end_all(user.id)
    return user


def _away_page(own: IdentityProvider, error: ProviderAway) -> ResponseReturnValue:
    _log.error("the sign-in provider is away: %s", error)
    page = render_template(
        "admin/provider_problem.html",
        title=f"{own.name} does not answer",
        text="You cannot sign in with it right now. Try again in a minute.",
        help="If you have a password, sign in with that.",
    )
    return Response(page, 503, {"Retry-After": "60"})


def _own_provider() -> IdentityProvider:
    own = provider()
    if own is None:
        abort(404)
    return own

"""View of "Why do I get this?": a page for the recipient of an email, and its opt-out.

The link in the email is the proof, as with the page to unsubscribe: no cookie, no script, no
sign-in. Only a POST changes anything, since scanners follow every link. Emails get forwarded, so
the page says what it says of a person for 90 days alone; the opt-out works for as long as the email
is in the log.
"""

from collections.abc import Sequence

from flask import Blueprint, Response, current_app, render_template, request
from msgspec import Struct

from bandits.client.tracking import EXPLANATION_PATH
from bandits.engine.analysis.recipient_explanation import ExplainedPart, RecipientExplanation
from bandits.errors import NotFound, Unavailable
from bandits.tracking_tokens import BadToken, TokenKind
from webapp.links.link_path import BROKEN_LINK, BUSY
from webapp.links.link_reader import LinkReader
from webapp.pages.formatting import amount
from webapp.services import services

EXPLAINED_SECONDS = 90 * 86_400
OPT_OUT = "opt_out"  # the form's only field
_KINDS = {"subject_line": "Subject line", "content": "Content", "discount": "Discount"}
_LONGEST = 200

explanations = Blueprint("explanations", __name__)


class PartText(Struct, frozen=True):
    """A part of the email: its kind, what it has if that can be written, and how many it could."""

    kind: str
    text: str | None
    options: int


class EmailText(Struct, frozen=True):
    """What the page says of one decision of the email.

    Attributes:
        explanation: None where it is too old to be explained.
    """

    opted_out: bool
    explanation: RecipientExplanation | None
    parts: Sequence[PartText] = ()


@explanations.route(f"{EXPLANATION_PATH}<token>", methods=["GET", "POST"])
def explain(token: str) -> Response:
    """Explain an email to its recipient; by POST, stop or go on to use the recipient's data."""
    reader: LinkReader = current_app.extensions["bandits.link_reader"]
    signed, content = reader.prove(token, TokenKind.EXPLANATION)
    if not reader.counts(signed):
        raise BadToken("its key was revoked: who has the key may have made the link")
    if request.method == "POST":
        _set_opt_out(content.decision_ids, opted_out=request.form.get(OPT_OUT) == "yes")
    emails = [email for i in content.decision_ids if (email := _read(i)) is not None]
    page = render_template(
        "explanation.html",
        emails=emails,
        opted_out=any(email.opted_out for email in emails),
        changed=request.method == "POST",
        field=OPT_OUT,
        days=EXPLAINED_SECONDS // 86_400,
    )
    headers = {"X-Robots-Tag": "noindex", "Referrer-Policy": "no-referrer"}
    return Response(page, headers=headers)


def _set_opt_out(ids: Sequence[str], *, opted_out: bool) -> None:
    """Set it for the recipient of an email; decisions that are erased have none any more."""
    for decision_id in ids:
        try:
            services().engine.set_opt_out(decision_id, opted_out=opted_out)
        except NotFound:
            continue


def _read(decision_id: str) -> EmailText | None:
    engine = services().engine
    try:
        opted_out = engine.has_opted_out(decision_id)
        explanation = engine.explain_to_recipient(decision_id)
    except NotFound:
        return None
    if engine.clock() - explanation.made_at > EXPLAINED_SECONDS:
        return EmailText(opted_out, None)
    return EmailText(opted_out, explanation, [_part_text(part) for part in explanation.parts])


def _part_text(part: ExplainedPart) -> PartText:
    """Write a part as the recipient saw it; the names that managers gave are theirs."""
    payload = part.variant.payload
    text, percent = payload.get("text"), payload.get("percent")
    seen = None
    if part.slot.kind == "subject_line" and isinstance(text, str) and text.strip():
        seen = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    elif part.slot.kind == "discount" and isinstance(percent, int | float):
        seen = f"{amount(percent)} %" if percent else "none"
    return PartText(_KINDS.get(part.slot.kind, "Another part"), seen, part.options)


@explanations.errorhandler(BadToken)
def _not_found(_error: BadToken) -> Response:
    return Response(BROKEN_LINK, 404, mimetype="text/plain")


@explanations.errorhandler(Unavailable)
def _unavailable(error: Unavailable) -> Response:
    current_app.logger.warning("cannot explain an email: %s", error.log_text)
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return Response(BUSY, 503, headers, mimetype="text/plain")

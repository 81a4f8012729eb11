"""listmonk: hands its messages over to be sent, and exports clicks and views as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from bandits.schemas import misfits
from webapp.signals.api_fields import api_fields
from webapp.signals.connection_kind import ConnectionField, ConnectionKind
from webapp.signals.delivery import Delivery, DeliveryRefused, RefusalCause
from webapp.signals.json_fields import event_id, iso_time_at, loose_text, required_text, text_at
from webapp.signals.password_proof import PASSWORD_FIELDS, PROOF, verify_password
from webapp.signals.send_sample import SendSample
from webapp.signals.signal_event import EventUnreadable, SignalBatch, SignalEvent, read_batch

CSV = "text/csv"
_REQUIRED = ("campaign_uuid", "subscriber_uuid", "created_at")
_TOLD = 40  # characters of a value in a reason


def _parse(delivery: Delivery) -> SignalBatch:
    try:
        text = delivery.body.decode("utf-8-sig")
        names, *rows = csv.reader(io.StringIO(text), strict=True)
    except (UnicodeDecodeError, ValueError, csv.Error):
        raise DeliveryRefused(RefusalCause.UNREADABLE, "the body is not a CSV file") from None
    if missing := [name for name in _REQUIRED if name not in names]:
        raise DeliveryRefused(RefusalCause.UNREADABLE, f"no column {', '.join(missing)}")

    def read(row: Sequence[str]) -> Iterator[SignalEvent]:
        return _events(dict(zip(names, row, strict=False)))

    def alone(row: Sequence[str]) -> Delivery:
        return Delivery("POST", {}, csv_of([names, row]))

    return read_batch([row for row in rows if row], read, alone)


def csv_of(rows: Sequence[Sequence[str]]) -> bytes:
    """Write rows as listmonk does."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue().encode()


def _events(item: dict[str, Any]) -> Iterator[SignalEvent]:
    campaign, subscriber, created_at = (required_text(item, name) for name in _REQUIRED)
    decision_id = f"{campaign}.{subscriber}"
    if misfits([decision_id]):
        start = decision_id[:_TOLD]
        raise EventUnreadable(f"campaign_uuid and subscriber_uuid are no ids: the value {start!r}")
    name = "open" if "url" not in item else "click"
    yield SignalEvent(
        name=name,
        event_id=event_id("listmonk", name, decision_id, text_at(item, "url"), created_at),
        occurred_at=iso_time_at(item, "created_at"),
        decision_ids=(decision_id,),
        recipient=text_at(item, "email"),
        subject_id=subscriber,
        link=loose_text(item, "url"),
    )


_SAMPLE = """\
<h1>Spring is here</h1>
<!--bandits slot=hero variant=h1--><p>The new boots</p><!--/bandits-->
<!--bandits slot=hero variant=h2--><p>Everything for the garden</p><!--/bandits-->
<a href="{{ UnsubscribeURL }}">Leave this list</a>
"""

KIND = ConnectionKind(
    name="listmonk",
    label="listmonk",
    purpose="Messages that listmonk hands over to be sent, and its clicks and views.",
    fields=(
        *PASSWORD_FIELDS,
        ConnectionField(
            name="subject_slot",
            label="Part of the subject line",
            help="Key of the part whose text replaces the subject of a message.",
            secret=False,
            default="subject_line",
        ),
        ConnectionField(
            name="subject_id",
            label="Recipients' id",
            help="What names a recipient: `uuid`, `email`, or an attribute of subscribers.",
            secret=False,
            default="uuid",
        ),
        *api_fields(
            "listmonk",
            use="Clicks and views are fetched from there.",
            user="API user",
            user_help="An API user of listmonk that may maintain settings.",
            proof="API token",
            proof_help="The token of that user.",
        ),
    ),
    steps=(
        (
            "Start the server with `BANDITS_SMTP_URL`, the mail server that sends for you. In"
            " listmonk, open Settings, Messengers, and add one with `{messenger}` as root URL and"
            " the connection's user name and password."
        ),
        (
            "Give a campaign this messenger and the tag `bandits:KEY`, KEY being the campaign's key"
            " here. Write its blocks between `<!--bandits slot=hero variant=h1-->` and"
            " `<!--/bandits-->`, one for each variant."
        ),
        (
            "For clicks and views, switch on individual tracking under Settings, Privacy, and give"
            " this connection listmonk's address with an API user. Or post the files of"
            " `/api/maintenance/analytics/clicks/export` to `{address}` yourself."
        ),
    ),
    passing=(
        "No `bandits_decision` is needed: the decision's id is the campaign's uuid and the"
        " subscriber's, joined by a dot. A message that comes again gets the same variants and is"
        " not sent twice."
    ),
    sample=SendSample(_SAMPLE, language="html"),
    traps=(
        (
            "listmonk counts an answer other than 200 as an error, and pauses the campaign after"
            " `max_send_errors`."
        ),
        (
            "It hands over neither alternative text nor headers of its own. `List-Unsubscribe` is"
            " made anew from the address in the body, so keep that there."
        ),
        "Without individual tracking (Settings, Privacy) its clicks and views name nobody.",
    ),
    proof=PROOF,
    retries=(
        "listmonk never repeats a message that was not answered 200, so it is answered only after"
        " the mail server took the mail. Where nothing can be decided, the control is sent."
    ),
    limits=(
        "A variant whose block a message lacks is not chosen for it. listmonk tells neither user"
        " agents nor addresses, so machines cannot be told from people. Bounces and unsubscriptions"
        " stay in listmonk."
    ),
    names={"clicks": "click", "views": "open"},
    verify=verify_password,
    parse=_parse,
    media_types=(CSV,),
    password=True,
    messenger=True,
)

"""The list of campaigns."""

from flask import render_template, request
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.engine.tally import Tally
from bandits.store import Record
from webapp.pages.access import needs
from webapp.pages.blueprint import pages
from webapp.pages.campaign.naming import STATES, Measure, measure
from webapp.services import services


class Listed(Struct, frozen=True):
    """One campaign's row."""

    record: Record
    measure: Measure
    sent: int = 0
    complete: int = 0
    reward: float = 0.0


@pages.get("/")
@needs("viewer")
def campaigns() -> ResponseReturnValue:
    """List campaigns that match the search; archived ones only where asked for."""
    wanted, state = request.args.get("q", "").strip(), request.args.get("state", "")
    every = services().engine.store.records()
    shown = [
        r
        for r in every
        if _matches(r, wanted) and (r.state == state if state in STATES else r.state != "archived")
    ]
    return render_template(
        "campaigns.html",
        campaigns=[_listed(r) for r in shown],
        any_at_all=bool(every),
        wanted=wanted,
        state=state,
        states=STATES,
    )


def _matches(record: Record, wanted: str) -> bool:
    texts = (record.key, record.configuration.experiment.name)
    return any(wanted.casefold() in text.casefold() for text in texts)


def _listed(record: Record) -> Listed:
    """Read a campaign's newest tally: as quick with ten million sends as with ten."""
    named = measure(record.configuration.experiment.reward)
    newest = services().engine.store.history(record.key, 1)
    if not newest:
        return Listed(record, named)
    tally = Tally.load(newest[-1].tally)
    return Listed(
        record,
        named,
        round(tally.sent.sum()),
        round(tally.complete.sum()),
        float(tally.reward.sum()),
    )

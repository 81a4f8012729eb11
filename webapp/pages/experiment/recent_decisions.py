"""The emails of one campaign that were chosen last, each of which leads to its receipt."""

from datetime import UTC, datetime
from functools import cache

from flask import render_template
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.store.values import StoredDecision
from webapp.pages.access import needs
from webapp.pages.blueprint import pages
from webapp.pages.experiment.labels import named
from webapp.services import services

_SHOWN = 50


class DecisionRow(Struct, frozen=True):
    """One decision; `mark` says what sets it apart from those that are learned from."""

    id: str
    at: datetime
    version: str
    chance: float
    mark: str


@pages.get("/experiments/<key:key>/decisions")
@needs("viewer")
def latest(key: str) -> ResponseReturnValue:
    """List what was chosen last."""
    store = services().engine.store
    record = store.record(key)
    then = cache(store.configuration)

    def told(stored: StoredDecision) -> DecisionRow:
        configuration = then(key, stored.configuration_version)
        variants = {k: v["variant"] for k, v in configuration.slots_of(stored.arm).items()}
        version = named(configuration.experiment, variants)
        at = datetime.fromtimestamp(stored.made_at, UTC)
        return DecisionRow(stored.id, at, version, stored.propensity, _mark(stored))

    rows = [told(stored) for stored in store.latest_decisions(key, limit=_SHOWN)]
    return render_template(
        "latest.html", record=record, rows=rows, cut=len(rows) == _SHOWN, tab="decisions"
    )


def _mark(stored: StoredDecision) -> str:
    if stored.cancelled_at is not None:
        return "never sent"
    if stored.shipped:
        return "after the stop"
    if stored.fallback:
        return "stand-in"
    return "control group" if stored.holdout else ""

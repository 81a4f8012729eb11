"""An experiment's set-up, and what was changed in it."""

import msgspec
import numpy as np
from flask import render_template, request
from flask.typing import ResponseReturnValue

from bandits.experiment import Experiment
from bandits.features import decode
from webapp.pages.access import needs
from webapp.pages.blueprint import pages
from webapp.pages.experiment.differences import entry
from webapp.pages.experiment.labels import measure
from webapp.pages.form.fields import methods
from webapp.services import services

_CHANGES = 100


@pages.get("/experiments/<key:key>/setup")
@needs("viewer")
def setup(key: str) -> ResponseReturnValue:
    """Show what is declared, and how a sender calls it."""
    record = services().engine.store.record(key)
    declared = record.configuration.experiment
    return render_template(
        "setup.html",
        record=record,
        declared=declared,
        measure=measure(declared.reward),
        method=next(m for m in methods() if m.name == declared.policy.name),
        sample_choose=_sample_choose(declared),
        sample_reward=_sample_reward(declared),
        tab="setup",
    )


def _sample_choose(declared: Experiment) -> str:
    context = decode(declared.context, np.ones(declared.encoder().n_features))
    request = {"subject_id": "recipient-1", **({"context": context} if context else {})}
    return msgspec.json.encode(request).decode()


def _sample_reward(declared: Experiment) -> str:
    metric = next(iter(declared.reward.metrics))
    event = {"decision_id": "…", "event_id": "1", "metric": metric}
    return msgspec.json.encode({"rewards": [event]}).decode()


@pages.get("/experiments/<key:key>/history")
@needs("viewer")
def history(key: str) -> ResponseReturnValue:
    """Show who changed what, the newest first."""
    record = services().engine.store.record(key)
    before = request.args.get("before", type=int)
    found = services().accounts.changes(
        subject=f"experiment:{key}", before_id=before, limit=_CHANGES + 1
    )
    return render_template(
        "history.html",
        record=record,
        changes=[entry(change) for change in found[:_CHANGES]],
        more=found[_CHANGES - 1].id if len(found) > _CHANGES else None,
        tab="history",
    )

"""The list of campaigns, and two ways to a new one: from an earlier one, and from the sample."""

from collections.abc import Callable
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct
from msgspec.structs import replace

from bandits.engine.arm_counts import ArmCounts
from bandits.experiment import Experiment
from bandits.results import Gain
from bandits.store.values import ExperimentRecord
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.experiment.labels import STATES, Measure, measure
from webapp.pages.form.slugs import unused
from webapp.sample import sample_experiment
from webapp.services import services

_PAGE = 25
_LONGEST_KEY = 60  # leaves room for a number after it
_LONGEST_NAME = 100
_STATES = list(STATES)


class CampaignRow(Struct, frozen=True):
    """One campaign's row; `gain` is None where nothing has been sent."""

    record: ExperimentRecord
    measure: Measure
    sent: int = 0
    complete: int = 0
    gain: Gain | None = None


# How the list may be sorted, and whether the largest comes first.
SORTS: dict[str, tuple[Callable[[ExperimentRecord], Any], bool]] = {
    "name": (lambda r: r.configuration.experiment.title.casefold(), False),
    "state": (lambda r: _STATES.index(r.state), False),
    "sent": (lambda r: _tally(r)[0], True),
    "started": (lambda r: r.started_at or 0.0, True),
}


@pages.get("/")
@needs("viewer")
def experiments() -> ResponseReturnValue:
    """List campaigns that match the search; archived ones only where asked for."""
    wanted, state = request.args.get("q", "").strip(), request.args.get("state", "")
    sort = request.args.get("sort", "")
    every = services().engine.store.experiments.records()
    shown = [
        r
        for r in every
        if _matches(r, wanted) and (r.state == state if state in STATES else r.state != "archived")
    ]
    if sort in SORTS:
        of, largest_first = SORTS[sort]
        shown.sort(key=of, reverse=largest_first)
    last = max(0, (len(shown) - 1) // _PAGE)
    page = min(max(request.args.get("page", 1, type=int) - 1, 0), last)
    asked = {"q": wanted, "state": state, "sort": sort}
    return render_template(
        "experiment/experiment_list.html",
        campaigns=[_listed(r) for r in shown[page * _PAGE : (page + 1) * _PAGE]],
        any_at_all=bool(every),
        wanted=wanted,
        state=state,
        states=STATES,
        sort=sort,
        asked={name: value for name, value in asked.items() if value},
        page=page + 1,
        last=last + 1,
        found=len(shown),
    )


@pages.post("/experiments/<key:key>/clone")
@needs("manager")
def clone_experiment(key: str) -> ResponseReturnValue:
    """Make a new draft of what an experiment declares; nothing it learned goes along."""
    record = services().engine.store.experiments.record(key)
    declared = record.configuration.experiment
    name = f"{declared.title} (copy)"[:_LONGEST_NAME]
    # Its dates have passed, or are another campaign's.
    copy = replace(declared, key=_free(f"{key[: _LONGEST_KEY - 5]}-copy"), name=name)
    return _created(replace(copy, starts_at=None, ends_at=None))


@pages.post("/sample")
@needs("manager")
def create_sample() -> ResponseReturnValue:
    """Make the sample campaign as a draft, to look around in."""
    declared = sample_experiment()
    return _created(replace(declared, key=_free(declared.key)))


def _created(experiment: Experiment) -> ResponseReturnValue:
    services().engine.create(experiment, by=person().email)
    flash(f"{experiment.title} is a draft. Look through it, then start.")
    return redirect(url_for("pages.setup", key=experiment.key))


def _free(key: str) -> str:
    return unused(key, {r.key for r in services().engine.store.experiments.records()})


def _matches(record: ExperimentRecord, wanted: str) -> bool:
    texts = (record.key, record.configuration.experiment.name)
    return any(wanted.casefold() in text.casefold() for text in texts)


def _listed(record: ExperimentRecord) -> CampaignRow:
    """Read how a campaign stands: as quick with ten million sends as with ten."""
    named = measure(record.configuration.experiment.reward)
    sent, complete = _tally(record)
    if not complete:
        return CampaignRow(record, named, sent, complete)
    return CampaignRow(record, named, sent, complete, services().engine.results(record.key).gain)


def _tally(record: ExperimentRecord) -> tuple[int, int]:
    """Count what was sent and what is complete, by the newest tally."""
    newest = services().engine.store.snapshots.history(record.key, 1)
    if not newest:
        return 0, 0
    tally = ArmCounts.load(newest[-1].tally)
    return round(tally.sent.sum()), round(tally.complete.sum())

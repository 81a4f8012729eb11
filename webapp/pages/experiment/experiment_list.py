"""The list of experiments, and two ways to a new one: a copy, and the sample."""

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
from webapp.pages.experiment.labels import STATES, Measure, reward_measure
from webapp.pages.experiment.verdict_text import VerdictText, verdict_text
from webapp.pages.form.slugs import unused_key
from webapp.sample import sample_experiment
from webapp.services import services

_PAGE = 25
_LONGEST_KEY = 60  # leaves room for a number after it
_LONGEST_NAME = 100
_STATES = list(STATES)


class ExperimentRow(Struct, frozen=True):
    """One experiment's row.

    Attributes:
        open: share of the emails sent whose results can still change, None before the first.
        gain: None where nothing is final.
        trusted: false while emails are not sent as intended.
    """

    record: ExperimentRecord
    measure: Measure
    verdict: VerdictText
    sent: int
    open: float | None
    gain: Gain | None
    trusted: bool


def _count_sent(record: ExperimentRecord) -> int:
    """Read the number of emails sent from the newest snapshot."""
    newest = services().engine.store.snapshots.history(record.key, 1)
    return round(ArmCounts.load(newest[-1].arm_counts).sent.sum()) if newest else 0


# Sort keys of the list; True where the largest comes first.
SORTS: dict[str, tuple[Callable[[ExperimentRecord], Any], bool]] = {
    "name": (lambda r: r.configuration.experiment.title.casefold(), False),
    "state": (lambda r: _STATES.index(r.state), False),
    "sent": (_count_sent, True),
    "started": (lambda r: r.started_at or 0.0, True),
}


@pages.get("/")
@needs("viewer")
def experiments() -> ResponseReturnValue:
    """List the experiments that match the search; archived ones only where that state is chosen."""
    search, state = request.args.get("q", "").strip(), request.args.get("state", "")
    sort = request.args.get("sort", "")
    records = services().engine.store.experiments.records()
    matches = [
        r
        for r in records
        if _matches(r, search) and (r.state == state if state in STATES else r.state != "archived")
    ]
    if sort in SORTS:
        sort_key, largest_first = SORTS[sort]
        matches.sort(key=sort_key, reverse=largest_first)
    last = max(0, (len(matches) - 1) // _PAGE)
    page = min(max(request.args.get("page", 1, type=int) - 1, 0), last)
    query = {"q": search, "state": state, "sort": sort}
    return render_template(
        "experiment/experiment_list.html",
        rows=[_row(r) for r in matches[page * _PAGE : (page + 1) * _PAGE]],
        has_experiments=bool(records),
        search=search,
        state=state,
        states=STATES,
        sort=sort,
        query={name: value for name, value in query.items() if value},
        page=page + 1,
        last=last + 1,
        total=len(matches),
    )


@pages.post("/experiments/<key:key>/clone")
@needs("manager")
def clone_experiment(key: str) -> ResponseReturnValue:
    """Copy an experiment's declaration into a new draft, without anything that it learned."""
    record = services().engine.store.experiments.record(key)
    declared = record.configuration.experiment
    name = f"{declared.title} (copy)"[:_LONGEST_NAME]
    # Its dates have passed, or are another experiment's.
    copy = replace(declared, key=_free_key(f"{key[: _LONGEST_KEY - 5]}-copy"), name=name)
    return _create_draft(replace(copy, starts_at=None, ends_at=None))


@pages.post("/sample")
@needs("manager")
def create_sample() -> ResponseReturnValue:
    """Create the sample experiment as a draft."""
    declared = sample_experiment()
    return _create_draft(replace(declared, key=_free_key(declared.key)))


def _create_draft(experiment: Experiment) -> ResponseReturnValue:
    services().engine.create(experiment, by=person().email)
    flash(f"{experiment.title} is a draft. Look through it, then start.")
    return redirect(url_for("pages.setup", key=experiment.key))


def _free_key(key: str) -> str:
    return unused_key(key, {r.key for r in services().engine.store.experiments.records()})


def _matches(record: ExperimentRecord, search: str) -> bool:
    texts = (record.key, record.configuration.experiment.name)
    return any(search.casefold() in text.casefold() for text in texts)


def _row(record: ExperimentRecord) -> ExperimentRow:
    """Read an experiment's row: as quick with ten million sends as with ten."""
    measure = reward_measure(record.configuration.experiment.reward)
    engine = services().engine
    results = engine.results(record.key)
    verdict = verdict_text(record, results, engine.clock())
    gain = results.gain if results.closed else None
    trusted = results.verdict.action != "check_health"
    sent, still_open = _count_sent(record), results.health.open
    return ExperimentRow(record, measure, verdict, sent, still_open, gain, trusted)

"""Stopping: what is recommended and at what risk, and what is sent from then on."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import NotFound, WrongState
from bandits.store.values import ExperimentRecord
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.experiment.labels import named
from webapp.pages.experiment.lifecycle import STEPS
from webapp.pages.experiment.results import standing_of
from webapp.pages.formatting import say
from webapp.services import services

_STEP = STEPS["stop"]


@pages.get("/experiments/<key:key>/stop")
@needs("manager")
def stop(key: str) -> ResponseReturnValue:
    """Recommend whether to stop, and ask what to send from then on."""
    record, standing = standing_of(key)
    _refuse_unless_it_runs(record)
    if "ship" in request.args:  # another version was picked from the list
        return redirect(
            url_for("pages.confirm_ship", key=key, arm=request.args.get("ship", 0, int))
        )
    sendable = set(record.configuration.eligible().tolist())
    return render_template(
        "experiment/stop.html",
        record=record,
        standing=standing,
        versions=[row for row in standing.ranked if row.result.index in sendable],
        window=say(record.configuration.experiment.reward.window_seconds),
    )


@pages.post("/experiments/<key:key>/stop")
@needs("manager")
def stop_experiment(key: str) -> ResponseReturnValue:
    """Stop; nothing more is sent."""
    record = services().engine.store.experiments.record(key)
    _refuse_unless_it_runs(record)
    services().engine.stop(key, by=person().email)
    flash(f"{record.configuration.experiment.title}: {_STEP.done}")
    return redirect(url_for("pages.experiment", key=key))


@pages.get("/experiments/<key:key>/stop/nothing")
@needs("manager")
def confirm_stop(key: str) -> ResponseReturnValue:
    """Ask before nothing more is sent."""
    return _ask(services().engine.store.experiments.record(key), None)


@pages.get("/experiments/<key:key>/stop/<int:arm>")
@needs("manager")
def confirm_ship(key: str, arm: int) -> ResponseReturnValue:
    """Ask before everybody gets one version."""
    return _ask(services().engine.store.experiments.record(key), arm)


@pages.post("/experiments/<key:key>/stop/<int:arm>")
@needs("manager")
def ship_arm(key: str, arm: int) -> ResponseReturnValue:
    """Stop, and send everybody one version from now on."""
    record = services().engine.store.experiments.record(key)
    _refuse_unless_it_runs(record)
    variants = _variants(record, arm)
    services().engine.stop(key, by=person().email, ship=variants)
    title, sent = record.configuration.experiment.title, _called(record, arm)
    flash(f"{title}: it is stopped, and everybody gets {sent}.")
    return redirect(url_for("pages.experiment", key=key))


def _ask(record: ExperimentRecord, arm: int | None) -> ResponseReturnValue:
    _refuse_unless_it_runs(record)
    experiment = record.configuration.experiment
    window = say(experiment.reward.window_seconds)
    counted = f"Results are counted for {window} more; then the result is final."
    if arm is None:
        return render_template(
            "experiment/confirm_step.html",
            record=record,
            name="stop",
            step=_STEP,
            action=url_for("pages.stop_experiment", key=record.key),
            button=f"Stop {experiment.title}",
            consequences=[_STEP.consequences[0], counted],
        )
    sent = _called(record, arm)
    return render_template(
        "experiment/confirm_step.html",
        record=record,
        name="stop",
        step=_STEP,
        question=f"Stop and keep sending {sent}?",
        button=f"Stop {experiment.title} and keep sending {sent}",
        consequences=[
            (
                f"Every recipient your sender asks about gets {sent} from now on, the control group"
                " and recipients who got another version before included."
            ),
            "Nothing more is learned, and it cannot be started again.",
            counted,
            "Archiving it later ends the sending.",
        ],
    )


def _refuse_unless_it_runs(record: ExperimentRecord) -> None:
    if record.state not in _STEP.states:
        raise WrongState(record.key, record.state, "it cannot stop now")


def _variants(record: ExperimentRecord, arm: int) -> dict[str, str]:
    arms = record.configuration.arms
    if arm >= len(arms):
        raise NotFound("version", str(arm))
    slots = [s.key for s in record.configuration.experiment.slots]
    return dict(zip(slots, arms[arm].variants, strict=True))


def _called(record: ExperimentRecord, arm: int) -> str:
    return f"“{named(record.configuration.experiment, _variants(record, arm))}”"

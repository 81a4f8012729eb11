"""Pages to stop an experiment: recommendation, risk, and the choice of the arm to ship."""

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from bandits.errors import NotFound, WrongState
from bandits.store.values import ExperimentRecord
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.experiment.labels import arm_name
from webapp.pages.experiment.lifecycle import STEPS
from webapp.pages.experiment.results import load_results_view
from webapp.pages.formatting import duration_text
from webapp.services import services

_STEP = STEPS["stop"]


@pages.get("/experiments/<key:key>/stop")
@needs("manager")
def stop(key: str) -> ResponseReturnValue:
    """Recommend a stop or not, and ask which arm to send from then on."""
    record, view = load_results_view(key)
    _require_running(record)
    if "ship" in request.args:  # another version was picked from the list
        return redirect(
            url_for("pages.confirm_ship", key=key, arm=request.args.get("ship", 0, int))
        )
    sendable = set(record.configuration.eligible().tolist())
    return render_template(
        "experiment/stop.html",
        record=record,
        view=view,
        versions=[row for row in view.ranked if row.result.index in sendable],
        window=duration_text(record.configuration.experiment.reward.window_seconds),
    )


@pages.post("/experiments/<key:key>/stop")
@needs("manager")
def stop_experiment(key: str) -> ResponseReturnValue:
    """Stop without an arm to send."""
    record = services().engine.store.experiments.record(key)
    _require_running(record)
    services().engine.stop(key, by=person().email)
    flash(f"{record.configuration.experiment.title} {_STEP.done}")
    return redirect(url_for("pages.experiment", key=key))


@pages.get("/experiments/<key:key>/stop/nothing")
@needs("manager")
def confirm_stop(key: str) -> ResponseReturnValue:
    """Ask for confirmation of a stop without an arm to send."""
    return _confirmation(services().engine.store.experiments.record(key), None)


@pages.get("/experiments/<key:key>/stop/<int:arm>")
@needs("manager")
def confirm_ship(key: str, arm: int) -> ResponseReturnValue:
    """Ask for confirmation of a stop with one arm for everybody."""
    return _confirmation(services().engine.store.experiments.record(key), arm)


@pages.post("/experiments/<key:key>/stop/<int:arm>")
@needs("manager")
def ship_arm(key: str, arm: int) -> ResponseReturnValue:
    """Stop, and send one arm to everybody from now on."""
    record = services().engine.store.experiments.record(key)
    _require_running(record)
    variants = _variants(record, arm)
    keeps_control = request.form.get("control_group") == "control"
    services().engine.stop(key, by=person().email, ship=variants, keep_control_group=keeps_control)
    title, shipped = record.configuration.experiment.title, _quoted_name(record, arm)
    everyone = "everyone but the control group" if keeps_control else "everyone"
    flash(f"{title} is stopped, and {everyone} gets {shipped}.")
    return redirect(url_for("pages.experiment", key=key))


def _confirmation(record: ExperimentRecord, arm: int | None) -> ResponseReturnValue:
    _require_running(record)
    experiment = record.configuration.experiment
    window = duration_text(experiment.reward.window_seconds)
    counting = f"Results are counted for {window} more; then the result is final."
    if arm is None:
        return render_template(
            "experiment/confirm_step.html",
            record=record,
            name="stop",
            step=_STEP,
            action=url_for("pages.stop_experiment", key=record.key),
            button=f"Stop {experiment.title}",
            consequences=[_STEP.consequences[0], counting],
        )
    shipped = _quoted_name(record, arm)
    return render_template(
        "experiment/confirm_step.html",
        record=record,
        name="stop",
        step=_STEP,
        shipped=shipped,
        question=f"Stop and keep sending {shipped}?",
        button=f"Stop {experiment.title} and keep sending {shipped}",
        consequences=[
            (
                f"Every recipient your sender asks about gets {shipped} from now on, also those who"
                " got another version before."
            ),
            "Nothing more is learned, and it cannot be started again.",
            counting,
            "Archiving it later ends the sending.",
        ],
    )


def _require_running(record: ExperimentRecord) -> None:
    if record.state not in _STEP.states:
        raise WrongState(record.key, record.state, "it cannot stop now")


def _variants(record: ExperimentRecord, arm: int) -> dict[str, str]:
    arms = record.configuration.arms
    if arm >= len(arms):
        raise NotFound("version", str(arm))
    slots = [s.key for s in record.configuration.experiment.slots]
    return dict(zip(slots, arms[arm].variants, strict=True))


def _quoted_name(record: ExperimentRecord, arm: int) -> str:
    return f"“{arm_name(record.configuration.experiment, _variants(record, arm))}”"

"""Pages of the lifecycle steps but for stop, each confirmed with its consequences on screen."""

from collections.abc import Callable
from types import MappingProxyType

from flask import abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.engine import Engine
from bandits.errors import WrongState
from bandits.store.values import ExperimentRecord, State
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.services import services


class LifecycleStep(Struct, frozen=True):
    """One step of the lifecycle.

    Attributes:
        button: text of its button.
        question: heading of its confirmation.
        consequences: sentences of its confirmation.
        done: rest of the sentence after it, which begins with the campaign.
        states: states from which it can be taken.
        final: it cannot be undone.
    """

    button: str
    question: str
    consequences: tuple[str, ...]
    done: str
    states: tuple[State, ...]
    take: Callable[..., ExperimentRecord]
    final: bool = False


STEPS = MappingProxyType(
    {
        "start": LifecycleStep(
            "Start",
            "Start choosing emails?",
            (
                (
                    "From now on your sender gets a version of the email for each recipient it asks"
                    " about."
                ),
                (
                    "Parts, success and recipient attributes are fixed from then on. You can still"
                    " correct texts, add variants, change the minimum share, and pause."
                ),
            ),
            "is now running.",
            ("draft",),
            Engine.start,
        ),
        "resume": LifecycleStep(
            "Resume",
            "Resume choosing emails?",
            ("Your sender gets answers again. Nothing that was learned is lost.",),
            "is running again.",
            ("paused",),
            Engine.start,
        ),
        "pause": LifecycleStep(
            "Pause",
            "Pause choosing emails?",
            (
                "Your sender's requests are refused until you resume.",
                "Results of emails already sent go on being counted and learned.",
            ),
            "is paused.",
            ("running",),
            Engine.pause,
        ),
        "stop": LifecycleStep(
            "Stop",
            "Stop for good?",
            ("Your sender's requests are refused from now on, and it cannot be started again.",),
            "is stopped.",
            ("running", "paused"),
            Engine.stop,
            final=True,
        ),
        "archive": LifecycleStep(
            "Archive",
            "Archive it?",
            (
                "It leaves the list of campaigns; you find it there under “Archived”.",
                "Its results and history stay.",
            ),
            "is archived.",
            ("draft", "stopped"),
            Engine.archive,
            final=True,
        ),
    }
)


def available_steps(record: ExperimentRecord) -> dict[str, LifecycleStep]:
    """Return the steps that can be taken now."""
    return {name: step for name, step in STEPS.items() if record.state in step.states}


@pages.get("/experiments/<key:key>/<any(start,resume,pause,archive):name>")
@needs("manager")
def confirm_step(key: str, name: str) -> ResponseReturnValue:
    """Ask for confirmation of a step."""
    record, step = services().engine.store.experiments.record(key), STEPS[name]
    if record.state not in step.states:
        raise WrongState(key, record.state, f"it cannot {name} now")
    consequences = list(step.consequences)
    if name == "archive" and record.shipped is not None:
        consequences.insert(
            0, "Everyone gets one version now. That ends: your sender's requests are refused."
        )
    return render_template(
        "experiment/confirm_step.html",
        record=record,
        name=name,
        step=step,
        consequences=consequences,
    )


@pages.post("/experiments/<key:key>/<any(start,resume,pause,archive):name>")
@needs("manager")
def take_step(key: str, name: str) -> ResponseReturnValue:
    """Take a step."""
    step = STEPS.get(name) or abort(404)
    engine = services().engine
    record = engine.store.experiments.record(key)
    if record.state not in step.states:  # resuming is no way to start a draft unseen
        raise WrongState(key, record.state, f"it cannot {name} now")
    step.take(engine, key, by=person().email)
    flash(f"{record.configuration.experiment.title} {step.done}")
    return redirect(url_for("pages.experiment", key=key))

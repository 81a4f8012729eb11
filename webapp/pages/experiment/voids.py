"""Pages of voids: what one actor did, taken out of learning and results, and put back."""

from datetime import UTC, datetime
from math import floor
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from msgspec import Struct

from bandits.actors import Actor
from bandits.errors import InvalidInput, NotFound, WrongState
from bandits.schemas import VoidedExperiment, VoidEntry
from bandits.store.values import ActorCounts, Deeds, ExperimentRecord
from webapp.pages import pages
from webapp.pages.access import needs, person
from webapp.pages.experiment.labels import arm_name
from webapp.pages.formatting import actor_name, plural
from webapp.services import services

_TIME = "a date and a time in UTC, such as 2026-11-22 09:00"


class TypedPeriod(Struct, frozen=True):
    """Actor and times as they are typed; an empty end is now."""

    actor: str
    since: str
    until: str

    def deeds(self, now: float) -> tuple[Deeds | None, dict[str, str]]:
        """Read them, as of now; return None with a message for each field that does not fit."""
        errors = {}
        since, until = _seconds(self.since), _seconds(self.until) if self.until else now
        if not self.actor:
            errors["actor"] = "choose whose emails and results are void"
        if since is None:
            errors["since"] = f"enter {_TIME}"
        if until is None:
            errors["until"] = f"enter {_TIME}, or leave it empty for now"
        elif until > now:
            errors["until"] = "this is in the future: enter a time that has passed"
        elif since is not None and since >= until:
            errors["until"] = "enter a time later than the first"
        if errors or since is None or until is None:
            return None, errors
        return Deeds(Actor(self.actor), since, until), {}


def _seconds(text: str) -> float | None:
    """Read a time in UTC as seconds since 1970, None where it is none."""
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _typed(seconds: float) -> str:
    """Write a time as a field for it has it: to the second before."""
    return datetime.fromtimestamp(floor(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S")


@pages.get("/experiments/<key:key>/voids")
@needs("admin")
def voids(key: str) -> ResponseReturnValue:
    """Show who did what, what of it is void, and the form to void more."""
    engine = services().engine
    record = engine.store.experiments.record(key)
    actors = engine.actors(key)
    actor = request.args.get("actor", "")
    first = next((a.first_at for a in actors if a.actor == actor), None)
    typed = TypedPeriod(actor, "" if first is None else _typed(first), "")
    return _page(record, actors, typed, {})


@pages.post("/experiments/<key:key>/voids/preview")
@needs("admin")
def preview_void(key: str) -> ResponseReturnValue:
    """Show what would leave, and ask for confirmation."""
    engine, form = services().engine, request.form
    record = engine.store.experiments.record(key)
    typed = TypedPeriod(*(form.get(name, "").strip() for name in ("actor", "since", "until")))
    deeds, errors = typed.deeds(engine.clock())
    if deeds is None:
        return _page(record, engine.actors(key), typed, errors), 422
    try:
        receipt = engine.void(deeds, by=person().email, experiment=key, dry_run=True)
    except InvalidInput:
        errors = {"actor": "nothing was done then, or it is void already"}
        return _page(record, engine.actors(key), typed, errors), 422
    except WrongState as error:
        return _page(record, engine.actors(key), typed, {"since": error.reason}), 422
    (part,) = receipt.experiments
    return render_template(
        "experiment/confirm_void.html",
        record=record,
        deeds=deeds,
        part=part,
        rows=_rows(record, part),
        period=(receipt.since, receipt.until),
    )


@pages.post("/experiments/<key:key>/voids")
@needs("admin")
def void_deeds(key: str) -> ResponseReturnValue:
    """Void what was confirmed."""
    form = request.form
    actor = form.get("actor", "")
    since, until = (form.get(name, type=float) for name in ("since", "until"))
    if not actor or since is None or until is None:
        raise InvalidInput.at("/since", "the form is not complete: go back and fill it in again")
    receipt = services().engine.void(
        Deeds(Actor(actor), since, until), by=person().email, experiment=key
    )
    (part,) = receipt.experiments
    emails, events = plural(part.decisions, "email"), plural(part.events, "event")
    flash(f"{emails} and {events} of {actor_name(actor)} are void. You can restore them below.")
    return redirect(url_for("pages.voids", key=key))


@pages.get("/experiments/<key:key>/voids/<int(max=2147483647):number>/restore")
@needs("admin")
def confirm_restore(key: str, number: int) -> ResponseReturnValue:
    """Ask for confirmation before a void is restored."""
    record = services().engine.store.experiments.record(key)
    entry = _entry(key, number)
    return render_template("experiment/confirm_restore.html", record=record, entry=entry)


@pages.post("/experiments/<key:key>/voids/<int(max=2147483647):number>/restore")
@needs("admin")
def restore_void(key: str, number: int) -> ResponseReturnValue:
    """Restore a void."""
    entry = services().engine.restore(_entry(key, number).id, by=person().email)
    flash(f"{plural(entry.decisions, 'email')} of {actor_name(entry.actor)} count again.")
    if entry.given_on:
        flash(f"{plural(entry.given_on, 'email')} of these got new ids: later emails have theirs.")
    return redirect(url_for("pages.voids", key=key))


def _entry(key: str, number: int) -> VoidEntry:
    """Find a void of an experiment.

    Raises:
        NotFound: it has none of this number.
    """
    for entry in services().engine.voids(key):
        if entry.id == number:
            return entry
    raise NotFound("void", str(number))


def _page(
    record: ExperimentRecord,
    actors: list[ActorCounts],
    typed: TypedPeriod,
    errors: dict[str, str],
) -> str:
    return render_template(
        "experiment/voids.html",
        record=record,
        actors=actors,
        entries=services().engine.voids(record.key),
        typed=typed,
        errors=errors,
        tab="history",
    )


def _rows(record: ExperimentRecord, part: VoidedExperiment) -> list[dict[str, Any]]:
    """List what leaves by version, those of which something does."""
    experiment = record.configuration.experiment
    rows = [
        {"label": arm_name(experiment, a.variants), "decisions": a.decisions, "events": a.events}
        for a in part.arms
        if a.decisions or a.events
    ]
    if part.held_out:
        events = part.events - sum(a.events for a in part.arms)
        rows.append({"label": "Control group", "decisions": part.held_out, "events": events})
    return rows

"""Submission of a draft: it creates or edits the experiment that it declares."""

from msgspec.structs import replace

from bandits.errors import AlreadyExists, Fault, FixedOnceStarted, InvalidInput, StaleEdit
from bandits.experiment import Experiment
from bandits.store.values import ExperimentRecord
from webapp.pages.access import person
from webapp.pages.form.draft_store import DraftService, SavedDraft, with_version
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.parse import parse_experiment
from webapp.pages.form.rows import F, without_empty_rows
from webapp.pages.form.slugs import slug, unused_key
from webapp.pages.form.validate import map_faults
from webapp.services import services


def with_key(form: F) -> F:
    """Return the form with a key made from its name, unless it has one."""
    if form.key.strip() or not slug(form.name):
        return form
    taken = {r.key for r in services().engine.store.experiments.records()}
    return replace(form, key=unused_key(slug(form.name), taken))


def draft_faults(form: TypedDraft) -> tuple[Fault, ...]:
    """List the faults of a draft; empty rows are none."""
    try:
        parse_experiment(with_key(without_empty_rows(form)))
    except InvalidInput as error:
        return error.faults
    return ()


def submit(drafts: DraftService, draft: SavedDraft, *, start: bool) -> ExperimentRecord:
    """Create the experiment of a draft, or change the one that it edits; then end the draft.

    Raises:
        InvalidInput: each fault is at the name of its field, or at "" where it is of none.
    """
    form = with_key(draft.form)
    experiment = parse_experiment(form)
    engine, by = services().engine, person().email
    if experiment.ends_at and experiment.ends_at.timestamp() <= engine.clock():
        raise InvalidInput.at("ends_at/local", "has passed already; choose a later end")
    try:
        # From here on, a second press of the button meets a key that is taken.
        draft = drafts.save(draft, form)
        record = (
            _edit(drafts, draft, experiment) if form.edits else engine.create(experiment, by=by)
        )
    except AlreadyExists as error:
        detail = f"there is an experiment {error.key!r} already"
        raise InvalidInput.at("key", detail) from None
    except StaleEdit:
        detail = "somebody saved this draft a moment ago: look at it once more, then start"
        raise InvalidInput.at("", detail) from None
    if start:
        record = engine.start(record.key, by=by)
    drafts.end(draft.stored.id)
    return record


def _edit(drafts: DraftService, draft: SavedDraft, experiment: Experiment) -> ExperimentRecord:
    """Change the experiment that a draft edits; after a warning, a second try replaces it."""
    engine = services().engine
    version = int(draft.form.version) if draft.form.version.isdecimal() else 0
    try:
        return engine.edit(draft.form.edits, experiment, version=version, by=person().email)
    except FixedOnceStarted as error:
        raise InvalidInput(map_faults(error.faults, draft.form)) from None
    except StaleEdit as error:
        drafts.save(draft, with_version(draft.form, error.current))
        detail = (
            "the campaign itself was changed since this draft was made; its history says how."
            " Press again to replace that with this draft"
        )
        raise InvalidInput.at("", detail) from None

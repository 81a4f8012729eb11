"""From a draft to the experiment that it declares."""

from msgspec.structs import replace

from bandits.errors import AlreadyExists, Fault, FixedOnceStarted, InvalidInput, StaleEdit
from bandits.experiment import Experiment
from bandits.store.values import ExperimentRecord
from webapp.pages.access import person
from webapp.pages.form.draft_store import DraftService, SavedDraft, with_version
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.parse import declare
from webapp.pages.form.rows import F, without_empty_rows
from webapp.pages.form.slugs import slug, unused
from webapp.pages.form.validate import placed
from webapp.services import services


def with_key(form: F) -> F:
    """Make a key from the name where none was typed."""
    if form.key.strip() or not slug(form.name):
        return form
    taken = {r.key for r in services().engine.store.experiments.records()}
    return replace(form, key=unused(slug(form.name), taken))


def faults_of(form: TypedDraft) -> tuple[Fault, ...]:
    """List what is still to be done before a draft can start; empty rows do not count."""
    try:
        declare(with_key(without_empty_rows(form)))
    except InvalidInput as error:
        return error.faults
    return ()


def conclude(keeper: DraftService, kept: SavedDraft, *, start: bool) -> ExperimentRecord:
    """Make the experiment that a draft declares, or change the one that it edits; end the draft.

    Raises:
        InvalidInput: each fault is at the name of its field, or at "" where it is of none.
    """
    form = with_key(kept.form)
    experiment = declare(form)
    engine, by = services().engine, person().email
    if experiment.ends_at and experiment.ends_at.timestamp() <= engine.clock():
        raise InvalidInput.at("ends_at/local", "has passed already; choose a later end")
    try:
        # From here on a second person who presses the button finds the key taken.
        kept = keeper.save(kept, form)
        record = _edit(keeper, kept, experiment) if form.edits else engine.create(experiment, by=by)
    except AlreadyExists as error:
        detail = f"there is an experiment {error.key!r} already"
        raise InvalidInput.at("key", detail) from None
    except StaleEdit:
        detail = "somebody saved this draft a moment ago: look at it once more, then start"
        raise InvalidInput.at("", detail) from None
    if start:
        record = engine.start(record.key, by=by)
    keeper.end(kept.draft.id)
    return record


def _edit(keeper: DraftService, kept: SavedDraft, experiment: Experiment) -> ExperimentRecord:
    """Change the experiment that a draft edits; who is told that it changed may do so again."""
    engine = services().engine
    version = int(kept.form.version) if kept.form.version.isdecimal() else 0
    try:
        return engine.edit(kept.form.edits, experiment, version=version, by=person().email)
    except FixedOnceStarted as error:
        raise InvalidInput(placed(error.faults, kept.form)) from None
    except StaleEdit as error:
        keeper.save(kept, with_version(kept.form, error.current))
        detail = (
            "the campaign itself was changed since this draft was made; its history says how."
            " Press again to replace that with this draft"
        )
        raise InvalidInput.at("", detail) from None

"""Drafts of the form: stored step by step, so that two people at once lose nothing."""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import NotFound, StaleEdit
from storage.drafts import Draft, DraftTable
from webapp.pages.form import form_model, steps
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.rows import without_empty_rows

_ATTEMPTS = 20  # another step may be saved in between; each attempt starts from the newest draft


class SavedDraft(Struct, frozen=True):
    """A draft as it is stored, and the form in its text."""

    stored: Draft
    form: TypedDraft


class DraftConflict(Exception):
    """The same step was saved by somebody else since it was opened; `draft` is the newest draft."""

    def __init__(self, draft: SavedDraft) -> None:
        self.draft = draft
        super().__init__(f"draft {draft.stored.id!r} was saved by {draft.stored.changed_by}")


class DraftService:
    """Drafts, read and written in the name of one person."""

    def __init__(self, drafts: DraftTable, at: float, by: str) -> None:
        """Write to `drafts` in the name of `by`, at the time `at`."""
        self._table, self._at, self._by = drafts, at, by

    def open(self, draft_id: str) -> SavedDraft:
        """Read a draft.

        Raises:
            NotFound: no draft has this id.
        """
        stored = self._table.read(draft_id)
        return SavedDraft(stored, msgspec.json.decode(stored.body, type=TypedDraft))

    def add(self, form: TypedDraft) -> SavedDraft:
        """Store a new draft."""
        return SavedDraft(self._table.add(_encode(form), at=self._at, by=self._by), form)

    def save(self, draft: SavedDraft, form: TypedDraft) -> SavedDraft:
        """Replace the form of a draft.

        Raises:
            StaleEdit: somebody else saved the draft since it was read.
        """
        if form == draft.form:
            return draft
        version, body = draft.stored.version, _encode(form)
        stored = self._table.save(draft.stored.id, body, version=version, at=self._at, by=self._by)
        return SavedDraft(stored, form)

    def save_step(
        self, draft_id: str, step: str, form: TypedDraft, base: str, *, done: bool
    ) -> SavedDraft:
        """Save the fields of one step.

        Args:
            draft_id: the draft.
            step: the step; other people may type at other steps of the same draft.
            form: a form with the step's fields.
            base: digest of the step as it was when it was opened.
            done: the person is done with the step for now; a script that saves while they type
                is not.

        Raises:
            DraftConflict: somebody changed this step in the meantime; nothing was saved.
            NotFound: the draft has ended.
        """
        for _ in range(_ATTEMPTS):
            draft = self.open(draft_id)
            merged = steps.merge_step(draft.form, form, step)
            newest = steps.step_digest(draft.form, step)
            if base != newest and steps.step_digest(merged, step) != newest:
                raise DraftConflict(draft)
            try:
                return self.save(draft, steps.mark_visited(merged, step) if done else merged)
            except StaleEdit:
                continue
        raise DraftConflict(self.open(draft_id))

    def restart(self, step: str, form: TypedDraft) -> SavedDraft:
        """Store the fields of a step whose draft has ended in a new draft."""
        blank = form_model.new_form(TypedDraft)
        return self.add(steps.mark_visited(steps.merge_step(blank, form, step), step))

    def drop_empty_rows(self, draft: SavedDraft) -> SavedDraft:
        """Drop the empty rows of a draft, unless somebody else saves it at this moment."""
        try:
            return self.save(draft, without_empty_rows(draft.form))
        except StaleEdit:
            return self.open(draft.stored.id)

    def all(self) -> list[SavedDraft]:
        """List the drafts, the one that was saved last first; unreadable ones are left out."""
        drafts = []
        for stored in self._table.all():
            try:
                form = msgspec.json.decode(stored.body, type=TypedDraft)
            except msgspec.DecodeError:  # of a version with other fields
                continue
            drafts.append(SavedDraft(stored, form))
        return drafts

    def end(self, draft_id: str) -> None:
        """End a draft; a draft that has ended already is no error."""
        try:
            self._table.remove(draft_id, at=self._at, by=self._by)
        except NotFound:
            return


def draft_title(form: TypedDraft) -> str:
    """Return the name of a draft, or words for a missing one."""
    return form.name.strip() or "Without a name"


def with_version(form: TypedDraft, version: int) -> TypedDraft:
    """Return the form of an edit with `version` as the configuration that it starts from."""
    return replace(form, version=str(version))


def _encode(form: TypedDraft) -> str:
    return msgspec.json.encode(form).decode()

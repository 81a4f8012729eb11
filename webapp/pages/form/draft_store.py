"""Keeping what is typed at a step: nothing is lost, also where two people type at once."""

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bandits.errors import NotFound, StaleEdit
from storage.drafts import Draft, DraftTable
from webapp.pages.form import form_model, steps
from webapp.pages.form.form_model import TypedDraft
from webapp.pages.form.rows import without_empty_rows

_ATTEMPTS = 20  # another step's save may come between; each goes on from what it left


class SavedDraft(Struct, frozen=True):
    """A draft as it is stored, and what its text says."""

    draft: Draft
    form: TypedDraft


class DraftConflict(Exception):
    """Somebody saved the same step since it was opened; `kept` is what they saved."""

    def __init__(self, kept: SavedDraft) -> None:
        self.kept = kept
        super().__init__(f"draft {kept.draft.id!r} was saved by {kept.draft.changed_by}")


class DraftService:
    """Keeps drafts in the name of one person."""

    def __init__(self, drafts: DraftTable, at: float, by: str) -> None:
        """Keep in `drafts`, now, what `by` types."""
        self._drafts, self._at, self._by = drafts, at, by

    def open(self, draft_id: str) -> SavedDraft:
        """Read a draft.

        Raises:
            NotFound: there is none of this id.
        """
        draft = self._drafts.read(draft_id)
        return SavedDraft(draft, msgspec.json.decode(draft.body, type=TypedDraft))

    def add(self, form: TypedDraft) -> SavedDraft:
        """Keep a new draft."""
        return SavedDraft(self._drafts.add(_packed(form), at=self._at, by=self._by), form)

    def save(self, kept: SavedDraft, form: TypedDraft) -> SavedDraft:
        """Replace what is kept.

        Raises:
            StaleEdit: somebody else did, since `kept` was read.
        """
        if form == kept.form:
            return kept
        draft = kept.draft
        body = _packed(form)
        saved = self._drafts.save(draft.id, body, version=draft.version, at=self._at, by=self._by)
        return SavedDraft(saved, form)

    def keep_step(
        self, draft_id: str, step: str, given: TypedDraft, base: str, *, done: bool
    ) -> SavedDraft:
        """Save what was `given` at a step of which `base` names what it was made from.

        People are `done` with a step for now, scripts that save while one types are not. Who types
        at another step of the same draft comes in nobody's way.

        Raises:
            Theirs: somebody changed this very step in the meantime; nothing was saved.
            NotFound: the draft has ended.
        """
        for _ in range(_ATTEMPTS):
            kept = self.open(draft_id)
            mine = steps.merged(kept.form, given, step)
            stored = steps.digest(kept.form, step)
            if base != stored and steps.digest(mine, step) != stored:
                raise DraftConflict(kept)
            try:
                return self.save(kept, steps.visited(mine, step) if done else mine)
            except StaleEdit:
                continue
        raise DraftConflict(self.open(draft_id))

    def start_over(self, step: str, given: TypedDraft) -> SavedDraft:
        """Keep what was typed for a draft that has ended in a draft of its own."""
        blank = form_model.fresh(TypedDraft)
        return self.add(steps.visited(steps.merged(blank, given, step), step))

    def tidy(self, kept: SavedDraft) -> SavedDraft:
        """Drop the rows in which nothing was typed, unless somebody types at this moment."""
        try:
            return self.save(kept, without_empty_rows(kept.form))
        except StaleEdit:
            return self.open(kept.draft.id)

    def listed(self) -> list[SavedDraft]:
        """List the drafts, the one that was saved last first; unreadable ones are left out."""
        found = []
        for draft in self._drafts.all():
            try:
                found.append(SavedDraft(draft, msgspec.json.decode(draft.body, type=TypedDraft)))
            except msgspec.DecodeError:  # of a version of ours that typed it otherwise
                continue
        return found

    def end(self, draft_id: str) -> None:
        """End a draft; that it has ended already is no matter."""
        try:
            self._drafts.remove(draft_id, at=self._at, by=self._by)
        except NotFound:
            return


def draft_title(form: TypedDraft) -> str:
    """Say what to call a draft that may not have a name yet."""
    return form.name.strip() or "Without a name"


def with_version(form: TypedDraft, version: int) -> TypedDraft:
    """Make the draft of an edit one that was made from configuration `version`."""
    return replace(form, version=str(version))


def _packed(form: TypedDraft) -> str:
    return msgspec.json.encode(form).decode()

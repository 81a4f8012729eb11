"""Reading, erasing and removing what is stored of people."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from bandits.store.fold import Fold, Removal
from bandits.store.values import RemovalResult, SubjectPage


class DeletionPort(Protocol):
    """Who tells what is stored of a subject, erases it, and lets go of what is old."""

    def subject(self, subject_id: str, *, after: int = 0, limit: int) -> SubjectPage:
        """Read a subject's decisions in every experiment, at most `limit` after a place.

        This may go through the whole log.
        """
        ...

    def subject_decisions(self, subject_id: str) -> dict[str, list[str]]:
        """Find the ids of a subject's decisions, by experiment; this may go through the log."""
        ...

    def erase(
        self, key: str, ids: Sequence[str], *, now: float, by: str
    ) -> AbstractContextManager[Fold]:
        """Erase decisions and all that followed them, in one transaction.

        Args:
            key: the experiment.
            ids: its decisions; those that are not there any more are passed over.
            now: seconds since 1970.
            by: who does it, for the audit log.

        Returns:
            A fold that takes in only that they are cancelled. Where something is `due`, it has to
            be saved, or nothing is erased.

        Raises:
            NotFound: there is none of this key.
        """
        ...

    def prune(self, key: str, *, before: float, most: int) -> int:
        """Take the arrays of at most `most` snapshots from before a time, the oldest first.

        The newest keeps its arrays, and each its tally.

        Returns:
            How many were taken.
        """
        ...

    def remove(
        self,
        key: str,
        *,
        before: float,
        most: int,
        following: tuple[float, int] | None,
        keep: Callable[[Removal], None],
    ) -> RemovalResult:
        """Remove decisions from before a time that nothing can change any more, the oldest first.

        They are folded and their reward window is closed, or they never counted. Of an experiment
        that decides once per subject none is removed before it is stopped.

        Args:
            key: the experiment.
            before: only decisions whose clocks started before, or that were made before and never
                started; at least the reward window ago.
            most: about how many to look at in one transaction.
            following: where the portion before this one ended.
            keep: saves what is known of them; called in the transaction, where there are any.

        Raises:
            NotFound: there is none of this key.
        """
        ...

"""Errors that this package raises on purpose.

::

    BanditsError
    ├── InvalidInput        the input does not fit; each place is named
    ├── NotFound            no such experiment, decision, key or snapshot
    ├── Conflict            the input fits, but not with what is stored
    │   ├── AlreadyExists   the key is taken
    │   ├── WrongState      not in this state of the experiment's life
    │   ├── FixedOnceStarted  a change that a started experiment does not allow
    │   ├── IdReused        the same id came before with another body
    │   └── StaleEdit       another edit changed it since it was read
    ├── Unavailable         the store cannot record at the moment; try again
    │   ├── NotUpgraded     its database is of an older version than this one
    │   └── NoDatabase      its database is not where it is looked for
    ├── NotDerivable        the data needed to answer has been erased
    ├── DuplicatePolicy     two policies were registered under one name
    └── ShadowedPackage     another package is imported in place of one of ours
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct


class Fault(Struct, frozen=True):
    """One fault of an input: `pointer` is an RFC 6901 JSON pointer to its place."""

    pointer: str
    detail: str


class BanditsError(Exception):
    """Base of the errors that this package raises on purpose."""


class InvalidInput(BanditsError):
    """The input does not fit; `faults` names each place and what would fit there."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.detail}" for p in self.faults))

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidInput":
        """Make the error for a single place."""
        return cls([Fault(pointer, detail)])

    def under(self, prefix: str) -> "InvalidInput":
        """Move every pointer below `prefix`, for a part checked on its own."""
        return InvalidInput(Fault(prefix + p.pointer, p.detail) for p in self.faults)


class NotFound(BanditsError):
    """No `kind` is called `key`."""

    def __init__(self, kind: str, key: str, hint: str = "") -> None:
        self.kind = kind
        self.key = key
        super().__init__(f"there is no {kind} {key!r}{hint and f': {hint}'}")


class Conflict(BanditsError):
    """The input fits by itself, but not with what is stored."""


class AlreadyExists(Conflict):
    """The key is taken."""

    def __init__(self, kind: str, key: str) -> None:
        self.kind = kind
        self.key = key
        super().__init__(f"the {kind} {key!r} exists already")


class WrongState(Conflict):
    """The experiment's state does not allow this."""

    def __init__(self, key: str, state: str, reason: str) -> None:
        self.key = key
        self.state = state
        self.reason = reason
        super().__init__(f"experiment {key!r} is {state}; {reason}")


class FixedOnceStarted(Conflict):
    """A change that a started experiment does not allow; `faults` names each place."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{f.pointer}: {f.detail}" for f in self.faults))


class IdReused(Conflict):
    """An id that came before came again with another body.

    Attributes:
        rows: positions of all such rows among those of the call, where they are known.
    """

    def __init__(self, kind: str, key: str, rows: Sequence[int] = ()) -> None:
        self.kind = kind
        self.key = key
        self.rows = rows
        super().__init__(f"{kind} {key!r} was used before with another body")


class StaleEdit(Conflict):
    """The configuration changed since it was read."""

    def __init__(self, key: str, edited: int, current: int) -> None:
        self.key = key
        self.edited = edited
        self.current = current
        super().__init__(
            f"experiment {key!r} is at configuration {current}, the edit was made on {edited}"
        )


class Unavailable(BanditsError):
    """The store cannot record at the moment; nothing was stored."""

    def __init__(self, reason: str, retry_after_seconds: int = 1) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(reason)

    @property
    def log_text(self) -> str:
        """Reason for the server's log."""
        return str(self)


class NotUpgraded(Unavailable):
    """The database is of an older version; a retry helps only once it is upgraded.

    Attributes:
        detail: the database's own words, which are for the server's log alone.
    """

    def __init__(
        self,
        reason: str = "the database is of an older version than the server; `bandits db upgrade`"
        " upgrades it, and so does starting `bandits serve`",
        *,
        detail: object = "",
    ) -> None:
        self.detail = str(detail)
        super().__init__(reason, retry_after_seconds=60)

    @property
    def log_text(self) -> str:
        """Reason for the server's log, with the database's own words."""
        return f"{self}: {self.detail}" if self.detail else str(self)


class NoDatabase(Unavailable):
    """The database's file is not there; a retry helps only once it is back.

    The reason names the file, for the operator.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retry_after_seconds=60)


class NotDerivable(BanditsError):
    """A decision cannot be derived again, since data that it rested on was erased."""


class DuplicatePolicy(BanditsError):
    """Two policies were registered under one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"two policies are called {name!r}")


class ShadowedPackage(BanditsError):
    """Another package of this `name` comes first on Python's path: `stranger` before `expected`."""

    def __init__(self, name: str, stranger: str, expected: str) -> None:
        self.name = name
        self.stranger = stranger
        self.expected = expected
        super().__init__(
            f"another package is called {name!r}: {stranger} comes before {expected} on Python's"
            " path; run without it, such as with another PYTHONPATH or in an environment of its own"
        )

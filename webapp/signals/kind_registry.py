"""Registry of the kinds of senders: a new file in `kinds` registers itself by its ``KIND``."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from bandits.errors import NotFound
from webapp.signals import kinds
from webapp.signals.connection_kind import ConnectionKind


@cache
def connection_kinds() -> Mapping[str, ConnectionKind]:
    """Return every kind by name, in alphabetical order."""
    modules = (import_module(f"{kinds.__name__}.{m.name}") for m in iter_modules(kinds.__path__))
    by_name: dict[str, ConnectionKind] = {m.KIND.name: m.KIND for m in modules}
    return MappingProxyType(dict(sorted(by_name.items())))


def connection_kind(name: str) -> ConnectionKind:
    """Return a kind.

    Raises:
        NotFound: there is none of this name.
    """
    try:
        return connection_kinds()[name]
    except KeyError:
        hint = f"there are {', '.join(connection_kinds())}"
        raise NotFound("kind of connection", name, hint) from None

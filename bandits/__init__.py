"""Bandits: bandit experiments for marketing email; the domain, the engine and the client.

Stable between minor versions are the names below with their documented methods, the values that
these take and return (`bandits.schemas`, `bandits.results`), the errors of `bandits.errors`, and
what policies of others build on: `bandits.policy`, `bandits.problem`, `bandits.registry` and
`bandits.statistics`. Everything else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bandits.client import AsyncClient, Client
    from bandits.engine import Engine
    from bandits.errors import BanditsError
    from bandits.experiment import Experiment

__all__ = ["AsyncClient", "BanditsError", "Client", "Engine", "Experiment"]

_MODULES = {
    "AsyncClient": "bandits.client",
    "BanditsError": "bandits.errors",
    "Client": "bandits.client",
    "Engine": "bandits.engine",
    "Experiment": "bandits.experiment",
}


def __getattr__(name: str) -> Any:
    """Import a name where it is used: a policy needs no engine, and a sender no server."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)

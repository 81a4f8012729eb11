"""Registry of policies, discovered in the entry-point group ``bandits.policies``."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, TypeVar, cast

import msgspec

from bandits.errors import DuplicatePolicy, Fault, InvalidInput
from bandits.identifiers import pointer
from bandits.installation import refuse_strangers
from bandits.policy import AnyPolicy, Parameters

_registered: dict[str, type[Parameters]] = {}
_INFINITE = (float("-inf"), float("inf"))

C = TypeVar("C", bound=type[Parameters])


def register(
    name: str, *, label: str, support: tuple[float, float] = _INFINITE, advised: str = ""
) -> Callable[[C], C]:
    """Register a policy class under `name`; its docstring's first line is its purpose.

    Args:
        name: its name in scenarios and the API.
        label: its name on pages.
        support: the interval that rewards must lie in.
        advised: its case as first choice: ``rates``, ``values``, ``parts`` (many
            versions), ``recipients`` (who differ), or ``nothing in time`` (results after the last
            send).

    Raises:
        DuplicatePolicy: another class has this name.
    """

    def add_policy(policy: C) -> C:
        registered = _registered.get(name)
        if registered is not None and (registered.__module__, registered.__qualname__) != (
            policy.__module__,
            policy.__qualname__,
        ):
            raise DuplicatePolicy(name)
        policy.name, policy.label, policy.support = name, label, support
        policy.advised = advised
        _registered[name] = policy
        return policy

    return add_policy


@cache
def _discover() -> None:
    refuse_strangers()
    for entry in entry_points(group="bandits.policies"):
        entry.load()


def policies() -> Mapping[str, type[Parameters]]:
    """Return every policy class by name, in alphabetical order."""
    _discover()
    return MappingProxyType(dict(sorted(_registered.items())))


def make(name: str, params: Mapping[str, Any] | None = None) -> AnyPolicy:
    """Make the policy called `name` with these parameters.

    Raises:
        InvalidInput: there is no such policy (at ``/name``), or a parameter does not fit (at
            ``/params/...``).
    """
    by_name = policies()
    if name not in by_name:
        raise InvalidInput.at("/name", f"unknown policy {name!r}; known are {', '.join(by_name)}")
    policy = by_name[name]
    params = dict(params or {})
    try:
        _check_names(policy, params)
        return cast("AnyPolicy", policy(**params))
    except InvalidInput as error:
        raise error.under("/params") from None


def _check_names(policy: type[Parameters], params: Mapping[str, Any]) -> None:
    """Refuse parameters that `policy` does not take, and the lack of those it needs."""
    fields = {f.name: f for f in msgspec.structs.fields(policy)}
    taken = ", ".join(sorted(fields)) or "none"
    faults = [
        Fault(pointer(key), f"unknown parameter of {policy.name}; it takes {taken}")
        for key in params
        if key not in fields
    ]
    faults += [
        Fault(pointer(key), "is required")
        for key, field in fields.items()
        if field.required and key not in params
    ]
    if faults:
        raise InvalidInput(faults)

"""Roles of people, and what API keys may do by the roles of their owners."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Role = Literal["viewer", "manager", "admin"]
Scope = Literal["choose", "reward", "manage", "read", "propose"]

ROLES: tuple[Role, ...] = ("viewer", "manager", "admin")  # each may do all that those before may
RANKS: Mapping[Role, int] = MappingProxyType({role: rank for rank, role in enumerate(ROLES)})
# The least role whose people may do on pages what the scope opens in the API. Some of what
# `manage` opens takes more: see `Operation.role`.
SCOPE_ROLES: Mapping[Scope, Role] = MappingProxyType(
    {
        "read": "viewer",
        "choose": "manager",
        "reward": "manager",
        "manage": "manager",
        "propose": "manager",
    }
)


def includes(role: Role, needed: Role) -> bool:
    """Return true where people of a role may do all that those of another may."""
    return RANKS[role] >= RANKS[needed]

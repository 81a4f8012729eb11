"""Accounts: users, their sessions, and the API keys of programs."""

from storage.accounts.identities import Identity
from storage.accounts.roles import ROLES, Role
from storage.accounts.users import AccountStore, User

__all__ = ["ROLES", "AccountStore", "Identity", "Role", "User"]

"""Accounts: users, their sessions, and the API keys of programs."""

from storage.accounts.identities import Identity
from storage.accounts.users import AccountStore, Role, User

__all__ = ["AccountStore", "Identity", "Role", "User"]

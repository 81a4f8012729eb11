"""Accounts: users, their sessions, and the API keys of programs."""

from storage.accounts.users import AccountStore, Role, User

__all__ = ["AccountStore", "Role", "User"]

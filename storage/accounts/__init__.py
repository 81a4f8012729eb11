"""Who may do what: people, what they are signed in with, and the keys of programs."""

from storage.accounts.accounts import Accounts, Role, User

__all__ = ["Accounts", "Role", "User"]

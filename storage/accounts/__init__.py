"""Who may do what: people, what they are signed in with, and the keys of programs."""

from storage.accounts.users import AccountStore, Role, User

__all__ = ["AccountStore", "Role", "User"]

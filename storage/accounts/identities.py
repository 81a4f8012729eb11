"""Identities: who a user is at a provider that people sign in by."""

from msgspec import Struct
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, NotFound
from storage.audit_log import record_change
from storage.databases import Database, Transaction
from storage.schema import identities, users


class Identity(Struct, frozen=True):
    """Identity of a person: a provider's address, and the subject by which it knows them."""

    issuer: str
    subject: str


class IdentityStore:
    """The identities of one database. Any method may raise `Unavailable`."""

    def __init__(self, database: Database) -> None:
        """Work on `database`; `AccountStore.identities` is one."""
        self._database = database

    def user_id(self, identity: Identity) -> int:
        """Find the number of an identity's user.

        Raises:
            NotFound: nobody has signed in by it.
        """
        query = select(identities.c.user_id).where(
            identities.c.issuer == identity.issuer, identities.c.subject == identity.subject
        )
        with self._database.reading() as transaction:
            number = transaction.execute(query).scalar_one_or_none()
        if number is None:
            raise NotFound("identity", "…")
        return int(number)

    def has_admin(self, issuer: str) -> bool:
        """Return True if an admin signs in by a provider."""
        query = select(identities.c.id).join(users, users.c.id == identities.c.user_id)
        query = query.where(identities.c.issuer == issuer, users.c.role == "admin").limit(1)
        with self._database.reading() as transaction:
            return transaction.execute(query).first() is not None

    def connect(self, user_id: int, email: str, identity: Identity, *, at: float) -> None:
        """Give an identity to a user, who proved to be both.

        Raises:
            AlreadyExists: somebody has it.
        """
        try:
            with self._database.writing() as transaction:
                insert_identity(transaction, user_id, identity, at)
                after = {"provider": identity.issuer}
                record_change(transaction, "connect", f"user:{email}", at=at, by=email, after=after)
        except IntegrityError:
            raise AlreadyExists("identity", "…") from None


def insert_identity(transaction: Transaction, user_id: int, identity: Identity, at: float) -> None:
    """Insert an identity, in the transaction that makes or finds its user."""
    row = {
        "issuer": identity.issuer,
        "subject": identity.subject,
        "user_id": user_id,
        "created_at": at,
    }
    transaction.execute(insert(identities).values(row))


def remove_identities(transaction: Transaction, user_id: int) -> None:
    """Remove all identities of a user, in the transaction that removes the user."""
    transaction.execute(delete(identities).where(identities.c.user_id == user_id))

"""Metadata of the tables: naming conventions, types of numbers and ids, and data of subjects."""

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Integer,
    MetaData,
    Text,
)
from sqlalchemy.dialects import postgresql

# SQLite numbers rows by itself only where the type is called INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")
# Bytes compare alike in Python and in the database, so rows can be sorted in either.
Identifier = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class SubjectData(Struct, frozen=True):
    """Declaration of a table whose rows are about subjects: what becomes of these rows.

    Attributes:
        export: where a subject's rows are read.
        erasure: how they are erased with the subject.
        retention: when they are removed otherwise.
    """

    export: str
    erasure: str
    retention: str


SUBJECT_DATA = "subject data"  # under this name a table's `info` has the declaration

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

"""Tables of links in emails: keys that sign them, hosts, unsubscribes, and opt-outs."""

from sqlalchemy import BigInteger, Column, Double, LargeBinary, Table, Text

from storage.schema.metadata import SUBJECT_DATA, Identifier, Serial, SubjectData, metadata

TRACKING_COUNTS = (
    "recorded",
    "repeated",
    "late",
    "without_decision",
    "expired",
    "refused",
    "machine",
)

tracking_keys = Table(
    "tracking_keys",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key_id", Identifier, nullable=False, unique=True),  # which each token names
    Column("name", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),  # as `storage.connections.encryption` seals
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("replaced_at", Double),  # by a rotation: its links go on to work and to count
    Column("revoked_at", Double),  # its links lead on, and count no more
    Column("event_at", Double),  # the last event of its links
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in TRACKING_COUNTS),
    sqlite_autoincrement=True,
)

link_hosts = Table(  # that tracked links may lead to
    "link_hosts",
    metadata,
    Column("host", Identifier, primary_key=True),
    Column("added_at", Double, nullable=False),
    Column("added_by", Text, nullable=False),
)

# Hashes of the ids of erased decisions, under a secret. No later decision under such an id gets
# what the links of their emails report, and these are followed for years: they are kept for good.
erased_decisions = Table(
    "erased_decisions",
    metadata,
    Column("mark", LargeBinary, primary_key=True),
    sqlite_with_rowid=False,
)

unsubscribes = Table(  # for senders to take over
    "unsubscribes",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("decision_id", Identifier, nullable=False, unique=True),
    Column("at", Double, nullable=False, index=True),
    sqlite_autoincrement=True,
    info={
        SUBJECT_DATA: SubjectData(
            export="by the decision's event `unsubscribe`",
            erasure="`SubjectStore.erase_signals`, by the ids of the subject's decisions",
            retention="`TrackedLinkStore.remove_expired`, after 400 days",
        )
    },
)

# Subjects whose data no choice may use. A row without a subject says that another one was removed:
# readers that go on from the last number they know start anew there.
opt_outs = Table(
    "opt_outs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("subject", LargeBinary, unique=True),
    Column("at", Double, nullable=False),
    sqlite_autoincrement=True,
    info={
        SUBJECT_DATA: SubjectData(
            export="`SubjectStore.opted_out_at`, by the hash of the subject",
            erasure="`SubjectStore.erase_opt_out`",
            retention="never: an objection holds until the subject takes it back",
        )
    },
)

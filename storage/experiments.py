"""Experiments: their records, their configurations and their states.

To read a record for every single choice costs more than the choice. A record that was read within
the last second is good enough to choose under, since the transaction that appends the decision
checks it: each decision is committed under the configuration and in the state of that moment. A new
snapshot is taken up by the choice after it.
"""

import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, NotFound, StaleEdit, WrongState
from bandits.guardrails import GUARD
from bandits.store import StaleRead
from bandits.store.values import DataQualityCounts, ExperimentRecord, State
from bandits.versions import Configuration
from storage.audit_log import record_change
from storage.databases import Database, NamedRow, Transaction, write_again
from storage.opt_outs import OptOutReader
from storage.schema import QUALITY_COUNTS, configurations, experiments

RECENT_SECONDS = 1.0
_MOST_DECODED = 500  # configurations

# In the order of the record's fields.
_COLUMNS = (
    experiments.c.id,
    experiments.c.key,
    experiments.c.state,
    experiments.c.salt,
    experiments.c.configuration_version,
    experiments.c.learned_version,
    experiments.c.created_at,
    experiments.c.started_at,
    experiments.c.stopped_at,
    experiments.c.shipped,
    experiments.c.keeps_control,
    experiments.c.voided,
    *(experiments.c[name] for name in QUALITY_COUNTS),
)
_BY_KEY = select(*_COLUMNS).where(experiments.c.key == bindparam("of_key"))
_BY_ID = select(*_COLUMNS).where(experiments.c.id == bindparam("of_id"))
_FOUND_BY_SUBJECT = (
    select(*_COLUMNS)
    .where(experiments.c.attribution.is_not(None))
    .order_by(experiments.c.id.desc())
)
_TO_CHANGE = _BY_KEY.with_for_update()
_ID = _BY_KEY.with_only_columns(experiments.c.id)
_CONFIGURATION = select(configurations.c.body).where(
    configurations.c.experiment_id == bindparam("of_id"),
    configurations.c.version == bindparam("of_version"),
)
_CURRENT = select(
    experiments.c.state,
    experiments.c.configuration_version,
    experiments.c.shipped,
    experiments.c.learned_version,
).where(experiments.c.id == bindparam("of_id"))


class RecordCache:
    """Records of experiments that were read within the last second."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = Lock()
        self._records: dict[str, tuple[float, ExperimentRecord | None]] = {}

    def get(self, key: str) -> ExperimentRecord | None:
        """Return an experiment's record, None where it has to be read."""
        at, record = self._records.get(key, (0.0, None))
        return record if time.monotonic() - at < RECENT_SECONDS else None

    def keep(self, record: ExperimentRecord, begun: float) -> None:
        """Keep a record that was read; reading began at `begun` on the monotonic clock."""
        with self._lock:
            if begun >= self._records.get(record.key, (0.0, None))[0]:
                self._records[record.key] = (begun, record)

    def forget(self, key: str) -> None:
        """Have an experiment read again; a record that is being read now is not kept."""
        with self._lock:
            self._records[key] = (time.monotonic(), None)

    def forget_all(self) -> None:
        """Have every experiment read again."""
        with self._lock:
            self._records = dict.fromkeys(self._records, (time.monotonic(), None))


class ExperimentStore:
    """Experiments, their configurations and their states: `bandits.store.ExperimentPort`.

    Methods that take a transaction work within it; each of the others is one of its own.
    Configurations never change, so each is decoded once.
    """

    def __init__(self, database: Database) -> None:
        """Work in `database`."""
        self._database = database
        self._cache = RecordCache()
        self._opt_outs = OptOutReader()
        self._decoded: dict[tuple[int, int], Configuration] = {}

    def create(
        self, configuration: Configuration, *, salt: bytes, at: float, by: str
    ) -> ExperimentRecord:
        """Add a draft."""
        key = configuration.experiment.key
        row = {
            "key": key,
            "state": "draft",
            "salt": salt,
            "configuration_version": configuration.version,
            "learned_version": 0,
            "created_at": at,
            "attribution": configuration.experiment.attribution,
            "machine_rules": configuration.experiment.machine_rules,
        }

        def work(transaction: Transaction) -> int:
            try:
                query = insert(experiments).values(row).returning(experiments.c.id)
                number: int = transaction.execute(query).scalar_one()
            except IntegrityError:
                raise AlreadyExists("experiment", key) from None
            _insert_configuration(transaction, number, configuration, at)
            after = configuration.experiment
            record_change(transaction, "create", f"experiment:{key}", at=at, by=by, after=after)
            return number

        number = write_again(self._database, work)
        return ExperimentRecord(number, key, "draft", salt, configuration, 0, at)

    def record(self, key: str) -> ExperimentRecord:
        """Read an experiment."""
        begun = time.monotonic()
        with self._database.reading() as transaction:
            record = self.read(transaction, key)
            record = replace(record, opt_outs=self._opt_outs.read(transaction))
        self._cache.keep(record, begun)
        return record

    def recent(self, key: str) -> ExperimentRecord:
        """Read an experiment as it was within the last second, to choose under it."""
        return self._cache.get(key) or self.record(key)

    def records(self) -> list[ExperimentRecord]:
        """Read every experiment, the newest first."""
        query = select(*_COLUMNS).order_by(experiments.c.id.desc())
        with self._database.reading() as transaction:
            rows = transaction.execute(query).all()
            return [self._record(transaction, row) for row in rows]

    def found_by_subject(self) -> list[ExperimentRecord]:
        """Read every experiment that takes events by subject, the newest first."""
        with self._database.reading() as transaction:
            rows = transaction.execute(_FOUND_BY_SUBJECT).all()
            return [self._record(transaction, row) for row in rows]

    def look(self) -> None:
        """Read one experiment if there is any: the database answers, is migrated, and writable."""
        with self._database.reading() as transaction:
            transaction.execute(select(*_COLUMNS).limit(1)).all()
        self._database.check_writable()

    def configuration(self, key: str, version: int) -> Configuration:
        """Read one version of a configuration."""
        with self._database.reading() as transaction:
            return self.read_configuration(transaction, key, version)

    def configure(
        self,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> ExperimentRecord:
        """Store the next version of a configuration."""

        def work(transaction: Transaction) -> ExperimentRecord:
            old = self.read(transaction, key, _TO_CHANGE)
            if configuration.version != old.configuration.version + 1:
                raise StaleEdit(key, configuration.version - 1, old.configuration.version)
            if old.state not in allowed:
                raise WrongState(key, old.state, f"the edit was made for one that is {allowed[0]}")
            _insert_configuration(transaction, old.id, configuration, at)
            values = {
                "configuration_version": configuration.version,
                "attribution": configuration.experiment.attribution,
                "machine_rules": configuration.experiment.machine_rules,
            }
            _update(transaction, old.id, values)
            before, after = old.configuration.experiment, configuration.experiment
            for act in configuration.acts[len(old.configuration.acts) :]:
                action = f"guardrail {act.guardrail.action}"
                record_change(transaction, action, f"experiment:{key}", at=at, by=by, after=act)
            for was, act in zip(old.configuration.acts, configuration.acts, strict=False):
                if act != was:
                    record_change(
                        transaction, "guardrail undo", f"experiment:{key}", at=at, by=by, after=act
                    )
            if before != after or by != GUARD:
                record_change(
                    transaction,
                    "configure",
                    f"experiment:{key}",
                    at=at,
                    by=by,
                    before=before,
                    after=after,
                )
            return msgspec.structs.replace(old, configuration=configuration)

        record = write_again(self._database, work)
        self._cache.forget(key)
        return record

    def move(  # noqa: PLR0913 - as the port declares it
        self,
        key: str,
        to: State,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
        shipped: int | None = None,
        keeps_control: bool = False,
    ) -> ExperimentRecord:
        """Change an experiment's state."""

        def work(transaction: Transaction) -> ExperimentRecord:
            old = self.read(transaction, key, _TO_CHANGE)
            if old.state not in allowed:
                raise WrongState(key, old.state, f"only {' or '.join(allowed)} can become {to}")
            starts = to == "running" and old.started_at is None
            stops = to == "stopped" and old.stopped_at is None
            values = {
                "state": to,
                "started_at": at if starts else old.started_at,
                "stopped_at": at if stops else old.stopped_at,
                "shipped": old.shipped if shipped is None else shipped,
                "keeps_control": old.keeps_control or keeps_control,
            }
            _update(transaction, old.id, values)
            moved = msgspec.structs.replace(old, **values)
            after: dict[str, Any] = {"state": to}
            if shipped is not None:
                after["ship"] = moved.shipped_variants
            if keeps_control:
                after["keep_control_group"] = True
            before = {"state": old.state}
            record_change(
                transaction, "move", f"experiment:{key}", at=at, by=by, before=before, after=after
            )
            return moved

        record = write_again(self._database, work)
        self._cache.forget(key)
        return record

    def read(
        self, transaction: Transaction, key: str, query: Select[Any] = _BY_KEY
    ) -> ExperimentRecord:
        """Read an experiment in a transaction.

        Raises:
            NotFound: there is none of this key.
        """
        row = transaction.execute(query, {"of_key": key}).one_or_none()
        if row is None:
            raise NotFound("experiment", key)
        return self._record(transaction, row)

    def read_by_id(self, transaction: Transaction, experiment_id: int) -> ExperimentRecord:
        """Read the experiment of this number, which must exist, in a transaction."""
        return self._record(
            transaction, transaction.execute(_BY_ID, {"of_id": experiment_id}).one()
        )

    def read_configuration(self, transaction: Transaction, key: str, version: int) -> Configuration:
        """Read one version of a configuration in a transaction.

        Raises:
            NotFound: there is no such experiment, or version of it.
        """
        return self._configuration(transaction, key, read_id(transaction, key), version)

    def check(self, transaction: Transaction, record: ExperimentRecord) -> None:
        """Make sure that a record still holds, as the transaction sees it.

        Raises:
            StaleRead: its state or configuration has changed; it must be read again.
        """
        current = tuple(transaction.execute(_CURRENT, {"of_id": record.id}).one())
        expected = (record.state, record.configuration.version, record.shipped)
        if current != (*expected, record.learned_version):
            self._cache.forget(record.key)
        if current[:3] != expected:
            raise StaleRead

    def forget(self, key: str) -> None:
        """Have an experiment's record read again, also to choose under it."""
        self._cache.forget(key)

    def forget_all(self) -> None:
        """Have every experiment's record read again, also to choose under it."""
        self._cache.forget_all()

    def _record(self, transaction: Transaction, row: NamedRow) -> ExperimentRecord:
        number, key, state, salt, version, learned, created, started, stopped, *columns = row
        shipped, keeps_control, voided, *counts = columns
        return ExperimentRecord(
            number,
            key,
            state,
            salt,
            self._configuration(transaction, key, number, version),
            learned,
            created,
            started,
            stopped,
            shipped,
            keeps_control,
            DataQualityCounts(*counts),
            voided,
        )

    def _configuration(
        self, transaction: Transaction, key: str, experiment_id: int, version: int
    ) -> Configuration:
        configuration = self._decoded.get((experiment_id, version))
        if configuration is None:
            values = {"of_id": experiment_id, "of_version": version}
            body = transaction.execute(_CONFIGURATION, values).scalar_one_or_none()
            if body is None:
                raise NotFound("configuration", f"{key}/{version}")
            configuration = msgspec.json.decode(body, type=Configuration)
            if len(self._decoded) >= _MOST_DECODED:
                self._decoded.clear()
            self._decoded[experiment_id, version] = configuration
        return configuration


def read_id(transaction: Transaction, key: str) -> int:
    """Read the number of an experiment.

    Raises:
        NotFound: there is none of this key.
    """
    number: int | None = transaction.execute(_ID, {"of_key": key}).scalar_one_or_none()
    if number is None:
        raise NotFound("experiment", key)
    return number


def _insert_configuration(
    transaction: Transaction, experiment_id: int, configuration: Configuration, at: float
) -> None:
    row = {
        "experiment_id": experiment_id,
        "version": configuration.version,
        "created_at": at,
        "body": msgspec.json.encode(configuration).decode(),
    }
    transaction.execute(insert(configurations).values(row))


def _update(transaction: Transaction, experiment_id: int, values: dict[str, Any]) -> None:
    query = update(experiments).where(experiments.c.id == experiment_id)
    transaction.execute(query.values(values))

"""Experiments, their configurations and their states."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from bandits.errors import AlreadyExists, NotFound, StaleEdit, WrongState
from bandits.store.values import DataQualityCounts, ExperimentRecord, State
from bandits.versions import Configuration
from storage.audit_log import record_change
from storage.databases import Found, Transaction
from storage.schema import configurations, experiments

_MOST_KEPT = 500

_OF_KEY = select(experiments).where(experiments.c.key == bindparam("of_key"))
_TO_CHANGE = _OF_KEY.with_for_update()
_NUMBER = _OF_KEY.with_only_columns(experiments.c.id)


class ExperimentTable:
    """Read and write experiments; configurations, which never change, are decoded once."""

    def __init__(self) -> None:
        """Start with nothing decoded."""
        self._decoded: dict[tuple[int, int], Configuration] = {}

    def record(self, transaction: Transaction, key: str) -> ExperimentRecord:
        """Read an experiment.

        Raises:
            NotFound: there is none of this key.
        """
        return self._record(transaction, self._row(transaction, _OF_KEY, key))

    def records(self, transaction: Transaction) -> list[ExperimentRecord]:
        """Read every experiment, the newest first."""
        rows = transaction.execute(select(experiments).order_by(experiments.c.id.desc())).all()
        return [self._record(transaction, row) for row in rows]

    def record_by_id(self, transaction: Transaction, experiment_id: int) -> ExperimentRecord:
        """Read the experiment of this number, which must exist."""
        query = select(experiments).where(experiments.c.id == experiment_id)
        return self._record(transaction, transaction.execute(query).one())

    def configuration(self, transaction: Transaction, key: str, version: int) -> Configuration:
        """Read one version of a configuration.

        Raises:
            NotFound: there is no such experiment, or version of it.
        """
        row = self._row(transaction, _NUMBER, key)
        return self._configuration(transaction, key, row.id, version)

    def create(
        self,
        transaction: Transaction,
        configuration: Configuration,
        *,
        salt: bytes,
        at: float,
        by: str,
    ) -> ExperimentRecord:
        """Add a draft.

        Raises:
            AlreadyExists: its key is taken.
        """
        key = configuration.experiment.key
        row = {
            "key": key,
            "state": "draft",
            "salt": salt,
            "configuration_version": configuration.version,
            "learned_version": 0,
            "created_at": at,
        }
        try:
            query = insert(experiments).values(row).returning(experiments.c.id)
            number = transaction.execute(query).scalar_one()
        except IntegrityError:
            raise AlreadyExists("experiment", key) from None
        self._insert(transaction, number, configuration, at)
        after = configuration.experiment
        record_change(transaction, "create", f"experiment:{key}", at=at, by=by, after=after)
        return ExperimentRecord(number, key, "draft", salt, configuration, 0, at)

    def configure(  # noqa: PLR0913 - as the port declares it
        self,
        transaction: Transaction,
        key: str,
        configuration: Configuration,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
    ) -> ExperimentRecord:
        """Store the next version of a configuration.

        Raises:
            NotFound: there is none of this key.
            StaleEdit: the stored version is not the one before this.
            WrongState: its state is not one of `allowed`.
        """
        row = self._row(transaction, _TO_CHANGE, key)
        old = self._record(transaction, row)
        if configuration.version != old.configuration.version + 1:
            raise StaleEdit(key, configuration.version - 1, old.configuration.version)
        if old.state not in allowed:
            raise WrongState(key, old.state, f"the edit was made for one that is {allowed[0]}")
        self._insert(transaction, old.id, configuration, at)
        values = {"configuration_version": configuration.version}
        transaction.execute(update(experiments).where(experiments.c.id == old.id).values(values))
        before, after = old.configuration.experiment, configuration.experiment
        record_change(
            transaction, "configure", f"experiment:{key}", at=at, by=by, before=before, after=after
        )
        return msgspec.structs.replace(old, configuration=configuration)

    def move(  # noqa: PLR0913 - as the port declares it
        self,
        transaction: Transaction,
        key: str,
        to: State,
        *,
        allowed: Sequence[State],
        at: float,
        by: str,
        shipped: int | None = None,
    ) -> ExperimentRecord:
        """Change an experiment's state.

        Raises:
            NotFound: there is none of this key.
            WrongState: its state is not one of `allowed`.
        """
        row = self._row(transaction, _TO_CHANGE, key)
        old = self._record(transaction, row)
        if old.state not in allowed:
            raise WrongState(key, old.state, f"only {' or '.join(allowed)} can become {to}")
        started_at = at if to == "running" and old.started_at is None else old.started_at
        stopped_at = at if to == "stopped" and old.stopped_at is None else old.stopped_at
        kept = old.shipped if shipped is None else shipped
        values = {
            "state": to,
            "started_at": started_at,
            "stopped_at": stopped_at,
            "shipped": kept,
        }
        transaction.execute(update(experiments).where(experiments.c.id == old.id).values(values))
        moved = msgspec.structs.replace(old, **values)
        before: dict[str, Any] = {"state": old.state}
        after: dict[str, Any] = {"state": to}
        if shipped is not None:
            after["ship"] = moved.shipped_variants
        record_change(
            transaction, "move", f"experiment:{key}", at=at, by=by, before=before, after=after
        )
        return moved

    def _row(self, transaction: Transaction, query: Select[Any], key: str) -> Found:
        row = transaction.execute(query, {"of_key": key}).one_or_none()
        if row is None:
            raise NotFound("experiment", key)
        return row

    def _record(self, transaction: Transaction, row: Found) -> ExperimentRecord:
        return ExperimentRecord(
            row.id,
            row.key,
            row.state,
            row.salt,
            self._configuration(transaction, row.key, row.id, row.configuration_version),
            row.learned_version,
            row.created_at,
            row.started_at,
            row.stopped_at,
            row.shipped,
            DataQualityCounts(
                *(getattr(row, name) for name in DataQualityCounts.__struct_fields__)
            ),
        )

    def _configuration(
        self, transaction: Transaction, key: str, experiment_id: int, version: int
    ) -> Configuration:
        known = self._decoded.get((experiment_id, version))
        if known is not None:
            return known
        query = select(configurations.c.body).where(
            configurations.c.experiment_id == experiment_id, configurations.c.version == version
        )
        body = transaction.execute(query).scalar_one_or_none()
        if body is None:
            raise NotFound("configuration", f"{key}/{version}")
        read = msgspec.json.decode(body, type=Configuration)
        if len(self._decoded) >= _MOST_KEPT:
            self._decoded.clear()
        self._decoded[experiment_id, version] = read
        return read

    def _insert(
        self, transaction: Transaction, experiment_id: int, configuration: Configuration, at: float
    ) -> None:
        row = {
            "experiment_id": experiment_id,
            "version": configuration.version,
            "created_at": at,
            "body": msgspec.json.encode(configuration).decode(),
        }
        transaction.execute(insert(configurations).values(row))

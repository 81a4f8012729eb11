"""One experiment as it decides right now: its configuration, what is known, and its policy."""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from bandits.allocation import NEWCOMER_MATURED, apply_floor, cap_newcomers
from bandits.array_types import FloatArray, IntArray
from bandits.engine.statistic_sums import load_statistic
from bandits.policy import Contributions
from bandits.sampling import draw, uniforms
from bandits.store.values import Snapshot
from bandits.versions import Configuration

_log = logging.getLogger(__name__)
_SUM_TOLERANCE = 1e-9  # rows of a policy that sum to 1 only this closely are still taken
_PREPARED_SETS = 256  # eligible sets whose prepared state is kept,
_PREPARED_CELLS = 16_000_000  # or fewer where a linear model makes them large: K d² in all


class ActivePolicy:
    """What decides under one configuration and one snapshot; immutable but for its cache."""

    def __init__(
        self,
        key: str,
        salt: bytes,
        configuration: Configuration,
        snapshot: Snapshot | None,
        folded: Configuration | None = None,
    ) -> None:
        """Read the snapshot; preparing the policy waits for the first decision.

        Args:
            key: the experiment's.
            salt: the experiment's.
            configuration: what is declared.
            snapshot: None before the first.
            folded: what the snapshot was folded under, None where that is `configuration`.
        """
        self.key = key
        self.salt = salt
        self.configuration = configuration
        self.experiment = configuration.experiment
        self.version = 0 if snapshot is None else snapshot.version
        self.encoder = self.experiment.encoder()
        self.policy = self.experiment.make_policy()
        self.problem = configuration.problem
        self.control = configuration.control
        self.statistic, self.tally = load_statistic(configuration, snapshot, folded)
        self._seed = 0 if snapshot is None else snapshot.seed
        self._upcoming = 1 if snapshot is None else snapshot.upcoming
        matured = self.tally.complete[:-1]
        self._newcomers = configuration.newcomers & (matured < NEWCOMER_MATURED)
        self._prepared: dict[bytes, Any] = {}
        self._preparing = Lock()
        cells = self.problem.n_arms * max(self.problem.n_features, 1) ** 2
        self._prepared_at_most = min(_PREPARED_SETS, 1 + _PREPARED_CELLS // cells)

    @cached_property
    def everything(self) -> IntArray:
        """The arms that may be chosen where a request does not restrict them."""
        return self.configuration.eligible()

    @cached_property
    def slots(self) -> list[dict[str, dict[str, Any]]]:
        """What the sender is told of each arm."""
        return [self.configuration.slots_of(arm) for arm in range(self.problem.n_arms)]

    def eligible(self, restriction: Mapping[str, Sequence[str]] | None) -> IntArray:
        """List the arms that a request's restriction leaves.

        Raises:
            InvalidInput: at ``/{slot}``.
        """
        return self.configuration.eligible(restriction) if restriction else self.everything

    def probabilities(self, arms: IntArray, contexts: FloatArray) -> FloatArray:
        """Return the probabilities that decisions among `arms` (m,) are drawn from.

        Args:
            arms: the eligible arms.
            contexts: (n, d).

        Returns:
            (m,) where they are the same for everybody, else (n, m); cap and floor applied.

        Raises:
            ArithmeticError: the policy returned no distribution.
        """
        prepared = self._prepare(arms)
        raw = np.asarray(self.policy.propensities(prepared, contexts), dtype=np.float64)
        sums = raw.sum(axis=-1)
        if not (np.all(raw >= 0) and np.all(np.abs(sums - 1) <= _SUM_TOLERANCE)):
            raise ArithmeticError(f"{self.experiment.policy.name} returned no distribution")
        capped = cap_newcomers(raw, self._newcomers[arms])
        return apply_floor(capped, self.experiment.floor_among(len(arms)))

    def tried(self, arms: IntArray, contexts: FloatArray) -> FloatArray | None:
        """Return `probabilities`, or None where the policy failed and the control is answered."""
        try:
            return self.probabilities(arms, contexts)
        except Exception:  # noqa: BLE001 - whatever a policy does wrong, the email has to leave
            _log.exception("policy of experiment %s failed; answering the control", self.key)
            return None

    def contributions(self, arms: IntArray, context: FloatArray) -> Contributions | None:
        """Take apart what is predicted of `arms` (m,) for one context (d,), where that is linear.

        It is the policy's own, before the cap of newcomers and the floor.
        """
        if self.policy.contributions is None:
            return None
        return self.policy.contributions(self._prepare(arms), context)

    def _prepare(self, arms: IntArray) -> Any:
        key = arms.tobytes()
        with self._preparing:  # one thread prepares, the others wait for what it made
            if key not in self._prepared:
                if len(self._prepared) >= self._prepared_at_most:
                    self._prepared.clear()
                self._prepared[key] = self.policy.prepare(
                    self.statistic.take(arms),
                    self.problem.take(arms),
                    self._upcoming,
                    np.random.default_rng(self._seed),
                )
            return self._prepared[key]

    def choose(
        self, arms: IntArray, contexts: FloatArray, ids: Sequence[str]
    ) -> tuple[IntArray, FloatArray, bool]:
        """Draw an arm for each of n decisions, from its id's hash.

        Returns:
            Arms (n,), the propensity of each (n,), and whether the policy failed: then each is the
            control, or the first eligible arm where the control is not, with propensity 1.
        """
        probabilities = self.tried(arms, contexts)
        if probabilities is None:
            return np.full(len(ids), self.stand_in(arms)), np.ones(len(ids)), True
        positions = draw(probabilities, uniforms(self.salt, [f"draw:{i}" for i in ids]))
        if probabilities.ndim == 1:
            return arms[positions], probabilities[positions], False
        chosen = np.take_along_axis(probabilities, positions[:, None], axis=-1)[:, 0]
        return arms[positions], chosen, False

    def stand_in(self, arms: IntArray) -> int:
        """Return the control, or the first of the eligible `arms` where it is not among them."""
        return self.control if self.control in arms else int(arms[0])

    def held_out(self, subjects: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell which of n subjects are held out, (n,): fixed for the experiment."""
        if self.experiment.holdout == 0:
            return np.zeros(len(subjects), dtype=np.bool_)
        u = uniforms(self.salt, [f"holdout:{s}" for s in subjects])
        return u < self.experiment.holdout

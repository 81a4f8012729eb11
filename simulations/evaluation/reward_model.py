"""Reward model: expected rewards by arm and context, fitted to other rounds than it is used for."""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.random import Generator
from scipy.special import expit

from bandits.array_types import FloatArray
from bandits.errors import InvalidInput
from bandits.policy import Parameters
from simulations.evaluation.logged_rounds import LoggedRounds

_FIRST_ROWS = 50  # that are predicted without data, where folds go by time
_GROWTH = 1.5  # of the rows after which the model is fitted anew
_NEWTON_STEPS = 50
_CONVERGED = 1e-10


class RewardModel(Parameters, frozen=True, kw_only=True):
    """Regression of rewards on contexts and arms, and the folds that it is fitted in.

    Folds by time predict each round from earlier rounds alone, so that scores made with it are
    martingale differences whatever the log's policy learned meanwhile. Random folds use more data,
    and are for logs whose policy did not learn: elsewhere they leak later rewards.
    """

    kind: Annotated[
        Literal["ridge", "logistic"],
        Meta(description="least squares, or log odds for rewards in [0, 1]"),
    ] = "ridge"
    by_arm: Annotated[
        bool, Meta(description="weights of its own for each arm, or shared ones and a constant")
    ] = True
    penalty: Annotated[
        float, Meta(gt=0, le=1e9, description="λ: of the squared weights, constants included")
    ] = 1.0
    folds: Annotated[
        Literal["time", "random"], Meta(description="earlier rounds alone, or random parts")
    ] = "time"
    n_folds: Annotated[int, Meta(ge=2, le=100, description="parts, where folds are random")] = 3

    def cross_fit(self, rounds: LoggedRounds, rng: Generator) -> FloatArray:
        """Predict the reward of every arm in every round, (n, K), from other rounds.

        Args:
            rounds: the log.
            rng: deals rounds to random folds.

        Raises:
            InvalidInput: rewards are not in [0, 1] and the kind is ``logistic``.
        """
        if self.kind == "logistic" and (rounds.low < 0 or rounds.high > 1):
            raise InvalidInput.at("/kind", "must be ridge where rewards are not in [0, 1]")
        if self.folds == "time":
            return self._by_time(rounds)
        predictions = np.empty((rounds.n, rounds.n_arms))
        fold_of = rng.permutation(rounds.n) % self.n_folds
        for fold in range(self.n_folds):
            within = fold_of == fold
            predictions[within] = self.predict(
                rounds.take(np.flatnonzero(~within)), rounds.features[within]
            )
        return predictions

    def _by_time(self, rounds: LoggedRounds) -> FloatArray:
        unknown = min(max(0.0, rounds.low), rounds.high)
        predictions = np.full((rounds.n, rounds.n_arms), unknown)
        start = min(_FIRST_ROWS, rounds.n)
        while start < rounds.n:
            end = min(int(start * _GROWTH) + 1, rounds.n)
            earlier = rounds.take(slice(0, start))
            predictions[start:end] = self.predict(earlier, rounds.features[start:end])
            start = end
        return predictions

    def predict(self, fitted: LoggedRounds, features: FloatArray) -> FloatArray:
        """Predict rewards (m, K) for features (m, 1 + d) from the rounds that it is fitted to."""
        model = _fit_by_arm if self.by_arm else _fit_shared
        predictions = model(self, fitted, features)
        return np.clip(predictions, fitted.low, fitted.high)

    def fit(self, features: FloatArray, rewards: FloatArray) -> FloatArray:
        """Fit weights (d,) of features (m, d), by the kind's own loss and the penalty."""
        if self.kind == "logistic":
            return _logistic_weights(features, rewards, self.penalty)
        gram = features.T @ features + self.penalty * np.eye(features.shape[1])
        return np.asarray(np.linalg.solve(gram, features.T @ rewards), dtype=np.float64)


def _fit_by_arm(model: RewardModel, fitted: LoggedRounds, contexts: FloatArray) -> FloatArray:
    """Fit each arm by itself, as a deviation from the mean of all: an arm without rounds has it."""
    predictions = np.empty((len(contexts), fitted.n_arms))
    mean = float(fitted.rewards.mean())
    shift = mean if model.kind == "ridge" else 0.0
    features = fitted.features
    for arm in range(fitted.n_arms):
        rows = fitted.arms == arm
        if not rows.any():
            predictions[:, arm] = mean
            continue
        weights = model.fit(features[rows], fitted.rewards[rows] - shift)
        predictions[:, arm] = _output(model, contexts @ weights) + shift
    return predictions


def _fit_shared(model: RewardModel, fitted: LoggedRounds, contexts: FloatArray) -> FloatArray:
    """Fit weights of the context that all arms share, a constant of each arm, and a free one."""
    marks = np.eye(fitted.n_arms)
    features = np.hstack([fitted.features, marks[fitted.arms]])
    weights, constant = _with_free_constant(model, features, fitted.rewards)
    n_features = fitted.features.shape[1]
    shared = contexts @ weights[:n_features] + constant
    return _output(model, shared[:, None] + weights[n_features:])


def _with_free_constant(
    model: RewardModel, features: FloatArray, rewards: FloatArray
) -> tuple[FloatArray, float]:
    """Fit weights (d,) beside a constant without penalty."""
    if model.kind == "logistic":
        weights = _logistic_weights(
            np.hstack([features, np.ones((len(features), 1))]), rewards, model.penalty, free=1
        )
        return weights[:-1], float(weights[-1])
    centre, mean = features.mean(axis=0), float(rewards.mean())
    weights = model.fit(features - centre, rewards - mean)
    return weights, mean - float(centre @ weights)


def _output(model: RewardModel, scores: FloatArray) -> FloatArray:
    return expit(scores) if model.kind == "logistic" else scores


def _logistic_weights(
    features: FloatArray, rewards: FloatArray, penalty: float, free: int = 0
) -> FloatArray:
    """Fit logistic regression by Newton's method, with halved steps where a whole one overshoots.

    Args:
        features: (m, d).
        rewards: (m,) in [0, 1].
        penalty: λ/2 times the squared weights is added to the log loss.
        free: so many last weights have no penalty.
    """
    n_features = features.shape[1]
    penalties = np.full(n_features, penalty)
    penalties[n_features - free :] = 0.0
    weights = np.zeros(n_features)
    loss = _logistic_loss(features, rewards, penalties, weights)
    for _ in range(_NEWTON_STEPS):
        rates = expit(features @ weights)
        gradient = features.T @ (rates - rewards) + penalties * weights
        curvature = (features * (rates * (1 - rates))[:, None]).T @ features + np.diag(penalties)
        curvature[np.diag_indices(n_features)] += 1e-12
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while True:
            candidate = weights - size * step
            candidate_loss = _logistic_loss(features, rewards, penalties, candidate)
            if candidate_loss <= loss or size < _CONVERGED:
                break
            size /= 2
        decrease, weights, loss = loss - candidate_loss, candidate, candidate_loss
        if decrease <= _CONVERGED * (1 + abs(loss)):
            break
    return weights


def _logistic_loss(
    features: FloatArray, rewards: FloatArray, penalties: FloatArray, weights: FloatArray
) -> float:
    scores = features @ weights
    losses = np.logaddexp(0.0, scores) - rewards * scores
    return float(losses.sum() + 0.5 * (penalties * weights**2).sum())

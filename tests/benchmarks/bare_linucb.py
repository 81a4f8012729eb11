"""The calls of numpy that LinUCB's steps consist of, on arrays that mean nothing."""

import numpy as np

from bandits.numerics.online_ridge import items_of


def bare_linucb(n_arms: int, d: int, replications: int, steps: int) -> None:
    """Make those calls, with everything ready: no world, no policy, nothing kept or checked."""
    rng, n = np.random.default_rng(6), d + 1
    arms = rng.random((replications * n_arms, n, d)) / 100
    rows, items = arms.reshape(replications, -1, d), items_of(arms)
    products = np.empty((replications, n_arms * n, 1))
    by_arm = products.reshape(replications, n_arms, n)
    reached, means = by_arm[:, :, :d], by_arm[:, :, d]
    product_items = items_of(by_arm.reshape(-1, n))
    squares, zeros = np.empty((replications, n_arms, 1)), np.zeros((replications, n_arms))
    scores = np.empty((replications, n_arms))
    bits, width = scores.view(np.int64), np.array(0.25)
    column, gains = np.empty((replications, n)), np.empty((replications, d))
    moving = np.empty((replications, n, d))
    outer, ones, shrink = np.empty_like(moving), np.ones(replications), np.empty((replications, 1))
    firsts, rewards = np.arange(replications) * n_arms, np.zeros(replications * n_arms)
    x, lots = rng.random((replications, d, 1)), np.ones((replications, n_arms), np.int64)
    column_items, moving_items = items_of(column), items_of(moving)
    flat, first_squares, shrinks = squares.reshape(-1), squares[:, :, 0], shrink[:, 0]
    gone, missed = column[:, :d], column[:, d]
    left, right = column[:, :, None], gains[:, None, :]
    for _ in range(steps):
        np.matmul(rows, x, products)
        np.matmul(reached, x, squares)
        np.maximum(first_squares, zeros, out=scores)
        np.sqrt(scores, scores)
        np.multiply(scores, width, scores)
        np.add(scores, means, scores)
        np.add(bits, lots, bits)
        cells = firsts + scores.argmax(1)
        reward = rewards.take(cells)
        product_items.take(cells, None, column_items, "clip")
        np.subtract(missed, reward, missed)
        np.add(flat.take(cells), ones, shrinks)
        np.divide(gone, shrink, gains)
        items.take(cells, None, moving_items, "clip")
        np.multiply(left, right, outer)
        np.subtract(moving, outer, moving)
        items[cells] = moving_items

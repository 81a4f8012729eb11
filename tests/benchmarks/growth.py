"""Regret and time as a simulated problem grows: arms, features, replications.

    .venv/bin/python tests/benchmarks/growth.py docs/images/growth.png

draws the figure of docs/growth.md and prints its numbers; it takes some minutes. Times are
processor seconds in one process, the less of two, so they can be compared across a row.
"""

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from plotly.subplots import make_subplots

from simulations import Result, simulate
from simulations.environments import Bernoulli, Environment, Logistic
from simulations.reporting.charts import style

ARMS = (2, 5, 10, 20, 50, 100, 200)
FEATURES = (5, 10, 20, 50, 100, 200)
REPLICATIONS = (1, 10, 100, 1000, 10_000)
TRIES = 2


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Growth(Struct, frozen=True):
    """What one policy needs as one size grows.

    Attributes:
        sizes: the sizes.
        microseconds: of processor time, a decision.
        regret: the part of the best arm's reward that is missed.
    """

    policy: str
    sizes: tuple[int, ...]
    microseconds: list[float]
    regret: list[float]


def rates(n_arms: int) -> Bernoulli:
    """Draw rates such as clicks have: few arms are near the best however many there are."""
    drawn = np.random.default_rng(1).beta(4, 36, n_arms - 1)
    return Bernoulli((*drawn.tolist(), 0.2))


def measured(play: Callable[[], Result]) -> tuple[float, float]:
    """Return microseconds a decision, and the part of the best reward that is missed."""
    spent = []
    for _ in range(TRIES):
        began = time.process_time()
        result = play()
        spent.append(time.process_time() - began)
    record = result.outcomes[0].record
    decisions = result.run.horizon * result.replications
    missed = float(record.regret[:, -1].mean() / record.best[:, -1].mean())
    return min(spent) / decisions * 1e6, missed


def grown(
    policy: str, sizes: Sequence[int], world: Callable[[int], tuple[Environment, int, int]]
) -> Growth:
    """Measure a policy at each size; `world` gives environment, horizon and replications."""
    found = []
    for size in sizes:
        environment, horizon, replications = world(size)

        def play(
            e: Environment = environment, horizon: int = horizon, n: int = replications
        ) -> Result:
            return simulate(e, [policy], horizon=horizon, replications=n, seed=1)

        found.append(measured(play))
        say(f"{policy:>9} {size:>6}  {found[-1][0]:9.2f} us  regret {found[-1][1]:.3f}")
    return Growth(policy, tuple(sizes), [us for us, _ in found], [r for _, r in found])


def draw(columns: dict[str, list[Growth]], path: str) -> None:
    """Draw times above and regrets below, a column for each size that grows."""
    figure = make_subplots(2, 3, shared_xaxes=True, vertical_spacing=0.06)
    for column, growths in enumerate(columns.values(), start=1):
        for position, growth in enumerate(growths):
            colour, dash = style(position)
            for row, values in ((1, growth.microseconds), (2, growth.regret)):
                figure.add_scatter(
                    x=growth.sizes,
                    y=values,
                    name=growth.policy,
                    mode="lines+markers+text" if row == 1 else "lines+markers",
                    text=[""] * (len(values) - 1) + [growth.policy],
                    textposition=("top left", "bottom right")[position],
                    cliponaxis=False,
                    line={"color": colour, "dash": dash},
                    row=row,
                    col=column,
                )
    figure.update_xaxes(type="log", dtick=1)
    for column, name in enumerate(columns, start=1):
        figure.update_xaxes(title=name, row=2, col=column)
    figure.update_yaxes(type="log", dtick=1, row=1)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%", row=2)
    figure.update_yaxes(title="µs a decision", row=1, col=1)
    figure.update_yaxes(title="of the best reward missed", row=2, col=1)
    figure.update_layout(template="plotly_white", showlegend=False, margin={"t": 40, "r": 80})
    figure.write_image(path, width=1000, height=560, scale=1.5)


def main() -> None:
    """Measure and print, then draw."""
    say("arms, 100 replications of 2,000 decisions")
    arms = [grown(p, ARMS, lambda k: (rates(k), 2000, 100)) for p in ("thompson", "ucb1")]
    say("features, 5 arms, 10 replications of 1,000 decisions")
    features = [
        grown(p, FEATURES, lambda d: (Logistic.drawn(5, d - 1, seed=1), 1000, 10))
        for p in ("linucb", "lints")
    ]
    say("replications of 500 decisions, 10 arms")
    side = [grown(p, REPLICATIONS, lambda r: (rates(10), 500, r)) for p in ("thompson", "ucb1")]
    columns = {"arms": arms, "features": features, "replications": side}
    draw(columns, sys.argv[1])


if __name__ == "__main__":
    main()

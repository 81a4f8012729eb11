"""Measure the rules against machines in every world, and a campaign with and without them.

For each world: machines' part of the clicks, of the emails clicked, and of the opens; then
machines' clicks caught, emails caught that only machines clicked, people lost, machines' opens
caught, and people lost whose open was reported. Then regret and chosen arm of campaigns. See
docs/machines.md.
"""

import sys
from collections.abc import Iterator

import numpy as np
from msgspec.structs import astuple, replace

from bandits.array_types import FloatArray
from simulations.mail import (
    WORLDS,
    MailScore,
    MailWorld,
    count_judged,
    draw_mail_log,
    draw_world,
    score,
)
from tests.statistical import test_machines as harness

RANDOM_WORLDS = 200
CAUGHT, LOST = 0.95, 0.01
BEST = int(np.argmax(harness.RATES))


def rows() -> Iterator[str]:
    """Write a row for each world, one for random worlds, and one for each campaign."""
    names = MailScore.__struct_fields__
    yield " ".join([" " * 18, *(name.rjust(14) for name in names)])
    for name, world in WORLDS.items():
        yield row(name, scores(world, [59, *name.encode()]))
    drawn = [
        scores(draw_world(np.random.default_rng([61, k])), [62, k]) for k in range(RANDOM_WORLDS)
    ]
    for name, quantile in (("random, worst 1 %", 0.01), ("random, median", 0.5)):
        worst = [quantile if is_good(field) else 1 - quantile for field in names]
        columns = np.array(drawn).T
        yield row(name, [np.nanquantile(c, q) for c, q in zip(columns, worst, strict=True)])
    kept = sum(caught >= CAUGHT and lost <= LOST for _, _, _, caught, _, lost, _, _ in drawn)
    yield f"{kept} of {len(drawn)} random worlds: at least 95 % caught and at most 1 % lost"
    yield f"{harness.STRESS}, emails caught by wave: {' '.join(f'{w:.1%}' for w in waves())}"
    for world in harness.CAMPAIGNS:
        for counted in harness.COUNTED:
            regrets = harness.regrets(world, counted)
            best = np.mean([c.best == BEST for c in harness.courses(world, counted)])
            error = regrets.std(ddof=1) / np.sqrt(harness.RUNS)
            yield (
                f"campaign, {world}, counts {counted}: regret {regrets.mean():.1f} ± {error:.1f}"
                f" clicks, best arm chosen in {best:.0%} of {harness.RUNS}"
            )


def waves() -> FloatArray:
    """Return the share of emails caught in daily waves of 3,000, (4,), whose networks are new."""
    n, runs, days = 3000, 40, 4
    caught = np.zeros((runs, days))
    for run, day in np.ndindex(caught.shape):
        if day == 0:
            rng, earlier = np.random.default_rng([63, run]), []
        clicks = rng.random(n) < harness.CLICK_RATE
        log = draw_mail_log(WORLDS[harness.STRESS], clicks, rng, start=day * 86_400.0)
        caught[run, day] = score(log, count_judged(log, earlier)).caught_emails
        earlier.append(replace(log.events, emails=log.events.emails + (day + 1) * n))
    return caught.mean(axis=0)


def scores(world: MailWorld, seed: list[int]) -> list[float]:
    """Draw a log and score the rules on it, in the order of the fields."""
    rng = np.random.default_rng(seed)
    log = draw_mail_log(world, rng.random(harness.RECIPIENTS) < harness.CLICK_RATE, rng)
    return list(astuple(score(log, count_judged(log))))


def is_good(field: str) -> bool:
    """Tell whether more of it is better."""
    return field.startswith("caught")


def row(name: str, shares: list[float]) -> str:
    """Write shares behind a name."""
    return " ".join([name.ljust(18), *(f"{share:14.2%}" for share in shares)])


if __name__ == "__main__":
    for line in rows():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

"""Measure errors and widths of weighted intervals for lifts: see ADR 20.

Campaigns of Thompson sampling, 100 looks each; of the first two arms. For each world: the share of
campaigns in which the interval ever misses; its width at the end, as a multiple of that with the
plain variance, of the exact one for constant rates, and of its own at half of the campaign (medians
over campaigns). See ADR 20.
"""

import sys
from collections.abc import Iterator
from itertools import islice

import numpy as np

from bandits.inference import aipw
from bandits.inference.confidence_sequences import lift_bounds
from tests.statistical import test_inference as harness
from tests.statistical.test_inference import LOOKS, World

WORLDS = {
    "alike, .20, floor 1 %": World((0.20, 0.20), 200, floor=0.01, learn_every=1),
    "alike, .50, floor 1 %, waves of 20": World((0.5, 0.5), 20, floor=0.01, learn_every=1),
    "alike, .90, floor 1 %": World((0.9, 0.9), 200, floor=0.01, learn_every=1),
    "alike, .0005, floor 1 %": World((0.0005, 0.0005), 20_000, floor=0.01, learn_every=1),
    "alike, .02, floor .1 %": World((0.02, 0.02), 2000, floor=0.001, learn_every=1),
    "5 alike, .02, floor 1 %": World((0.02,) * 5, 500, floor=0.01, learn_every=1),
    "12 alike, .02, floor .4 %": World((0.02,) * 12, 2000, floor=0.004, learn_every=1),
    ".02 and .03, floor 1 %": World((0.02, 0.03), 500, floor=0.01, learn_every=1),
    ".02 and .04, floor 1 %": World((0.02, 0.04), 500, floor=0.01, learn_every=1),
    ".20 and .22, floor 1 %": World((0.20, 0.22), 1000, floor=0.01, learn_every=1),
    ".20 and .22, floor 10 %": World((0.20, 0.22), 1000, floor=0.1, learn_every=1),
}


def rows() -> Iterator[str]:
    """Write a row for each world."""
    for name, world in WORLDS.items():
        pair = np.zeros(len(world.rates))
        pair[:2] = -1.0, 1.0
        lift = world.rates[1] - world.rates[0]
        erred = np.zeros(harness.CAMPAIGNS, dtype=np.bool_)
        widths = []
        for look in islice(harness._campaigns(world, 2), LOOKS):
            scores = aipw.contrast(look.evidence, pair)
            off = np.full(harness.CAMPAIGNS, look.decisions * lift)
            erred |= harness._shown(scores) & harness._outside(scores, off)
            if look.decisions // world.wave in {LOOKS // 2, LOOKS}:
                widths.append(2 * scores.margin(harness.ALPHA) / scores.n)
        plain = harness._with_plain_variance(look.evidence, scores, pair)
        s, n = look.successes, look.trials
        low, high = lift_bounds(s[:, 0], n[:, 0], s[:, 1], n[:, 1], harness.ALPHA)
        against = (2 * plain.margin(harness.ALPHA) / plain.n, high - low, widths[0])
        ratios = "  ".join(f"{np.median(widths[1] / other):.2f}" for other in against)
        yield f"{name:36} ever errs {erred.mean():.3f}   width {np.median(widths[1]):.4f}  {ratios}"


if __name__ == "__main__":
    for row in rows():
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()

"""Value an equal split on obp's sample of the Open Bandit Dataset, which its wheel carries.

`python -m tests.statistical.measure_obd FOLDER` takes the folder that holds `obp`, `.venv/peers`
after `make bench`, and prints a row for each campaign. By hand: IPW .00236, .00301 and .00744 with
340, 656 and 2 effective rows, so that the last is refused.
"""

import sys
from pathlib import Path

import numpy as np

from simulations import evaluate, read_log


def row(path: Path) -> str:
    """Write the value of one campaign, by hand and as it is shown."""
    rounds = read_log(path)
    equal = np.full(rounds.n_arms, 1 / rounds.n_arms)
    by_hand = float((equal[rounds.arms] / rounds.propensities * rounds.rewards).mean())
    shown = evaluate(rounds, equal, estimators=["ipw"])
    effective = shown.diagnostics.effective_rows
    value = shown.refusal or f"{shown['ipw'].value:.5f}"
    return f"{path.stem:6} {by_hand:.5f} {effective:6.0f} effective rows: {value}"


if __name__ == "__main__":
    folder = Path(sys.argv[1]) / "obp/dataset/obd/bts"
    for campaign in ("all", "men", "women"):
        print(row(folder / campaign / f"{campaign}.csv"))  # noqa: T201 - its only output

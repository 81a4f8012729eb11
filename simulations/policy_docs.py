"""Documentation of the policies: their declarations, and regrets in three simulated campaigns.

``python -m simulations.policy_docs`` writes docs/policies.md from the code and the regrets stored
in docs/policy_regrets.json. With ``--measure`` it simulates the regrets anew before, which takes
some minutes; the same seed gives the same numbers. With ``--check`` it writes nothing, and fails if
the page is another than it would write.
"""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.random import Generator

from bandits.policy import Parameters
from bandits.problem import Problem
from bandits.registry import policies
from simulations.environments.bernoulli import Bernoulli
from simulations.environments.interfaces import BinaryRewards, Environment, Rounds, numbered_arms
from simulations.reporting.summary import Estimate
from simulations.running.schedule import Run
from simulations.simulate import simulate_run

PAGE = Path("docs/policies.md")
REGRETS = Path("docs/policy_regrets.json")
REPLICATIONS = 100
_SEED = 11


class MeasuredRegret(Struct, frozen=True):
    """Mean regret of a policy in a campaign over replications, and its standard error."""

    mean: float
    se: float

    @property
    def text(self) -> str:
        """The cell of the page's table."""
        return f"{self.mean:,.0f} ± {self.se:,.0f}"


Regrets = Mapping[str, Mapping[str, MeasuredRegret]]  # by title of the campaign, then by policy

_HEAD = """\
# Policies

A policy decides how likely each variant is for the next recipient. All of them choose by exact
probabilities, which are logged with each decision; ties are split equally. A running experiment can
change to any policy that learns from the same statistic (`moments`, say), and loses nothing.

**Regret** is what a policy gives up by learning: how many successes fewer its campaign brings than
one in which everybody had got the best variant from the first email on, the less the better. Shown
is the mean of {replications} simulated campaigns ± its standard error.

This page is made from the code by `python -m simulations.policy_docs`; with `--measure`, the
regrets are simulated anew.
"""


class RecipientKinds(Struct, BinaryRewards, frozen=True):
    """Recipients of equally frequent kinds, each of which clicks each arm at a rate of its own.

    Attributes:
        rates: the rate of each arm, for each kind.
    """

    rates: tuple[tuple[float, ...], ...]

    @property
    def problem(self) -> Problem:
        """K arms, one feature for each kind, rewards in [0, 1]."""
        return Problem.of(len(self.rates[0]), n_features=len(self.rates))

    @property
    def arms(self) -> tuple[str, ...]:
        """Numbered."""
        return numbered_arms(len(self.rates[0]))

    def rounds(self, start: int, n: int, rng: Generator) -> Rounds:  # noqa: ARG002 - nothing changes with time
        """Draw n recipients: contexts (n, kinds), means (n, K)."""
        kinds = rng.integers(len(self.rates), size=n)
        return Rounds(np.eye(len(self.rates))[kinds], np.array(self.rates)[kinds])


class DocumentedCampaign(Struct, frozen=True):
    """A campaign whose regrets the page shows.

    Attributes:
        title: its name on the page.
        environment: the recipients.
        horizon: number of recipients.
        waves: number of equal batches in which they are sent.
    """

    title: str
    environment: Environment
    horizon: int
    waves: int

    def run(self, replications: int, seed: int = _SEED) -> Run:
        """Return the run of so many replications."""
        return Run(horizon=self.horizon, batches=self.waves, replications=replications, seed=seed)


CAMPAIGNS = (
    DocumentedCampaign(
        "Five subject lines, opened by 18 to 24 %; 100,000 recipients in 10 waves",
        Bernoulli((0.18, 0.20, 0.21, 0.22, 0.24)),
        100_000,
        10,
    ),
    DocumentedCampaign(
        "Two offers, clicked by 4 and 5 %; 20,000 recipients in 20 waves",
        Bernoulli((0.04, 0.05)),
        20_000,
        20,
    ),
    DocumentedCampaign(
        "Three offers, each clicked by 20 % of its own third of recipients and by 10 % of others;"
        " 20,000 recipients in 40 waves",
        RecipientKinds(((0.2, 0.1, 0.1), (0.1, 0.2, 0.1), (0.1, 0.1, 0.2))),
        20_000,
        40,
    ),
)


def measure_regrets(
    campaign: DocumentedCampaign, names: Sequence[str], replications: int = REPLICATIONS
) -> dict[str, Estimate]:
    """Simulate a campaign with these policies at their defaults: the regret of each by name."""
    result = simulate_run(campaign.environment, names, campaign.run(replications))
    return {summary.label: summary.regret for summary in result.summaries()}


def _measure_all() -> Regrets:
    """Measure the regret of every policy in every campaign, reporting each on standard error."""
    regrets: dict[str, dict[str, MeasuredRegret]] = {}
    for campaign in CAMPAIGNS:
        by_policy = regrets[campaign.title] = {}
        for name in policies():
            regret = measure_regrets(campaign, [name])[name]
            by_policy[name] = MeasuredRegret(round(regret.mean, 1), round(regret.se, 1))
            sys.stderr.write(f"{campaign.title}: {name} {by_policy[name].text}\n")
    return regrets


def stored_regrets() -> Regrets:
    """Read the regrets that were measured last; none where there is no file."""
    if not REGRETS.exists():
        return {}
    return msgspec.json.decode(REGRETS.read_bytes(), type=dict[str, dict[str, MeasuredRegret]])


def page(regrets: Regrets) -> str:
    """Write the page."""
    by_name = policies()
    rows = [f"| [{p.label}](#{name}) | `{name}` | {_summary(p)} |" for name, p in by_name.items()]
    head = _HEAD.format(replications=REPLICATIONS)
    parts = [head, "| | name | what it does |\n|---|---|---|\n" + "\n".join(rows) + "\n"]
    parts += [_section(name, policy, regrets) for name, policy in by_name.items()]
    return "\n".join(parts)


def _section(name: str, policy: type[Parameters], regrets: Regrets) -> str:
    low, high = policy.support
    unbounded = (low, high) == (float("-inf"), float("inf"))
    rewards = "of any size" if unbounded else f"between {low:g} and {high:g}"
    by = "the features of each recipient" if policy.statistic.contextual else "results alone"
    measured = [
        f"| {campaign} | {by_policy[name].text} |"
        for campaign, by_policy in regrets.items()
        if name in by_policy
    ]
    head = "| simulated campaign | regret |\n|---|---|\n"
    table = head + "\n".join(measured) + "\n" if measured else ""
    facts = f"Name `{name}`; for rewards {rewards}; decides by {by}; learns from"
    parts = [
        f'## {policy.label}\n<a id="{name}"></a>\n',
        inspect.getdoc(policy) or "",
        f"\n{facts} `{policy.statistic.family}`.\n",
        _parameters(policy),
        table,
    ]
    return "\n".join(part for part in parts if part)


def _parameters(policy: type[Parameters]) -> str:
    schema = msgspec.json.schema(policy)
    declared = schema["$defs"][policy.__name__]["properties"]
    if not declared:
        return "It has no parameters.\n"
    rows = [
        f"| `{name}` | {field['title']} | {field['description']} | {_bounds(field)}"
        f" | `{json.dumps(field['default'])}` |"
        for name, field in declared.items()
    ]
    head = "| parameter | | what it does | bounds | default |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _bounds(field: Mapping[str, Any]) -> str:
    if "items" in field:
        return f"up to {field['maxItems']} numbers, each {_bounds(field['items'])}"
    low = field.get("minimum", field.get("exclusiveMinimum"))
    bracket = "(" if "exclusiveMinimum" in field else "["
    return f"{bracket}{low:g}, {field['maximum']:g}]"


def _summary(policy: type[Parameters]) -> str:
    return (inspect.getdoc(policy) or "").partition("\n")[0]


def main(arguments: list[str]) -> None:
    """Write the page, measure before with ``--measure``, or compare it with ``--check``."""
    if arguments == ["--measure"]:
        REGRETS.write_bytes(
            msgspec.json.format(msgspec.json.encode(_measure_all()), indent=1) + b"\n"
        )
    text = page(stored_regrets())
    if arguments != ["--check"]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        sys.exit(f"{PAGE} is stale; run python -m simulations.policy_docs")


if __name__ == "__main__":
    main(sys.argv[1:])

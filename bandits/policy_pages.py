"""The page that documents every policy, made from what each declares.

``python -m bandits.policy_pages`` writes docs/policies.md; with ``--check`` it writes nothing and
fails if the page there is another.
"""

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bandits.policy import Parameters
from bandits.registry import policies

PAGE = Path("docs/policies.md")
REGRETS = Path("docs/policy_regrets.json")  # measured by simulation; the page only shows them

_HEAD = """\
# Policies

A policy decides how likely each variant is for the next recipient. All of them choose by exact
probabilities, which are logged with each decision; ties are split equally. A running experiment can
change to any policy that learns from the same statistic (`moments`, say), and loses nothing.

**Regret** is what a policy gives up by learning: how many successes fewer its campaign brings than
one in which everybody had got the best variant from the first email on, the less the better. Shown
is the mean of 100 simulated campaigns ± its standard error.

This page is made from the code by `python -m bandits.policy_pages`.
"""


def page(regrets: Mapping[str, Mapping[str, str]]) -> str:
    """Write the page.

    Args:
        regrets: for each scenario, what it asks, and by policy the regret measured there.
    """
    known = policies()
    rows = [f"| [{p.label}](#{name}) | `{name}` | {_summary(p)} |" for name, p in known.items()]
    parts = [_HEAD, "| | name | what it does |\n|---|---|---|\n" + "\n".join(rows) + "\n"]
    parts += [_section(name, policy, regrets) for name, policy in known.items()]
    return "\n".join(parts)


def _section(name: str, policy: type[Parameters], regrets: Mapping[str, Mapping[str, str]]) -> str:
    low, high = policy.support
    unbounded = (low, high) == (float("-inf"), float("inf"))
    rewards = "of any size" if unbounded else f"between {low:g} and {high:g}"
    by = "what is known of each recipient" if policy.statistic.contextual else "results alone"
    measured = [
        f"| {scenario} | {by_policy[name]} |"
        for scenario, by_policy in regrets.items()
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
    """Write the page, or with ``--check`` compare it."""
    regrets = json.loads(REGRETS.read_text()) if REGRETS.exists() else {}
    made = page(regrets)
    if arguments != ["--check"]:
        PAGE.write_text(made)
    elif not PAGE.exists() or PAGE.read_text() != made:
        sys.exit(f"{PAGE} is stale; run python -m bandits.policy_pages")


if __name__ == "__main__":
    main(sys.argv[1:])

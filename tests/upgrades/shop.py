"""What the database of a release holds: experiments of every kind, as a shop would declare them."""

from typing import Any

DAY = 86_400.0
HOUR = 3_600.0
START = 1_790_000_000.0  # 2026-09-21
CLICKS = {
    "metrics": {"click": {}},
    "window_seconds": 2 * DAY,
    "maturity_seconds": 6 * HOUR,
}
SALES = {
    "metrics": {"click": {"weight": 0.5}, "order": {"weight": 0.05, "high": 80, "count": "sum"}},
    "window_seconds": DAY,
    "maturity_seconds": 6 * HOUR,
}
RECIPIENT = [
    {"name": "recency", "kind": "number", "low": 0, "high": 24, "default": 6},
    {"name": "channel", "kind": "category", "values": ["Web", "Phone"], "default": "Web"},
]


def slot(key: str, *variants: str, kind: str = "other") -> dict[str, Any]:
    """Declare a slot; each variant's payload is as its kind has it."""
    name = {"subject_line": "text", "content": "html", "discount": "percent"}.get(kind, "note")
    return {
        "key": key,
        "kind": kind,
        "name": key.capitalize(),
        "variants": [
            {
                "key": variant,
                "name": f"Version {variant}",
                "payload": {name: 5 * i if kind == "discount" else f"{key} {variant} – é ✓"},
            }
            for i, variant in enumerate(variants)
        ],
    }


LINE = slot("line", "a", "b", "c", kind="subject_line")
BLOCK = slot("block", "hero", "story", kind="content")
DISCOUNT = slot("discount", "none", "ten", kind="discount")

# What runs through all of the time. Of each: the declaration, and the variants that do better.
SENT: dict[str, dict[str, Any]] = {
    "spring": {
        "name": "Spring sale",
        "slots": [LINE],
        "policy": {"name": "thompson", "params": {"prior_successes": 2.0, "prior_failures": 3.0}},
        "reward": CLICKS,
        "control": {"line": "a"},
        "holdout": 0.1,
        "floor": 0.05,
    },
    "personal": {
        "slots": [LINE, DISCOUNT],
        "policy": {"name": "linucb", "params": {"alpha": 0.4, "ridge": 2.0}},
        "reward": SALES | {"costs": {"discount": {"ten": 0.02}}},
        "context": RECIPIENT,
        "control": {"line": "b"},
        "exclude": [{"line": "c", "discount": "ten"}],
        "holdout": 0.1,
    },
    "rates": {
        "slots": [LINE],
        "policy": {"name": "logistic_thompson", "params": {"ridge": 2.0, "spread": 0.8}},
        "reward": CLICKS,
        "context": RECIPIENT,
    },
    "parts": {
        "slots": [LINE, BLOCK, DISCOUNT],
        "policy": {
            "name": "slots_thompson",
            "params": {"spread": 0.7, "ridge": 2.0, "draws": 1200},
        },
        "reward": SALES | {"costs": {"block": {"hero": 0.01}, "discount": {"ten": 0.02}}},
        "context": RECIPIENT[:1],
        "retention_days": 2,
    },
    "fading": {
        "slots": [LINE],
        "policy": {
            "name": "thompson_gaussian",
            "params": {"prior_weight": 2.0, "prior_shape": 1.5},
        },
        "reward": {
            "metrics": {"unsubscribe": {"weight": 2.0}},
            "goal": "minimise",
            "window_seconds": DAY,
            "maturity_seconds": HOUR,
        },
        "forgetting": {"half_life_seconds": 5 * DAY},
        "retention_days": 3,
    },
    "window": {
        "slots": [LINE],
        "policy": {"name": "ucb1", "params": {"w": 1.5}},
        "reward": CLICKS,
        "forgetting": {"window_seconds": 3 * DAY},
    },
    "kept": {
        "slots": [LINE],
        "policy": {"name": "lints", "params": {"v": 0.5, "ridge": 2.0}},
        "reward": SALES,
        "context": RECIPIENT,
        "retention_days": 2,
    },
    "once": {
        "slots": [DISCOUNT],
        "policy": {"name": "thompson", "params": {}},
        "reward": CLICKS,
        "assignment": "per_subject",
        "await_activation": True,
        "holdout": 0.1,
    },
}

# Of every other policy a short campaign, so that each has drawn and learned something.
POLICIES: dict[str, dict[str, Any]] = {
    "bayes_ucb": {"prior_successes": 2.0, "prior_failures": 3.0},
    "epsilon_greedy": {"epsilon": 0.2, "decay_after": 100.0},
    "greedy_ridge": {"ridge": 2.0},
    "kl_ucb": {},
    "softmax": {"temperature": 0.2},
    "squarecb": {"scale": 20.0, "exponent": 0.4, "ridge": 2.0},
    "top_two_thompson": {"leader_share": 0.6},
    "ucb_tuned": {},
    "uniform": {"weights": [2, 1, 1]},
}
SHORT: dict[str, dict[str, Any]] = {
    f"short-{name.replace('_', '-')}": {
        "slots": [LINE],
        "policy": {"name": name, "params": params},
        "reward": CLICKS,
        "context": RECIPIENT if name in {"greedy_ridge", "squarecb"} else [],
    }
    for name, params in POLICIES.items()
}

# What is stopped, put away, waits for its time, or was never started.
OTHERS: dict[str, dict[str, Any]] = {
    "winner": {"slots": [LINE], "policy": {"name": "thompson"}, "reward": CLICKS},
    "over": {
        "slots": [DISCOUNT],
        "policy": {"name": "thompson"},
        "reward": CLICKS,
        "assignment": "per_subject",
        "retention_days": 2,
    },
    "archived": {"slots": [LINE], "policy": {"name": "thompson"}, "reward": CLICKS},
    "resting": {"slots": [LINE], "policy": {"name": "thompson"}, "reward": CLICKS},
    "timed": {
        "slots": [LINE],
        "policy": {"name": "thompson"},
        "reward": CLICKS,
        "starts_at": "2026-09-22T08:00:00+02:00",
        "ends_at": "2026-09-25T08:00:00+02:00",
    },
    "scheduled": {
        "slots": [LINE],
        "policy": {"name": "thompson"},
        "reward": CLICKS,
        "starts_at": "2026-11-02T08:00:00Z",
        "ends_at": "2026-12-24T18:00:00Z",
    },
    "draft": {
        "name": "Never started",
        "slots": [LINE, BLOCK, slot("footer", "long", "short")],
        "policy": {"name": "epsilon_greedy", "params": {"epsilon": 0.3}},
        "reward": SALES | {"metrics": {"refund": {"low": -50, "high": 0, "count": "sum"}}},
        "forgetting": {"window_seconds": 30 * DAY},
        "context": RECIPIENT,
        "strict": True,
        "learn_every_seconds": 300.0,
        "retention_days": 60,
    },
    "mail": {"slots": [LINE], "policy": {"name": "thompson"}, "reward": CLICKS},
}

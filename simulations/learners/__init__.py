"""Who takes part: `contract` says what a contestant is; a policy is one by `adaptive`.

A policy itself has no memory. What it remembers here is in `memory`, with a half-life or a window,
and in `rebuilt` where a statistic cannot subtract; `stopping` is when an adaptive test ends early.
"""

"""Runs of a simulation: the loop, delays, records, and parallel replications.

`loop` runs a learner in a block of replications, `recorder` keeps its regret, `parallel` spreads
blocks over processes and machines with the same numbers. `schedule`, `delays` and `replications`
are the same for every learner.
"""

"""How replications are played: the loop, what it writes down, and who shares the work.

`runner` plays a block of replications, `ledger` is what it writes down, `competition` spreads
blocks over processes and `cluster` over machines, with the same numbers. Nothing here decides
anything about emails.
"""

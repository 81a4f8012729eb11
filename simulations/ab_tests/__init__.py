"""A/B tests that policies are compared with: they split, stop and ship their winner.

`procedures` has one class for each test that a scenario can name, `rotation` lets arms take turns
until a rule ends the test, `power` computes sizes and sequential boundaries.
"""

"""What policies are compared with: tests that split, stop and ship their winner.

`ab` has one class for each test that a scenario can name, `race` how arms take turns until a rule
ends a test, `power` how many recipients a test needs and where a sequential one may stop.
"""

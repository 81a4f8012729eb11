"""Inference from adaptively collected results: estimates, their intervals, and checks.

`estimates` chooses the method whose conditions hold; `confidence_sequences` are exact for constant
rates, `aipw` holds whatever the rates do; `sample_ratio`, `periods` and `lift_periods` check the
conditions.
"""

"""Forecasts of a planned campaign, within seconds, for the form's last step.

`wave_simulation` simulates it wave by wave, `forecast` sets a policy beside the best A/B test.
"""

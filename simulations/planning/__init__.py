"""A campaign that somebody plans, foreseen within seconds for the form's last step.

`campaign` plays it wave by wave, `outlook` sets a policy beside the best A/B test.
"""

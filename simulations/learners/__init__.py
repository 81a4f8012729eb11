"""Learners: `interfaces` has their protocols, `policy_learner` makes one of a policy.

`memory` holds a policy's statistic, with a half-life or a window or refitted where a statistic
cannot subtract; `remaining_value` ends an adaptive test early; `scheduled_learner` runs a learner
in batches, with delayed feedback.
"""

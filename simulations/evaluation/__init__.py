"""Off-policy evaluation: the value of one policy, estimated from a log that another one made."""

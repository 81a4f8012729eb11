"""Learning: what is due is summed and folded, what results rest on is kept, what is old goes."""

"""The log: appending decisions, what follows them, and what is found again, each one once."""

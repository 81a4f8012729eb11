"""Taking rows out of the log: of a subject who asks for it, and those that are old."""

"""Deletion of rows of the log: of a subject on request, and of old decisions by retention."""

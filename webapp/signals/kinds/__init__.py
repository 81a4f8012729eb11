"""Kinds of senders, one file each; a new file in this folder registers itself."""

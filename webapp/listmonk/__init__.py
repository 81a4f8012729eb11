"""listmonk: its messenger, the events of its exports, and choices as attributes of subscribers."""

"""The JSON API under ``/api/v1``, and what operators read at the root."""

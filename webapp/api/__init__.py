"""JSON API under ``/api/v1``, with health and metrics at the root."""

"""Signing in, people and API keys."""

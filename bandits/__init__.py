"""Bandit experiments for marketing email: the domain and the engine."""

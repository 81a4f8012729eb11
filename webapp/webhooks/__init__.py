"""Webhooks: deliveries of mailers and shops, recorded as events of decisions."""

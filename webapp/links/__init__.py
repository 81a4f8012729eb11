"""Tracked links: clicks, opens and unsubscribes that come to the server itself, without a mailer.

They are written to the spool before they are answered, and recorded by the launcher's thread.
"""

"""Notices: mails to people, webhooks and chats that the server sends by itself."""

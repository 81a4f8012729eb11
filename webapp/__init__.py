"""The API, the pages and the server."""

"""The log: appending decisions and events, activating and cancelling, and querying."""

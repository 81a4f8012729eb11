"""Signals: events that mailers, shops and list tools report by themselves, proved and read.

`receive` takes one delivery as it came and returns its events; `kind_registry` knows the kinds of
senders, one file each in `kinds`. Nothing here reads a clock, a database or the network: the time
and a fetcher are handed in, and what is read is returned.
"""

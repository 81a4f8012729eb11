"""Actors: who wrote rows of the log. A key, a person, a connection, or a program itself."""

from typing import Literal, NewType, cast

ActorKind = Literal["key", "person", "connection", "tracking", "program"]
_DIGITS = 18  # of the largest numbers that a column holds
Actor = NewType("Actor", str)  # kind and name, such as key:3 or person:anna@shop.example


def actor_of(kind: ActorKind, name: str | int) -> Actor:
    """Name an actor: an API key by its number, a person by their address, others by their keys."""
    return Actor(f"{kind}:{name}")


def split_actor(actor: Actor) -> tuple[ActorKind, str]:
    """Return the kind of an actor and its name among those of its kind."""
    kind, _, name = actor.partition(":")
    return cast("ActorKind", kind), name


def key_number(actor: Actor | None) -> int:
    """Return the number of an API key, 0 for any other actor and for none."""
    kind, name = ("", "") if actor is None else split_actor(actor)
    is_number = name.isascii() and name.isdecimal() and len(name) <= _DIGITS
    return int(name) if kind == "key" and is_number else 0


PROGRAM = actor_of("program", "engine")  # that uses the engine itself, and says no more

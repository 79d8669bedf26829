"""Threads through a dictionary: where their pairs stand, and where they lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from random import Random

from tokenry.measure.tasks.haystack import Keys, Pair, Value

DIRECTIONS = ("forward", "backward", "random")


def spread(random: Random, count: int, pairs: int, placing: str) -> list[int]:
    """Places of `count` pairs among `pairs`, in random order: anywhere, or side by side where `clustered`."""
    if placing == "clustered":
        first = random.randrange(pairs - count + 1)
        places = list(range(first, first + count))
        random.shuffle(places)
        return places
    return random.sample(range(pairs), count)


def along(random: Random, threads: int, hops: int, pairs: int, direction: str) -> list[int]:
    """Places for the pairs of threads, one thread after the other, each thread in its direction."""
    places = random.sample(range(pairs), threads * hops)
    found: list[int] = []
    for i in range(threads):
        mine = places[i * hops : (i + 1) * hops]
        if direction != "random":
            mine.sort(reverse=direction == "backward")
        found += mine
    return found


def spin(keys: Keys, threads: int, hops: int, branches: int = 1) -> tuple[list[Pair], list[str]]:
    """Pairs of which each leads to the next, thread by thread, and the keys at which the threads begin.

    With branches, a value is a list of as many, of which one leads on and the others end there; the last value is
    one alone, so that the longest way has one end.
    """
    pairs: list[Pair] = []
    starts = []
    for _ in range(threads):
        key = keys.new()
        starts.append(key)
        for hop in range(hops):
            after = keys.new()
            value: Value = after
            if branches > 1 and hop < hops - 1:
                ends = [keys.new() for _ in range(branches - 1)]
                ends.insert(keys.random.randrange(branches), after)
                value = ends
            pairs.append((key, value))
            key = after
    return pairs, starts


def follow(pairs: Mapping[str, Value], start: str) -> list[str]:
    """The values on the longest way from a key: one for each hop.

    Of ways of equal length the first in the dictionary's order is taken. A way never comes back to where it was.
    """
    best: list[str] = []
    waiting: list[list[str]] = [[start]]
    while waiting:
        way = waiting.pop()
        value = pairs.get(way[-1], [])
        ahead = [v for v in ([value] if isinstance(value, str) else value) if v not in way]
        if len(way) - 1 > len(best):
            best = way[1:]
        waiting += [[*way, after] for after in reversed(ahead)]
    return best


def direction(pairs: Mapping[str, Value], start: str) -> str:
    """Whether the pairs on the longest way stand ever later, ever earlier, or neither."""
    places = {key: i for i, key in enumerate(pairs)}
    way = [places[key] for key in (start, *follow(pairs, start)[:-1])]
    return "forward" if _rises(way) else "backward" if _rises(way[::-1]) else "random"


def _rises(places: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(places))

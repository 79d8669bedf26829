"""A prompt in blocks of queries, each with the keys up to its end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tokenry.models.attention.site import Site


def blocks(site: Site, size: int, stop: int | None = None) -> Iterator[tuple[Site, int]]:
    """Blocks on the grid of a sequence without padding, and how many keys stand before each.

    Args:
        stop: the row at which the last block ends; that of the last query where None.
    """
    end = site.k.shape[2] if stop is None else stop
    first = site.k.shape[2] - site.q.shape[2]
    for low, high in pairwise([first, *range(first - first % size + size, end, size), end]):
        yield site.for_queries(slice(low - first, high - first)).between(0, high), low

"""A prompt sequence by sequence, and each in blocks of queries with the keys up to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor

from tokenry.models.attention.site import Site


def each_alone(site: Site, read: Callable[[int, Site], Float[Tensor, "1 H N Dv"]]) -> Float[Tensor, "B H Q Dv"]:
    """What `read` makes of every sequence without its padding, given its number; 0 for padding."""
    out = site.q.new_zeros(*site.q.shape[:3], site.v.shape[-1])
    for row in range(len(site.q)):
        alone = site.alone(row)
        if alone is not None:
            part, queries = alone
            out[row, :, queries] = read(row, part)[0]
    return out


def blocks(site: Site, size: int, stop: int | None = None) -> Iterator[tuple[Site, int]]:
    """Blocks on the grid of a sequence without padding, and how many keys stand before each.

    Args:
        stop: the row at which the last block ends; that of the last query where None.
    """
    end = site.k.shape[2] if stop is None else stop
    first = site.k.shape[2] - site.q.shape[2]
    for low, high in pairwise([first, *range(first - first % size + size, end, size), end]):
        yield site.for_queries(slice(low - first, high - first)).between(0, high), low

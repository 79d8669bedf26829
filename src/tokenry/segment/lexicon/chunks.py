"""Chunks of text as a tree of characters: which of them begin at a place, the longest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Node = dict[str, Any]

_HERE = ""
"""The key under which a node holds the value of the chunk that ends there."""


class Chunks:
    """A map from chunks to values that finds the longest chunk at a place of a text."""

    def __init__(self, chunks: Iterable[tuple[str, int]] = ()) -> None:
        self.root: Node = {}
        for chunk, value in chunks:
            self.add(chunk, value)

    def add(self, chunk: str, value: int = 0) -> None:
        """Enter a chunk."""
        node = self.root
        for character in chunk:
            node = node.setdefault(character, {})
        node[_HERE] = value

    def remove(self, chunk: str) -> None:
        """Take a chunk out, and the branch on which nothing else stands."""
        path = [self.root]
        for character in chunk:
            path.append(path[-1][character])
        del path[-1][_HERE]
        for parent, character, node in zip(path[-2::-1], chunk[::-1], path[:0:-1], strict=True):
            if node:
                break
            del parent[character]

    def longest(self, text: str, at: int) -> tuple[int, int]:
        """The end of the longest chunk that begins at a place, and its value; the place itself and -1 of none."""
        node, found, value = self.root, at, -1
        for end in range(at, len(text)):
            below = node.get(text[end])
            if below is None:
                break
            node = below
            if _HERE in node:
                found, value = end + 1, node[_HERE]
        return found, value

    def greedy(self, text: str) -> Iterator[int]:
        """The values of the longest chunks from left to right, -1 of what is in none."""
        at = 0
        while at < len(text):
            end, value = self.longest(text, at)
            yield value
            at = max(end, at + 1)

    def parts(self, chunk: str) -> int:
        """How many longest chunks a chunk would be if it were not known itself."""
        head = max(self.longest(chunk[:-1], 0)[0], 1)
        return 1 + sum(1 for _ in self.greedy(chunk[head:]))

    def two(self, text: str, at: int) -> tuple[int, int]:
        """The lengths of the longest and the second longest chunk that begin at a place, 0 of none."""
        node, first, second = self.root, 0, 0
        for end in range(at, len(text)):
            below = node.get(text[end])
            if below is None:
                break
            node = below
            if _HERE in node:
                first, second = end + 1 - at, first
        return first, second

    def readings(self, text: str, most: int) -> Iterator[tuple[int, int, int]]:
        """Chunks from left to right by comparing two readings at each place: begin, end and value.

        The reading that begins with the longest chunk and that with the second longest go on by longest chunks until
        they meet; the one of fewer chunks wins, on a tie the one whose values, which rise with the rank, are smaller.

        Args:
            most: steps after which two readings that have not met are equal.
        """
        at = 0
        while at < len(text):
            first, second = self.two(text, at)
            size = self.better(text, at, first, second, most) if second else first
            end = at + max(size, 1)
            yield at, end, self.longest(text[at:end], 0)[1] if size else -1
            at = end

    def better(self, text: str, at: int, first: int, second: int, most: int) -> int:
        """The length of the chunk with which the shorter of two readings begins."""
        ends, counts, sums = [at + first, at + second], [1, 1], [0, 0]
        for i, size in enumerate((first, second)):
            sums[i] = self.longest(text[at : at + size], 0)[1]
        for _ in range(most):
            if ends[0] == ends[1]:
                break
            behind = 0 if ends[0] < ends[1] else 1
            end, value = self.longest(text, ends[behind])
            ends[behind] = max(end, ends[behind] + 1)
            counts[behind] += 1
            sums[behind] += value
        if ends[0] != ends[1]:
            return first
        return first if (counts[0], sums[0]) <= (counts[1], sums[1]) else second

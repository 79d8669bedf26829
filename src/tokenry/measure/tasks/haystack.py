"""Dictionaries of random pairs, of a given length in characters, in which some pairs have their place."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from tokenry.core.errors import InvalidValue

Value = str | list[str]
Pair = tuple[str, Value]

WORDS = tuple((Path(__file__).with_name("words.txt")).read_text(encoding="ascii").split())
"""Common words of four to six letters, each one token behind a quotation mark in many vocabularies."""

MARK = "*"
"""The character that marked keys hold and no other key does."""

_TYPICAL = 17
"""Characters of a pair of single words."""


class Keys:
    """Draws keys that were never drawn before.

    Args:
        random: where they come from.
        kind: `uuid`, or `short` for a word; two words where a dictionary needs more keys than there are words.
        characters: of the dictionary they are for.
    """

    def __init__(self, random: Random, kind: str, characters: int) -> None:
        self.random, self.kind = random, kind
        self.words = 1 if 2 * characters / _TYPICAL < 0.8 * len(WORDS) else 2
        self._drawn: set[str] = set()

    def new(self) -> str:
        """A key.

        Raises:
            InvalidValue: nearly all short keys are used up.
        """
        for _ in range(100):
            key = self._draw()
            if key not in self._drawn:
                self._drawn.add(key)
                return key
        raise InvalidValue(
            f"keys: must be enough for the dictionary; all but a few are used up after {len(self._drawn):,}; "
            "take keys=uuid or fewer characters."
        )

    def marked(self) -> str:
        """A key with the mark somewhere inside."""
        key = self.new()
        at = self.random.randrange(1, len(key))
        return key[:at] + MARK + key[at:]

    def _draw(self) -> str:
        if self.kind == "uuid":
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        return "-".join(self.random.choice(WORDS) for _ in range(self.words))


def decoys(keys: Keys, needles: Sequence[Pair], characters: int) -> list[Pair]:
    """As many pairs that lead nowhere as still fit beside the needles.

    Raises:
        InvalidValue: the needles alone are longer.
    """
    size = len(write(dict(needles)))
    if size > characters:
        raise InvalidValue(
            f"characters: must hold the {len(needles)} pairs that are asked for, which take {size}; got {characters}; "
            "ask for more characters or fewer pairs."
        )
    found: list[Pair] = []
    while True:
        pair = (keys.new(), keys.new())
        size += len(write(dict([pair])))  # two braces as much as the comma and the space before it
        if size > characters:
            return found
        found.append(pair)


def put(needles: Sequence[Pair], places: Sequence[int], others: Sequence[Pair]) -> dict[str, Value]:
    """Needles at their places, all other pairs between them."""
    at, rest = dict(zip(places, needles, strict=True)), iter(others)
    return dict(at[i] if i in at else next(rest) for i in range(len(needles) + len(others)))


def write(pairs: Mapping[str, Value]) -> str:
    """The dictionary as JSON."""
    return json.dumps(pairs)

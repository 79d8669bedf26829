"""Words as roots, affixes and pieces: the reading of fewest parts, or the longest part first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from tokenry.segment.languages.pack import Pack, Unit

PIECE = 2.5
"""What a piece of the other vocabulary costs where a root or an affix costs 1."""

LONGEST = 64
"""Letters beyond which a word is left to the other vocabulary."""

_AFFIX = 8
"""Letters of the longest affix as written."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a word.

    Args:
        text: as it is written.
        root, affix, piece: the number of the one that it is, -1 of the others.
    """

    text: str
    root: int = -1
    affix: int = -1
    piece: int = -1


def units(pack: Pack, parts: list[Part]) -> list[Unit | str]:
    """Parts as units of the language, pieces as text."""
    return [
        pack.roots[p.root] if p.root >= 0 else pack.affixes[p.affix] if p.affix >= 0 else p.text for p in parts
    ]  # fmt: skip


def written(pack: Pack, parts: list[Unit | str], behind: str = "") -> str:
    """A word from its parts: each takes the form that what stands on both sides asks for."""
    out = ""
    for part, following in zip_longest(parts, parts[1:]):
        if isinstance(part, str):
            out += part
        else:
            out += pack.form(part, behind + out, following if isinstance(following, Unit) else None)
    return out


def best(pack: Pack, word: str, pieces: Mapping[str, int]) -> list[Part] | None:
    """The reading of a word that costs least and is written as the word; None where there is none."""
    # From each place and last part, as the form of a part depends on the one behind it.
    costs: dict[tuple[int, Part | None], tuple[float, tuple[int, Part | None] | None]] = {(0, None): (0.0, None)}
    layers: list[list[tuple[int, Part | None]]] = [[] for _ in range(len(word) + 1)]
    layers[0].append((0, None))
    for at in range(len(word)):
        for state in layers[at]:
            cost = costs[state][0]
            for part in _parts(pack, word, at, pieces):
                if not _follows(pack, word, at, state[1], part):
                    continue
                end = at + len(part.text)
                new = (end, part)
                # Of readings with as many parts the one with the longer affixes: dictionaries hold verbs that are
                # written as a noun with half a plural, such as `yılla`.
                total = cost + (PIECE if part.piece >= 0 else 1.0) - _letters(pack, part) / 1000
                if new not in costs:
                    layers[end].append(new)
                if new not in costs or total < costs[new][0]:
                    costs[new] = total, state
    ends = [s for s in layers[len(word)] if s[1] is not None and _follows(pack, word, len(word), s[1], None)]
    if not ends:
        return None
    last: tuple[int, Part | None] | None = min(ends, key=lambda s: costs[s][0])
    found: list[Part] = []
    while last is not None and last[1] is not None:
        found.append(last[1])
        last = costs[last][1]
    return found[::-1]


def greedy(pack: Pack, word: str, pieces: Mapping[str, int]) -> list[Part] | None:
    """At each place the longest root, else the longest affix, else the longest piece."""
    found: list[Part] = []
    at = 0
    while at < len(word):
        choices = list(_parts(pack, word, at, pieces))
        if not choices:
            return None
        found.append(max(choices, key=lambda p: (p.root >= 0, p.affix >= 0, len(p.text))))
        at += len(found[-1].text)
    return found


def _letters(pack: Pack, part: Part) -> int:
    """By how many letters a reading is the better for an affix."""
    return len(part.text) if part.affix >= 0 and pack.affixes[part.affix].name not in pack.bound else 0


def _parts(pack: Pack, word: str, at: int, pieces: Mapping[str, int]) -> Iterator[Part]:
    if not at:
        for end in range(1, min(len(word), pack.longest) + 1):
            for root, _ in pack.root_forms.get(word[:end], ()):
                yield Part(word[:end], root=root)
    else:
        surfaces = pack.surfaces(pack.context(word[:at]))
        for end in range(at + 1, min(len(word), at + _AFFIX) + 1):
            for affix, _ in surfaces.get(word[at:end], ()):
                yield Part(word[at:end], affix=affix)
    for end in range(at + 1, min(len(word), at + 16) + 1):
        piece = pieces.get(word[at:end])
        if piece is not None:
            yield Part(word[at:end], piece=piece)


def _follows(pack: Pack, word: str, at: int, before: Part | None, part: Part | None) -> bool:
    """Whether the part before is written in the form that it takes before this one."""
    if before is None or before.piece >= 0:
        return True
    unit = pack.roots[before.root] if before.root >= 0 else pack.affixes[before.affix]
    if len(unit.forms) == 1:
        return True
    following = pack.affixes[part.affix] if part is not None and part.affix >= 0 else None
    return pack.form(unit, word[: at - len(before.text)], following) == before.text

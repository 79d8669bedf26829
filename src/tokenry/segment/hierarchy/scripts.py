"""The script of the letters in rows of bytes, known at every byte from those before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import regex
import torch
from jaxtyping import Int
from torch import Tensor

GROUPS = {
    "latin": ("Latin",),
    "greek": ("Greek",),
    "cyrillic": ("Cyrillic",),
    "armenian": ("Armenian", "Georgian"),
    "semitic": ("Hebrew", "Arabic", "Syriac", "Thaana", "Ethiopic"),
    "indic": (
        "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala",
        "Tibetan",
    ),
    "southeast": ("Thai", "Lao", "Myanmar", "Khmer"),
    "han": ("Han", "Bopomofo"),
    "kana": ("Hiragana", "Katakana"),
    "hangul": ("Hangul",),
}  # fmt: skip
"""Scripts by the name of their group."""


def scripts_at(
    ids: Int[Tensor, "B N"], known: Sequence[str], before: Int[Tensor, "B 2"]
) -> tuple[Int[Tensor, "B N"], Int[Tensor, "B 2"]]:
    """For each byte the place in `known` of the script of the last letter that began before its own end.

    A letter's script is told by its first two bytes, where most characters that begin so are of it. All others, such
    as signs, digits, marks and letters of scripts that are not known, keep what was there before them.

    Args:
        before: of each row the script and the byte before it, as the second result of the bytes before.
    """
    table = _table(tuple(known)).to(ids.device)
    bytes_ = ids.clamp_max(255)
    earlier = torch.cat((before[:, 1:], bytes_[:, :-1]), 1)
    own = table[earlier, bytes_]
    if not ids.shape[1]:
        return ids, before
    at = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    last = torch.where(own >= 0, at, 0).cummax(1).values
    found = torch.cat((before[:, :1], own), 1).gather(1, last)
    return found, torch.stack((found[:, -1], bytes_[:, -1]), 1)


@lru_cache(maxsize=8)
def _table(known: tuple[str, ...]) -> Int[Tensor, "256 256"]:
    """The script that a byte tells together with the one before it; -1 where they tell none."""
    table = torch.full((256, 256), -1, dtype=torch.long)
    everyone = _beginnings(r"\P{Cn}+")
    for i, name in enumerate(known):
        letters = _beginnings("|".join(rf"\p{{Script={script}}}+" for script in GROUPS[name]))
        for (first, second), count in letters.items():
            # A Chinese comma and a smiling face begin as some letters do.
            if 2 * count > everyone[first, second]:
                table[slice(None) if first < 0 else first, second] = i
    return table


def _beginnings(pattern: str) -> Counter[tuple[int, int]]:
    """How many such characters begin with each two bytes; a byte that is a whole character has -1 before it."""
    found: Counter[tuple[int, int]] = Counter()
    for match in regex.finditer(pattern, _characters()):
        found.update(map(_told, match[0]))
    return found


def _told(character: str) -> tuple[int, int]:
    data = character.encode()
    return (-1, data[0]) if len(data) == 1 else (data[0], data[1])


@lru_cache(maxsize=1)
def _characters() -> str:
    """All planes that hold letters."""
    return "".join(chr(c) for c in range(0x34000) if not 0xD800 <= c < 0xE000)

"""Tokens as people can see them: text where it is text, bytes where a token holds part of a character."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tokenry.core.sequence import TokenSequence

_SHOWN = {"\n": "↵\n", "\t": "⇥\t", "\r": "␍", "\x7f": "␡"}


@dataclass(frozen=True, slots=True)
class ShownToken:
    """One token.

    Args:
        id: in the vocabulary.
        start: its first byte in the text.
        end: the byte after it.
        text: what it holds, with signs for what cannot be seen.
        whole: whether that is text; else it is bytes in hexadecimal.
    """

    id: int
    start: int
    end: int
    text: str
    whole: bool


def shown_tokens(sequence: TokenSequence) -> Iterator[ShownToken]:
    """The tokens of one text, in order."""
    data = sequence.sources[0].data
    raw: bytes = data.encode() if isinstance(data, str) else data
    for i, (start, end) in zip(sequence.ids.tolist(), sequence.spans[:, :2].tolist(), strict=True):
        held = raw[start:end]
        try:
            text, whole = "".join(map(visible, held.decode())), True
        except UnicodeDecodeError:
            text, whole = held.hex(" "), False
        yield ShownToken(i, start, end, text, whole)


def visible(character: str) -> str:
    """A character, or a sign for one that cannot be seen or that would move others."""
    if character in _SHOWN:
        return _SHOWN[character]
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp"):
        return f"⟨U+{ord(character):04X}⟩"
    return character

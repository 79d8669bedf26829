"""Words of a text for models that read words: none is lost, and what follows a finished word never changes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import regex

from tokenry.core.errors import InvalidValue

_BREAK = regex.compile(r"\b", regex.WORD | regex.VERSION1)
"""Where words break by Unicode (UAX 29)."""
_FLAGS = re.compile("[\U0001f1e6-\U0001f1ff]+")
_SIGN = r"[\p{P}\p{Word_Break=MidLetter}\p{Word_Break=MidNum}\p{Word_Break=MidNumLet}--\s]"
_SPLIT = regex.compile(
    rf"(?<={_SIGN})|(?<=\p{{Ll}})(?=\p{{Lu}})|(?<=\S)(?=\s)", regex.VERSION1
)  # fmt: skip
"""Breaks beside those of Unicode: behind a sign, from a small letter to a capital, and in front of spaces."""
_JOINED = regex.compile(
    rf"(?<=\s)|(?={_SIGN})|(?=[\p{{Word_Break=Extend}}\p{{Word_Break=Format}}\p{{Word_Break=ZWJ}}])", regex.VERSION1
)
"""Where there is no break after all: behind spaces, in front of signs, and of what belongs to the character before."""


def words(data: bytes, longest: int = 64) -> list[bytes]:
    """The words of a text with the spaces before them and the signs behind them: `Hello,` and ` world!`.

    Words are those of Unicode, cut behind each sign and between a small letter and a capital; spaces belong to what
    follows them, signs to what they follow. Longer ones are cut, between characters where there are any. Bytes that
    are no UTF-8 are words of their own, each.

    Args:
        longest: bytes of a word.

    Raises:
        InvalidValue: fewer bytes than the longest character has.
    """
    if longest < 4:
        raise InvalidValue(f"words: longest must be at least 4, the bytes of a character; got {longest}.")
    found: list[bytes] = []
    for word in _words(data):
        start = 0
        while len(word) - start > longest:
            end = at = start + longest
            while at > end - 4 and word[at] & 0xC0 == 0x80:
                at -= 1
            at = at if word[at] & 0xC0 != 0x80 else end
            found.append(word[start:at])
            start = at
        found.append(word[start:])
    return found


def _words(data: bytes) -> Iterator[bytes]:
    """The same, however long."""
    whole = len(data) - _incomplete(data)
    text = data[:whole].decode("utf-8", "surrogateescape")
    ends = _ends(text)
    parts = [text[a:b].encode("utf-8", "surrogateescape") for a, b in pairwise([0, *ends])] if ends else []
    # A character that is not complete yet may go on the last word, and may not.
    tail = data[whole:]
    if tail:
        parts = [*parts[:-1], (parts[-1] if parts else b"") + tail]
    yield from parts


def _ends(text: str) -> list[int]:
    """Where words end, in characters."""
    if not text:
        return []
    inner = {m.start() for m in _SPLIT.finditer(text)}
    for start, stop in _between_flags(text):
        inner.update(start + m.start() for m in _BREAK.finditer(text[start:stop]))
    inner -= {m.start() for m in _JOINED.finditer(text)}
    for flags in _FLAGS.finditer(text):
        # Two of them are a flag; the library takes the square of their number to say so.
        a, b = flags.span()
        inner.difference_update(range(a + 1, b))
        inner.update(range(a + 2, b, 2))
    return [*sorted(inner - {0, len(text)}), len(text)]


def _between_flags(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for flags in _FLAGS.finditer(text):
        yield start, flags.start()
        start = flags.end()
    yield start, len(text)


def _incomplete(data: bytes) -> int:
    """The bytes at the end that begin a character and do not complete it."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 != 0x80:
            needed = 2 if 0xC2 <= byte <= 0xDF else 3 if 0xE0 <= byte <= 0xEF else 4 if 0xF0 <= byte <= 0xF4 else 1
            return back if needed > back else 0
    return 0

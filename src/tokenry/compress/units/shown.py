"""What a reader sees of what is written: signs that a format escapes, and no colours of a terminal."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

_COLOUR = re.compile(r"\x1b(?:\[[0-9:;<=>?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_SIGNS = {'"': '"', "\\": "\\", "/": "/", "b": " ", "f": " ", "n": "\n", "r": "\n", "t": "\t"}
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
_UNKNOWN = "\ufffd"


def uncoloured(text: str) -> str:
    """A text without what only tells a terminal how to draw it."""
    return _COLOUR.sub("", text) if "\x1b" in text else text


def uncoloured_at(text: str, bounds: Int[np.ndarray, "U 2"]) -> tuple[str, Int[np.ndarray, "U 2"]]:
    """A text without colours, and where units of it lie there."""
    spans = np.array([m.span() for m in _COLOUR.finditer(text)] if "\x1b" in text else [], dtype=np.int64).reshape(
        -1, 2
    )
    if not len(spans):
        return text, bounds
    gone = np.cumsum([0, *(spans[:, 1] - spans[:, 0])])
    return _COLOUR.sub("", text), bounds - gone[np.searchsorted(spans[:, 1], bounds, side="right")]


def unescaped(texts: Sequence[str]) -> list[str]:
    """Pieces of JSON with the signs that strings escape; a string within a string is one more time written so."""
    found = []
    for text in texts:
        for _ in range(3):
            if "\\" not in text:
                break
            text = _SURROGATES.sub(_joined, _ESCAPE.sub(_sign, text))
        found.append(text)
    return found


def unescaped_html(texts: Sequence[str]) -> list[str]:
    """Pieces of HTML with the signs that entities stand for."""
    return [html.unescape(text) if "&" in text else text for text in texts]


def _sign(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else _SIGNS[match[2]]


def _joined(match: re.Match[str]) -> str:
    """The character of a pair; half a pair is none, and no tokenizer takes it."""
    pair = len(match[0]) == 2
    return match[0].encode("utf-16", "surrogatepass").decode("utf-16") if pair else _UNKNOWN

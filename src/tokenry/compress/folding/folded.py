"""A text folded without loss: what it says several times is said once, and one line tells how to read it."""

from __future__ import annotations

from tokenry.compress.folding import lines, records


def fold(text: str) -> str:
    """The shortest of the ways in which a text can be folded; itself where none gives back every character."""
    if is_folded(text):
        return text
    best = text
    for way in (records, lines):
        found = way.folded(text)
        if found is not None and len(found) < len(best) and _gives_back(found, text):
            best = found
    return best


def unfold(text: str) -> str:
    """The text that `fold` was given; a text that is not folded is given back."""
    for way in (records, lines):
        if way.is_folded(text):
            try:
                return way.unfolded(text)
            except (ValueError, LookupError, AttributeError, RecursionError):
                return text
    return text


def is_folded(text: str) -> bool:
    """Whether a text begins with the line that tells how to read it."""
    return lines.is_folded(text) or records.is_folded(text)


def _gives_back(found: str, text: str) -> bool:
    return is_folded(found) and unfold(found) == text

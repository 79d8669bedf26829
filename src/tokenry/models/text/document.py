"""A text to read, with its name and what must stay of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text to read.

    Args:
        text: the whole text.
        name: what to call it.
        protect: half-open character spans that no method may remove.
        marks: the spelling of a mark, such as `<|im_end|>`, is that mark; else it is text like all others.
    """

    text: str
    name: str = ""
    protect: tuple[tuple[int, int], ...] = ()
    marks: bool = False

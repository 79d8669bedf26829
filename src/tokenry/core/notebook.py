"""Tokens as notebooks show them: each with a tint of its own, what is protected underlined."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import cycle

MOST_ROWS, MOST_TOKENS = 4, 200
"""What is shown of many rows, and of a long one."""
_TINTS = ("#8882", "#48f3", "#fa03", "#0a83")


def html_of_tokens(texts: Iterable[tuple[str, bool]], rest: int) -> str:
    """One block of HTML without scripts.

    Args:
        texts: what each token stands for, and whether it is protected.
        rest: how many more there are.
    """
    parts = [
        f'<span style="background:{tint}{";text-decoration:underline" if guarded else ""}">{escape(text)}</span>'
        for tint, (text, guarded) in zip(cycle(_TINTS), texts, strict=False)
    ]
    more = f"<p>… and {rest:,} more</p>" if rest > 0 else ""
    return f'<pre style="white-space:pre-wrap">{"".join(parts)}</pre>{more}'

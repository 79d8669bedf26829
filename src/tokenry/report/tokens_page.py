"""Draw the tokens of a text as one HTML page that needs nothing else."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tokenry.core.sequence import TokenSequence
from tokenry.report.shown_tokens import shown_tokens

LARGEST_PAGE = 50_000
"""Tokens that are drawn; browsers stumble over more."""


def tokens_page(sequence: TokenSequence, *, tokenizer: str, lossless: str, bytes_in: int) -> str:
    """The page: every token in a colour with its id, and its bytes in the text where the pointer rests.

    The text is escaped, and the page forbids itself scripts and all that would be loaded.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("tokens.html.j2").render(
        tokens=list(islice(shown_tokens(sequence), LARGEST_PAGE)),
        count=len(sequence),
        bytes_in=bytes_in,
        tokenizer=tokenizer,
        lossless=lossless,
    )

"""Draw the tokens of a text as one HTML page that needs nothing else."""

from __future__ import annotations

from markupsafe import Markup

from tokenry.core.sequence import TokenSequence
from tokenry.report.pack import readable, script_text
from tokenry.report.script import hash_of, script
from tokenry.report.shown_tokens import shown_tokens
from tokenry.report.template import environment, styles


def tokens_page(sequence: TokenSequence, *, tokenizer: str, lossless: str, bytes_in: int) -> str:
    """The page: every token in a colour, with its id and its bytes where the pointer rests; however many there are.

    All text is escaped, and the page forbids itself all loads and all scripts but its own.
    """
    tokens = list(shown_tokens(sequence))
    js = script("tokens/main.js")
    data = {
        "tokens": [t.text for t in tokens], "ids": [t.id for t in tokens], "ends": [t.end for t in tokens],
        "parts": [i for i, t in enumerate(tokens) if not t.whole],
    }  # fmt: skip
    page = environment().get_template("tokens/page.html.j2").render(
        count=len(sequence), bytes_in=bytes_in, tokenizer=tokenizer, lossless=lossless, js=js, js_hash=hash_of(js),
        css=styles("drawing/theme.css", "drawing/tokens.css", "drawing/bench.css", "tokens/page.css"),
        data=Markup(script_text(data)),
    )  # fmt: skip
    return readable(page)

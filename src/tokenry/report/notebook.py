"""A run as notebooks show it: the answer, what every step cost, and what is left of the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from tokenry.report import figures

MOST_PIECES = 200
"""Runs of tokens that stay or go, beyond which the documents are not shown."""


def html_of_run(
    run: Mapping[str, Any], ask: str, documents: Sequence[tuple[str, Sequence[str], Sequence[bool]]]
) -> str:
    """One block of HTML without scripts.

    Args:
        run: what `tokenry run --json` prints.
        ask: the question.
        documents: as they are shown.
    """
    receipt = run["receipt"]
    rows = "".join(
        f"<tr><td>{escape(step['room'])}/{escape(step['method'])}</td><td>{figures.count(step['tokens_in'])}</td>"
        f"<td>{figures.count(step['tokens_out'])}</td><td>{figures.seconds(step['seconds'])}</td></tr>"
        for step in receipt["steps"]
    )
    heads = "".join(f"<th>{name}</th>" for name in ("step", "tokens in", "tokens out", "time"))
    first = figures.seconds(receipt["seconds"]["first_token"])
    cost = (
        f"{figures.count(receipt['prompt_tokens'])} tokens read, {first} to the first token, "
        f"{figures.size(receipt['kv_bytes'])} of keys and values"
    )
    return (
        f"<p><b>{escape(ask)}</b></p><p>{escape(run['answer'])}</p>"
        f"<table><tr>{heads}</tr>{rows}</table><p>{cost}</p>{''.join(_document(*one) for one in documents)}"
    )


def _document(name: str, tokens: Sequence[str], kept: Sequence[bool]) -> str:
    """A document in which dots stand for what the model did not read."""
    pieces = []
    for stays, group in groupby(zip(tokens, kept, strict=True), key=lambda pair: bool(pair[1])):
        texts = [text for text, _ in group]
        gone = f'<span style="opacity:.5" title="{len(texts):,} tokens">…</span>'
        pieces.append(escape("".join(texts)) if stays else gone)
    more = "" if len(pieces) <= MOST_PIECES else "<p>… and more; `report` writes the whole page</p>"
    left = f"{sum(map(bool, kept)):,} of {len(kept):,} tokens"
    shown = "".join(pieces[:MOST_PIECES])
    return (
        f"<details><summary>{escape(name) or 'document'}: {left}</summary>"
        f'<pre style="white-space:pre-wrap">{shown}</pre>{more}</details>'
    )

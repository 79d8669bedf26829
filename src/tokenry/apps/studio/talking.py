"""Chat messages through the studio: which results of tools get shorter, and what is kept of each."""

from __future__ import annotations

import time
from typing import Any

from tokenry.apps.studio.shelf import Shelf
from tokenry.apps.studio.task import Task
from tokenry.core.errors import TokenryError
from tokenry.core.progress import now

MOST_DRAWN = 50
"""Results whose tokens are drawn; of all others the figures are told."""


def read_messages(task: Task, shelf: Shelf) -> dict[str, Any]:
    """Messages as they would be sent, and for each result its tokens before, with those that are kept.

    Raises:
        TokenryError: what is no list of messages, or a method that no text can carry.
    """
    from tokenry.models.text.counting import Counter
    from tokenry.pipeline.messages.compressing import FLOOR, USE, compress_messages
    from tokenry.pipeline.messages.results import results

    start, counter = time.perf_counter(), Counter.of(shelf.check(task.reader))
    use = task.methods or USE
    now(f"shortening results with {', '.join(use)}")
    found = compress_messages(list(task.messages), use=use, tokenizer=counter, ask=task.ask or None, floor=FLOOR)
    texts = {result.path: result for result in results(task.messages)}
    changes = []
    for at, change in enumerate(found.changes):
        told = {
            "path": list(change.path), "tool": change.tool, "kind": change.kind, "tokens_in": change.tokens_in,
            "tokens_out": change.tokens_out, "why": change.why,
        }  # fmt: skip
        result = texts.get(change.path)
        if at < MOST_DRAWN and result is not None:
            told |= _drawn(task, shelf, result.text, task.ask or result.ask, use if not change.why else ())
        changes.append(told)
    return {
        "kind": "messages", "messages": found.messages, "changes": changes, "tokens_in": found.tokens_in,
        "tokens_out": found.tokens_out, "seconds": time.perf_counter() - start, "notes": [],
    }  # fmt: skip


def _drawn(task: Task, shelf: Shelf, text: str, ask: str, use: tuple[str, ...]) -> dict[str, Any]:
    """The tokens of one result, and which of them stay; None where what is kept are no slices of it."""
    tokens = shelf.tokenizer(task.reader).encode(text)
    spans, data = tokens.spans[:, :2].tolist(), text.encode()
    drawn = {"tokens": [data[a:b].decode(errors="replace") for a, b in spans], "ids": tokens.ids.tolist()}
    kept = _kept(task, text, ask, use) if use else [(0, len(data))]
    if kept is None:
        return {**drawn, "kept": None}
    inside, at = [], 0
    for start, _ in spans:
        while at < len(kept) and kept[at][1] <= start:
            at += 1
        inside.append(int(at < len(kept) and kept[at][0] <= start))
    return {**drawn, "kept": inside}


def _kept(task: Task, text: str, ask: str, use: tuple[str, ...]) -> list[tuple[int, int]] | None:
    """Bytes of a text, from and to, that one method keeps as they are."""
    from tokenry.compress.base import Compressor
    from tokenry.compress.kept.shortening import shorten
    from tokenry.core.registry import parse

    method = parse(use[0])
    if len(use) > 1 or not isinstance(method, Compressor):
        return None
    try:
        short = shorten(method, text, task.reader, ask or None)
    except TokenryError:
        return None
    slices = [(p.start, p.end) for p in short.pieces if not p.mark]
    if any(text[a:b] != p.text for p, (a, b) in zip((p for p in short.pieces if not p.mark), slices, strict=True)):
        return None
    return [(len(text[:a].encode()), len(text[:b].encode())) for a, b in slices]

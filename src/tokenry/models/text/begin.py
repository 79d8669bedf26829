"""What stands before a text."""

from __future__ import annotations

from typing import Any


def begin_mark(model: Any) -> int | None:
    """The id that begins a text: the beginning mark of tokenizer or configuration, else an end mark, or None.

    Args:
        model: a network, or what holds one as `model`, perhaps with a `tokenizer`.
    """
    network = model if hasattr(model, "config") else model.model
    for owner in (getattr(model, "tokenizer", None), network.config.get_text_config()):
        for name in ("bos_token_id", "eos_token_id"):
            found = getattr(owner, name, None)
            if isinstance(found, int):
                return found
    return None

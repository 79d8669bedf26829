"""What stands behind a text."""

from __future__ import annotations

from typing import Any

from tokenry.models.attention.adapter import unwrap


def end_ids(model: Any) -> list[int]:
    """All ids at which generation ends, the one that is written first: of the model, else of the tokenizer.

    Args:
        model: a network, or what holds one as `model`, perhaps with a `tokenizer`.
    """
    network = model if hasattr(model, "config") else model.model
    found = unwrap(network).generation_config.eos_token_id
    if found is None:
        found = getattr(getattr(model, "tokenizer", None), "eos_token_id", None)
    return found if isinstance(found, list) else [] if found is None else [found]

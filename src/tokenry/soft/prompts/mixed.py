"""Rows with different soft tokens, or with none, in one batch."""

from __future__ import annotations

from collections.abc import Sequence

from transformers.cache_utils import Cache

from tokenry.core.tokens import TokenBatch
from tokenry.models.cache.prefix import Prefix, check_gaps, prefix_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.lookup import lookup
from tokenry.soft.base import SoftTokens
from tokenry.soft.prompts.rows import stack, with_embeds


def together(
    rows: Sequence[tuple[SoftTokens | None, TokenBatch]], language: LanguageModel
) -> tuple[TokenBatch, Cache | None]:
    """One batch of all rows, each with its own soft tokens, and the cache that it needs.

    Every row gives what it gives alone: soft tokens may differ in number and in method, and padding is masked.

    Args:
        rows: batches, each with the method whose soft tokens its rows get, or None.

    Raises:
        Incompatible: parameters of another model, or prefixes of rows of different lengths before sliding windows.
    """
    embed = lookup(language.model)
    batches: list[TokenBatch] = []
    prefixes: list[Prefix | None] = []
    held: list[int] = []
    for method, batch in rows:
        made = with_embeds(batch, embed) if method is None else method.embed(batch, language)
        cache = None if method is None else method.cache(made, language)
        batches.append(made)
        prefixes += [None] * made.shape[0] if cache is None else Prefix.rows(cache)
        held.append(0 if cache is None else cache.get_seq_length())
    joined = stack(batches, held)
    if not any(held):
        return joined, None
    check_gaps(language.model, joined.mask, max(held))
    return joined, prefix_cache(language.model, prefixes)

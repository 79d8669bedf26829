"""Tiny models and prompts for tests of room soft."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tests.compress.compress_rows import characters
from tokenry.core.tokens import TokenBatch
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.soft.training.examples import Example

EXAMPLES = [Example("abc", "x"), Example("a longer one", "yz"), Example("de", "xyz"), Example("f", "zz")]


@cache
def language(family: str = "llama", seed: int = 0) -> LanguageModel:
    """A tiny model with a tokenizer of single characters; tests leave it as it is."""
    return LanguageModel(tiny(family, seed=seed), characters(), f"tiny {family}", 512)


def ids(*lengths: int, seed: int = 0) -> TokenBatch:
    """Rows of different random ids, padded on the left."""
    longest = max(lengths)
    drawn = torch.randint(4, 120, (len(lengths), longest), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
    return TokenBatch.from_ids(drawn * mask, mask)


def row(batch: TokenBatch, i: int) -> TokenBatch:
    """One row without its padding."""
    assert batch.ids is not None
    return TokenBatch.from_ids(batch.ids[i][batch.mask[i]][None])


@torch.no_grad()
def spoken(model: LanguageModel, batch: TokenBatch, cache: Any, steps: int = 5, **options: Any) -> Any:
    """Greedy generation: ids and the logits of every step, (B, steps, V)."""
    out = model.model.generate(
        **batch.model_inputs(), **with_cache(cache), max_new_tokens=steps, do_sample=False, output_logits=True,
        return_dict_in_generate=True, **options,
    )  # fmt: skip
    return out.sequences, torch.stack(out.logits, 1)


@torch.no_grad()
def read(model: LanguageModel, batch: TokenBatch, cache: Any = None) -> torch.Tensor:
    """Logits of one forward over all columns that the cache does not hold."""
    held = 0 if cache is None else cache.get_seq_length()
    inputs = {"input_ids": batch.ids} if batch.embeds is None else {"inputs_embeds": batch.embeds[:, held:]}
    return model.model(
        **inputs, attention_mask=batch.mask.long(), position_ids=batch.positions[0][:, held:], **with_cache(cache)
    ).logits

"""Feed a model given tokens: a prompt, then the rest in passes of given sizes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tokenry.models.cache.name import NAME as CACHE


def tokens(rows: int, n: int, seed: int = 5) -> Tensor:
    return torch.randint(3, 128, (rows, n), generator=torch.Generator().manual_seed(seed))


@dataclass
class Fed:
    """What came of it.

    Shapes:
        logits (B, N - prompt + 1, V): after the last token of the prompt and after every one that followed.
    """

    logits: Tensor
    cache: Any
    run: Any = field(default=None)


def feed(model, method, ids, prompt, *, mask=None, passes=None, chunks=(), **attach) -> Fed:
    """Read `prompt` tokens, in `chunks` where given, then the rest in passes of these sizes, one by one where None."""
    n = ids.shape[1]
    mask = torch.ones_like(ids) if mask is None else mask
    chunks = list(chunks) or [prompt]
    assert sum(chunks) == prompt
    sizes = [1] * (n - prompt) if passes is None else list(passes)
    assert sum(sizes) == n - prompt
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    logits, cache, low = [], None, 0
    with torch.no_grad(), method(model, **attach) if method is not None else nullcontext() as run:
        for i, size in enumerate([*chunks, *sizes]):
            high = low + size
            out = model(
                input_ids=ids[:, low:high], attention_mask=mask[:, :high], position_ids=positions[:, low:high],
                use_cache=True, **{CACHE: cache},
            )  # fmt: skip
            cache, low = out[CACHE], high
            if i + 1 >= len(chunks):
                logits.append(out.logits[:, -1:] if i + 1 == len(chunks) else out.logits)
    return Fed(torch.cat(logits, 1), cache, run)


TRIES = [(4, 2), (5, 1), (1, 1), (3, 3), (4, 1), (6, 4)]
"""How many tokens are tried, and how many of them stay: twelve."""


def taken_back(model, cache, ids, prompt, tries) -> Tensor:
    """Logits of what stays, where tokens are tried and others come in the place of those that are taken back."""
    model(input_ids=ids[:, :prompt], **{CACHE: cache})
    low, logits = prompt, []
    for tried, kept in tries:
        text = ids[:, low : low + tried].clone()
        text[:, kept:] = 7
        logits.append(model(input_ids=text, **{CACHE: cache}).logits[:, :kept])
        cache.crop(kept - tried)
        low += kept
    return torch.cat(logits, 1)


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)

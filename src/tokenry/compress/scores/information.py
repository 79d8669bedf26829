"""How surprising each token is to a causal model: read in chunks through its cache, in windows where it must be."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from tokenry.core.progress import counted
from tokenry.models.attention.adapter import unwrap
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.begin import begin_mark

CHUNK = 256
"""Tokens whose logits exist at once."""


@torch.no_grad()
def information(model: LanguageModel, ids: Int[Tensor, "T"], *, window: int, stride: int) -> Float[Tensor, "T"]:
    """-log p(x_j | the tokens before it) in nats.

    A text longer than `window` is read in windows that advance by `stride`: each token is read with at least
    `window - stride` tokens before it, where there are as many. Every window begins with the model's mark for a
    beginning, which also stands before the first token.

    Args:
        window: tokens read together, that mark included; no more than the model's context.
        stride: tokens by which the next window advances, below `window`.
    """
    begin = beginning(model)
    body = window - len(begin)
    found = torch.zeros(len(ids))
    windows = list(_windows(len(ids), body, min(stride, body)))
    for start, fresh, end in counted(windows, "reading chunk", len(windows)):
        found[fresh:end] = surprise(model, torch.cat((begin, ids[start:end])), len(begin) + fresh - start)
    return found


def _windows(n: int, body: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """First token of each window, its first token that no window before had, and its end."""
    fresh = start = 0
    while fresh < n:
        end = min(n, start + body)
        yield start, fresh, end
        fresh, start = end, start + stride


def surprise(model: LanguageModel, ids: Int[Tensor, "T"], fresh: int) -> Float[Tensor, "F"]:
    """Surprise of the tokens from `fresh` on; a first token that nothing precedes is as likely as any other."""
    device = model.device
    cache = DynamicCache(config=unwrap(model.model).config)
    ids = ids.to(device)
    parts: list[Tensor] = []
    vocabulary = 1
    for low in range(0, len(ids), CHUNK):
        chunk = ids[low : low + CHUNK]
        logits = model.model(input_ids=chunk.unsqueeze(0), **with_cache(cache), use_cache=True).logits[0]
        vocabulary = logits.shape[-1]
        following = ids[low + 1 : low + CHUNK + 1]
        if low + len(following) >= fresh:
            logits = logits[: len(following)].float()
            parts.append(logits.logsumexp(-1) - logits.gather(-1, following.unsqueeze(-1)).squeeze(-1))
        else:
            parts.append(torch.zeros(len(following), device=device))
    first = torch.full((1,), float(vocabulary), device=device).log()
    return torch.cat((first, *parts))[fresh:].cpu()


def beginning(model: LanguageModel) -> Int[Tensor, "0..1"]:
    """The id that stands before a text, if there is one."""
    mark = begin_mark(model)
    return torch.tensor([] if mark is None else [mark], dtype=torch.long)

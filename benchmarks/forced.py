"""Feed a given text token by token, with a clock, so that every arm does exactly the same steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from tokenry import data, parse
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.cache.name import with_cache
from tokenry.models.files.load import LanguageModel

Attach = Callable[[int | None], AbstractContextManager[Any]]
"""Opens a block in which the model reads, given how many tokens its prompt has where that is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """What the model said after each token it was fed, and how many seconds that took.

    Shapes:
        logits (N, V) for N fed tokens.
    """

    logits: Tensor = field(repr=False)
    seconds: list[float]


@torch.inference_mode()
def read(language: LanguageModel, prompt: Tensor) -> tuple[Cache, float]:
    """Read a row of ids in one pass: the cache it leaves, and seconds."""
    cache = DynamicCache(config=language.model.config)
    start = time.perf_counter()
    language.model(input_ids=prompt[None], **with_cache(cache), logits_to_keep=1)
    return cache, time.perf_counter() - start


@torch.inference_mode()
def again(language: LanguageModel, cache: Cache) -> Cache:
    """A new cache that holds the same keys and values."""
    copied = DynamicCache(config=language.model.config)
    layers: list[Any] = cache.layers
    for i, layer in enumerate(layers):
        copied.update(layer.keys, layer.values, i)
    return copied


@torch.inference_mode()
def feed(language: LanguageModel, cache: Cache, text: Tensor) -> Steps:
    """Every token of a row of ids in a pass of its own, on top of what the cache holds."""
    rows, seconds = [], []
    for token in text:
        start = time.perf_counter()
        out = language.model(input_ids=token.view(1, 1), **with_cache(cache))
        seconds.append(time.perf_counter() - start)
        rows.append(out.logits[0, -1].float())
    return Steps(torch.stack(rows), seconds)


def dense(language: LanguageModel) -> Attach:
    """Everything is read, from tokenry's own cache."""
    return lambda _: ModelAdapter.of(language.model).attached_to(lambda _: Site.dense)


def using(language: LanguageModel, spec: str) -> Attach:
    """Attention by a method given in its one-line form."""
    method = parse(spec)
    return lambda tokens: method(language.model, prompt_tokens=tokens)


def ids(language: LanguageModel, *names: str) -> Tensor:
    """The sample documents of these names, one after the other, as one row of tokens."""
    return tokens(language, "\n\n".join(map(data.read, names)))


def tokens(language: LanguageModel, text: str) -> Tensor:
    """A text as one row of tokens."""
    return torch.tensor(language.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

"""What transformers calls a cache, in arguments and in outputs: `cache` from 5.24 on, `past_key_values` before."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from transformers import GenerationMixin
from transformers.cache_utils import Cache

NAMES = ("cache", "past_key_values")
"""The newest first."""

NAME = next(n for n in NAMES if n in inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters)
"""The name in the version that is installed. By another one a model takes a cache without a word, and ignores it."""


def with_cache(cache: Cache | None) -> dict[str, Any]:
    """A cache as an argument: `model(input_ids=ids, **with_cache(cache))`."""
    return {NAME: cache}


def cache_of(outputs: Any) -> Cache | None:
    """The cache among what a model or its `generate` gave; None where there is none."""
    return outputs.get(NAME) if isinstance(outputs, Mapping) else None


def renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments in which a cache may have any of its names."""
    return {NAME if name in NAMES else name: value for name, value in options.items()}

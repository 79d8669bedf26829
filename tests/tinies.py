"""Tiny models that tests share: built and proven once in a process, and left as they were found."""

from __future__ import annotations

from functools import cache

import torch
from transformers import PreTrainedModel

from tokenry.models.files.tiny import tiny

STRUCTURES = ("llama", "gemma3_text")
"""Plain layers; layers with QK-norm and grouped heads of which every second has a sliding window."""

LATENT = "deepseek_v3"
"""Layers that cache latents, of which keys and values of all heads are made at every step."""


@cache
def shared(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The tiny model of a family that all tests of a process use. Whoever changes a model makes one with `tiny`."""
    return tiny(family).to(dtype)

"""Tiny random models of structurally different families, for tests and for trying a method in a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

_COMMON: Mapping[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
_ONE_HEAD_SIZE = {k: v for k, v in _COMMON.items() if k not in ("num_key_value_heads", "head_dim")}

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": _COMMON,
    "qwen3": _COMMON,
    "gemma3_text": {**_COMMON, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2,
                    "num_hidden_layers": 4},
    "gpt_neox": _ONE_HEAD_SIZE,
    "phi3": _COMMON,
}  # fmt: skip


def tiny(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model of 3 or 4 layers and 128 vocabulary entries, ready to generate.

    Args:
        family: a key of `FAMILIES`.
        seed: of the weights; the global random state is left as it was.
        changes: configuration values that differ from the tiny ones.
    """
    config = AutoConfig.for_model(family, **{**FAMILIES[family], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model

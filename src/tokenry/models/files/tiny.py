"""Tiny random models of structurally different families, for tests and for trying a method in a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    PreTrainedModel,
)  # fmt: skip

_TOKENS: Mapping[str, Any] = {"vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
_ONE_HEAD_SIZE: Mapping[str, Any] = {
    **_TOKENS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip
_COMMON: Mapping[str, Any] = {**_ONE_HEAD_SIZE, "num_key_value_heads": 2, "head_dim": 16}
_EXPERTS: Mapping[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_IMAGE: Mapping[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
_TEXT: Mapping[str, Any] = {**_ONE_HEAD_SIZE, "eos_token_id": 2}

DECODERS: Mapping[str, Mapping[str, Any]] = {
    "cohere": _COMMON,
    "deepseek_v3": {**_ONE_HEAD_SIZE, **_EXPERTS, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
                    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4, "n_group": 1,
                    "topk_group": 1},
    "gemma2": {**_COMMON, "sliding_window": 16, "query_pre_attn_scalar": 16},
    "gemma3_text": {**_COMMON, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2,
                    "num_hidden_layers": 4},
    "gpt2": {**_TOKENS, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 512},
    "gpt_neox": _ONE_HEAD_SIZE,
    "gpt_oss": {**_COMMON, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    "granite": _COMMON,
    "llama": _COMMON,
    "mistral": {**_COMMON, "sliding_window": 16},
    "olmo2": _COMMON,
    "opt": {**_TOKENS, "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "max_position_embeddings": 512, "word_embed_proj_dim": 64},
    "phi3": _COMMON,
    "qwen2": _COMMON,
    "qwen3": _COMMON,
    "qwen3_moe": {**_COMMON, **_EXPERTS, "num_experts": 4},
    "smollm3": _COMMON,
    "stablelm": _COMMON,
}  # fmt: skip
"""Causal language models."""

OTHERS: Mapping[str, Mapping[str, Any]] = {
    "bert": _TEXT,
    "clip": {"text_config": _TEXT, "vision_config": _IMAGE},
    "dinov2": _IMAGE,
    "llava": {"text_config": {**_COMMON, "model_type": "llama"}, "image_token_index": 127, "image_seq_length": 16,
              "vision_config": {**_IMAGE, "model_type": "clip_vision_model"}},
    "modernbert": {**_TEXT, "cls_token_id": 3, "sep_token_id": 4},
    "siglip": {"text_config": _TEXT, "vision_config": _IMAGE},
    "t5": {"vocab_size": 128, "d_model": 64, "d_kv": 16, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 4,
           "d_ff": 96, "decoder_start_token_id": 0},
    "vit": _IMAGE,
    "whisper": {**_TEXT, "d_model": 64, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4,
                "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "num_mel_bins": 16,
                "max_source_positions": 24, "max_target_positions": 64, "decoder_start_token_id": 1},
}  # fmt: skip
"""Encoders, and models that decode after an encoder."""

_AUTO: Mapping[str, Any] = {
    "t5": AutoModelForSeq2SeqLM, "llava": AutoModelForImageTextToText, "whisper": AutoModelForSpeechSeq2Seq,
}  # fmt: skip


def tiny(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model of 3 or 4 layers and 128 vocabulary entries.

    Args:
        family: a key of `DECODERS` or `OTHERS`.
        seed: of the weights; the global random state is left as it was.
        changes: configuration values that differ from the tiny ones.
    """
    values = DECODERS[family] if family in DECODERS else OTHERS[family]
    config = AutoConfig.for_model(family, **{**values, **changes})
    auto = AutoModelForCausalLM if family in DECODERS else _AUTO.get(family, AutoModel)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(config).eval()
    if family in DECODERS:
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
    return model

"""A small random model of any family of transformers, made from nothing but the names in its configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
import transformers
from transformers import AutoConfig, DynamicCache, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "causal": ("AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "image-text": ("AutoModelForImageTextToText", modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES),
    "seq2seq": ("AutoModelForSeq2SeqLM", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    "speech": ("AutoModelForSpeechSeq2Seq", modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES),
    "masked": ("AutoModelForMaskedLM", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
}
"""Kinds of models: the class that makes them, and the families it knows."""

LARGEST = 150_000_000
"""Parameters of a model that still counts as small."""

SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "embedding_size", "embed_dim",
                     "lru_width", "conv_dim", "block_dim", "out_hidden_size", "projection_dim", "text_hidden_size",
                     "model_dim", "hidden_dim", "attention_dim", "emb_dim"), 64),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "dim_ff", "mlp_dim",
                     "ffn_hidden_size"), 96),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 4),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers", "depth", "num_global_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads", "n_heads",
                     "decoder_attention_heads", "swa_num_attention_heads", "index_n_heads", "kda_num_heads",
                     "num_experts", "num_local_experts", "n_routed_experts", "linear_num_value_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "swa_num_key_value_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim", "mamba_d_state",
                     "mamba_d_head", "mamba_head_dim", "ssm_state_size", "state_size", "index_head_dim",
                     "swa_head_dim", "swa_v_head_dim", "attention_head_dim", "global_head_dim", "kda_head_dim",
                     "q_lora_rank", "kv_lora_rank", "query_pre_attn_scalar", "hidden_size_per_layer_input"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "sliding_window", "attention_chunk_size",
                     "local_window_size", "patch_size", "mamba_n_heads", "mamba_num_heads", "num_ssm_heads"), 8),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 512),
    **dict.fromkeys(("num_experts_per_tok", "top_k_experts", "spatial_merge_size", "mamba_expand"), 2),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace", "mamba_n_groups", "n_groups",
                     "temporal_patch_size"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size",
                     "image_size"), 32),
    **dict.fromkeys(("num_nextn_predict_layers", "num_hash_layers"), 0),
    "vocab_size": 128, "vocab_size_per_layer_input": 128, "encoder_hash_byte_group_vocab": 128,
    "index_topk": 16, "window_size": 16, "mamba_d_ssm": 128,
    "num_channels": 3, "num_mel_bins": 16, "max_source_positions": 24, "max_target_positions": 64,
    "mm_tokens_per_image": 4, "intermediate_layers_indices": [0, 1], "image_grid_pinpoints": [[32, 64], [64, 32]],
    "projector_patch_to_query_dict": {16: 4}, "projector_input_dim": 64, "projector_output_dim": 64,
    "vision_output_dim": 192, "cross_attention_layers": [1], "decoder_start_token_id": 1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "image_token_id": 127, "image_token_index": 127, "video_token_id": 126, "video_token_index": 126,
    "audio_token_id": 125, "vision_start_token_id": 124, "vision_end_token_id": 123,
}  # fmt: skip
"""What configurations call their sizes, and small ones."""

_HYBRID: Mapping[str, Any] = {"layer_types": ["linear_attention", "full_attention"] * 2}
_BESIDE: Mapping[str, Any] = {"layers_block_type": ["linear_attention", "hybrid"] * 2}
_ROPE: Mapping[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
_INDEXED: Mapping[str, Any] = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16,
    "indexer_compress_ratio": 4, "hc_lowrank": 16, "layer_types": ["linear_attention", "indexed_attention"] * 2,
}  # fmt: skip
_CONVOLVED: Mapping[str, Any] = {"layer_types": ["conv", "full_attention"] * 2}
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "chameleon": {"vocabulary_map": {"<image>": 127}},
    "emu3": {"vocabulary_map": {"<image>": 127}},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 124, "audio_start_token_id": 123},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 124, "audio_start_token_id": 123},
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0}},
    "dory": {"n_input_layers": 1, "n_recurrent_layers": 2, "n_output_layers": 1},
    "gemma3n_text": {
        "num_kv_shared_layers": 2,
        "intermediate_size": [96] * 4,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "kimi_linear": _HYBRID,
    "lfm2": _CONVOLVED,
    "lfm2_moe": _CONVOLVED,
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "minimax": _HYBRID,
    "ministral": {"layer_types": ["full_attention", "sliding_attention"] * 2},
    "musicgen_decoder": {"num_codebooks": 1},
    "musicgen_melody_decoder": {"num_codebooks": 1},
    "nemotron_h": {"hybrid_override_pattern": "M*M*"},
    "olmo_hybrid": _HYBRID,
    "qwen3_5_moe_text": _HYBRID,
    "qwen3_5_text": _HYBRID,
    "qwen3_next": _HYBRID,
    "qwen4_exp_text": _INDEXED,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "vipllava": {"vision_feature_layer": [-1, -2, -3, -4, 0]},
    "xmod": {"default_language": "en_XX"},
    "zamba": _BESIDE,
    "zamba2": _BESIDE,
    "zaya": {"num_experts_per_tok": 1},
}
"""What some families need beside sizes."""

WIDTHS = ("sliding_window", "attention_chunk_size", "window_size", "local_window_size", "local_attention")
LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_target_positions", "seq_length", "max_seq_len")


class NotBuilt(Exception):
    """No small model of a family can be made from the names in its configuration."""


def small(kind: str, family: str) -> PreTrainedModel:
    """A model of a few layers that is ready to be read from, with weights that make attention matter.

    Raises:
        NotBuilt: with what transformers said of the last attempt.
    """
    said = "its configuration is not made of sizes that are known"
    first = None
    for config in _configurations(family):
        try:
            model = _built(kind, config)
            first = first or model
            _reads(model)
            return _ready(model)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
    if first is not None and not {"pixel_values", "input_features", "input_values"}.isdisjoint(_accepts(first)):
        return _ready(first)
    raise NotBuilt(" ".join(said.split())[:160])


def _configurations(family: str) -> Iterator[Any]:
    """Attempts, from the most special to the plainest."""
    cls: Any = CONFIG_MAPPING[family]
    try:
        sizes = _sizes(cls)
    except Exception:
        return
    plain = {k: v for k, v in sizes.items() if k != "head_dim"}
    attempts = (
        sizes, {**sizes, "num_key_value_heads": 4}, plain, {**plain, "num_key_value_heads": 4},
        {k: v for k, v in sizes.items() if k not in ("rotary_dim", "conv_dim", "block_dim", "projection_dim")},
    )  # fmt: skip
    for special in ({}, SPECIAL[family])[::-1] if family in SPECIAL else ({},):
        for values in attempts:
            try:
                config = _made(cls, {**values, **special})
            except Exception:
                continue
            for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
                _fit(part)
            yield config


def _sizes(cls: Any) -> dict[str, Any]:
    """Small values for all that a configuration and those inside it name."""
    names = _names(cls)
    values = {k: v for k, v in SIZES.items() if k in names}
    if {"kv_lora_rank", "qk_rope_head_dim"} & names:
        # Keys and values are made of latents for every head.
        values["num_key_value_heads"] = values["num_attention_heads"]
    try:
        default = cls()
    except Exception:
        default = None
    for name, part in (getattr(cls, "sub_configs", None) or {}).items():
        found = getattr(default, name, None)
        inner = type(found) if found is not None else part if inspect.isclass(part) and part is not AutoConfig else None
        if inner is not None:
            values[name] = _part(inner)
    return values


def _fit(config: Any) -> None:
    """What must follow from small sizes: one layer that keeps every token, and the parts of a head that turn with time,
    height and width."""
    layers = getattr(config, "layer_types", None)
    if layers and set(layers) <= {"sliding_attention", "hybrid_sliding"}:
        others = set(type(config)().layer_types) - set(layers)
        config.layer_types = [*layers[:-1], *(sorted(others)[:1] or layers[-1:])]
    rope = getattr(config, "rope_parameters", None) or {}
    if "mrope_section" in getattr(config, "ignore_keys_at_rope_validation", ()) and "rope_type" in rope:
        heads = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        half = int(heads * rope.get("partial_rotary_factor", 1.0)) // 2
        third = (half + 1) // 3
        rope["mrope_section"] = [half - 2 * third, third, third]


def _part(cls: Any) -> Any:
    values = {**_sizes(cls), **SPECIAL.get(cls.model_type, {})}
    attempts = (values, {**values, "num_key_value_heads": 4}, {k: v for k, v in values.items() if k != "head_dim"})
    for attempt in attempts[:-1]:
        try:
            return _made(cls, attempt)
        except Exception:
            continue
    return _made(cls, attempts[-1])


def _made(cls: Any, values: Mapping[str, Any]) -> Any:
    """The configuration; a size that is of another type there, such as a list, stays as it is."""
    values = dict(values)
    while True:
        try:
            return cls(**values)
        except Exception as error:
            found = re.search(r"Validation error for field '(\w+)'", str(error))
            if found is None or found[1] not in values:
                raise
            del values[found[1]]


def _names(cls: Any) -> set[str]:
    names = {name for c in cls.__mro__ for name in getattr(c, "__annotations__", {})}
    return names | set(inspect.signature(cls.__init__).parameters)


def _built(kind: str, config: Any) -> PreTrainedModel:
    auto = getattr(transformers, KINDS[kind][0])
    parts = [getattr(config, name, None) for name in config.sub_configs]
    alone = next((part for part in parts if part is not None and _is_made_of(kind, config, part)), None)
    for part in [config, *parts]:
        if part is not None:
            _prepare(part, decodes=kind == "causal")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = auto.from_config(config) if alone is None else _class(kind, config)(alone)
        model: PreTrainedModel = made.eval().float()
    count = sum(p.numel() for p in model.parameters())
    if count > LARGEST:
        raise ValueError(f"it has {count / 1e6:.0f} million parameters at its smallest")
    return model


def _is_made_of(kind: str, config: Any, part: Any) -> bool:
    """Whether models of this kind and family take a part of the configuration, one that is not called its text."""
    cls = _class(kind, config)
    return cls is not None and type(part) is cls.config_class and part is not getattr(config, "text_config", None)


def _class(kind: str, config: Any) -> Any:
    name = KINDS[kind][1].get(config.model_type)
    return getattr(transformers, name, None) if isinstance(name, str) else None


def _reads(model: PreTrainedModel) -> None:
    """Whether it reads a text; which those that must see or hear something do not."""
    ids = torch.arange(3, 11).repeat(2, 1)
    with torch.no_grad():
        model(input_ids=ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}))


def _accepts(model: PreTrainedModel) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


def _prepare(config: Any, *, decodes: bool) -> None:
    if decodes and getattr(config, "is_decoder", None) is False:
        config.is_decoder = True
    if "vision" not in type(config).__name__.lower():
        for name in WIDTHS:
            if isinstance(getattr(config, name, None), int):
                _set(config, name, 8)
        for name in LENGTHS:
            if isinstance(getattr(config, name, None), int) and getattr(config, name) < 512:
                _set(config, name, 512)
    if _all_slide(config):
        # As most such models are published; where all layers forget by themselves, methods have nothing to choose.
        _set(config, "sliding_window", None)
    for name in ("eos_token_id", "forced_eos_token_id"):
        if hasattr(config, name):
            _set(config, name, None)


def _set(config: Any, name: str, value: Any) -> None:
    """A value that a configuration does not take stays as it is."""
    with suppress(Exception):
        setattr(config, name, value)


def _all_slide(config: Any) -> bool:
    if getattr(config, "sliding_window", None) is None or getattr(config, "layer_types", None):
        return False
    return hasattr(config, "num_hidden_layers") and all(
        layer.is_sliding for layer in DynamicCache(config=config).layers
    )


def _ready(model: PreTrainedModel) -> PreTrainedModel:
    """Random weights are made larger: with those that transformers begins with, attention hardly changes an output."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2 and "norm" not in name and float(p.std()) < 0.05:
                p.mul_(4)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        if model.config.is_encoder_decoder and model.generation_config.decoder_start_token_id is None:
            model.generation_config.decoder_start_token_id = 1
    return model

"""What an answer costs by arithmetic: operations and cached bytes."""

from __future__ import annotations

from torch import nn

from tokenry.models.attention.adapter import unwrap
from tokenry.models.files.load import LanguageModel


def cache_geometry(language: LanguageModel) -> tuple[int, int, int, int, int]:
    """(layers, query heads, KV heads, head width, bytes of one element) from the configuration."""
    config = unwrap(language.model).config.get_text_config()
    heads = int(config.num_attention_heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return int(config.num_hidden_layers), heads, groups, width, language.dtype.itemsize


def row_bytes(language: LanguageModel) -> int:
    """Bytes that one token takes in the cache, over all layers."""
    layers, _, groups, width, size = cache_geometry(language)
    return 2 * layers * groups * width * size


def flops(language: LanguageModel, tokens: int, predicted: int, pairs: float) -> float:
    """Floating-point operations: two per weight and token, plus attention.

    Args:
        tokens: tokens that pass through the layers.
        predicted: positions whose next-token logits are computed.
        pairs: query-key pairs over all layers, counted once for all heads.
    """
    model = unwrap(language.model)
    head = model.get_output_embeddings()
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
    out = head.weight.numel() if head is not None else 0
    _, heads, _, width, _ = cache_geometry(language)
    return 2.0 * weights * tokens + 2.0 * out * predicted + 4.0 * heads * width * pairs

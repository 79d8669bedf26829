"""Names that transformers and accelerate promise to nobody. All that are used stand here; a test asks for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache


def configurations(model: PreTrainedModel) -> list[Any]:
    """Each configuration of a model and of its parts once, also those that belong to no model of their own."""
    found: dict[int, Any] = {}
    left: list[Any] = [m.config for m in model.modules() if isinstance(m, PreTrainedModel)]
    while left:
        config = left.pop(0)
        if config is not None and id(config) not in found:
            found[id(config)] = config
            left += [getattr(config, name, None) for name in config.sub_configs]
    return list(found.values())


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its inputs; one whose weights are fetched layer by layer computes where accelerate says."""
    if model.device.type != "meta":
        return model.device
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return torch.device("cpu")


def attention_name(config: Any) -> str | None:
    """The attention implementation that models of a configuration call."""
    return config._attn_implementation


def name_attention(config: Any, name: str | None) -> None:
    """Let models of this very configuration call another one; those of its parts have their own."""
    config._attn_implementation_internal = name


def expansion(layer: nn.Module) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """What makes keys and values of all heads of the latents that a layer caches; None where it caches these."""
    return getattr(layer, "expand_kv", None)


def keeps_logits(model: Any) -> bool:
    """Whether a forward takes `logits_to_keep`."""
    return bool(model._supports_logits_to_keep())


def read_prompt(model: Any, ids: Tensor, config: Any, inputs: dict[str, Any]) -> Any:
    """The first forward of `generate`, in chunks where the configuration says so."""
    return model._prefill(ids, config, inputs)


def going_on(model: Any, outputs: Any, inputs: dict[str, Any], count: int) -> dict[str, Any]:
    """What `generate` hands to the forward that reads `count` tokens after these outputs."""
    return model._update_model_kwargs_for_generation(outputs, inputs, num_new_tokens=count)


def optimised(model: Any) -> AbstractContextManager[Any]:
    """The block in which `generate` decodes."""
    return model._optimize_model_for_decode()


def padding_mark(config: Any) -> Tensor:
    """The id of padding, after `generate` has prepared its configuration."""
    return config._pad_token_tensor


def end_marks(config: Any) -> tuple[int, ...]:
    """The ids that end a text, after `generate` has prepared its configuration."""
    marks = config._eos_token_tensor
    return () if marks is None else tuple(marks.flatten().tolist())


def layer_kind(cache: Cache) -> Any:
    """The class of layers that a cache adds as it grows; None where it has all of them from the start."""
    return cache.layer_class_to_replicate


def set_layer_kind(cache: Cache, kind: Any) -> None:
    """Let a cache add layers of another class."""
    cache.layer_class_to_replicate = kind


def stop_recording(cache: Cache) -> None:
    """Let layers that were to remember more than they need, so that they can be cropped, forget again."""
    for layer in cache.layers:
        if hasattr(layer, "record_past"):
            layer.record_past = False


def seen_by(layer: Any) -> int:
    """Tokens that passed through a layer with a sliding window."""
    return int(layer.cumulative_length)


def set_seen_by(layer: Any, count: int) -> None:
    """Let a layer with a sliding window believe that so many passed through it."""
    layer.cumulative_length = count

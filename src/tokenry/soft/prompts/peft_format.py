"""The folders in which PEFT keeps soft prompts and prefixes: read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokenry.core.errors import Incompatible, InvalidValue, StorageError
from tokenry.core.saving import read_json, whole_folder
from tokenry.models.attention.adapter import unwrap
from tokenry.models.cache.prefix import Geometry, Prefix, geometry
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.lookup import lookup
from tokenry.soft.base import SoftTokens
from tokenry.soft.prefix_tuning import PrefixTuning
from tokenry.soft.prompt_tuning import PromptTuning

CONFIGURATION, PARAMETERS, TENSOR = "adapter_config.json", "adapter_model.safetensors", "prompt_embeddings"
PROMPT, PREFIX = "PROMPT_TUNING", "PREFIX_TUNING"


def write_peft(method: SoftTokens, folder: str | Path, language: LanguageModel) -> None:
    """Write a folder from which `PeftModel.from_pretrained(model, folder)` reads; a prefix is folded.

    Raises:
        InvalidValue: PEFT has no place for this method, or for prefixes of this model.
        Incompatible: the method was made for another model.
        StorageError: the folder cannot be written.
    """
    method.check(language)
    base = unwrap(language.model)
    values: dict[str, Any] = {
        "task_type": "CAUSAL_LM", "num_transformer_submodules": 1, "inference_mode": True,
        "base_model_name_or_path": str(base.config.name_or_path or "") or None,
    }  # fmt: skip
    if isinstance(method, PromptTuning):
        tensor = method.table.detach()
        values |= {
            "peft_type": PROMPT, "prompt_tuning_init": "RANDOM", "token_dim": tensor.shape[1],
            "num_layers": base.config.get_text_config().num_hidden_layers,
            "num_attention_heads": base.config.get_text_config().num_attention_heads,
        }  # fmt: skip
    elif isinstance(method, PrefixTuning):
        shape = geometry(language.model)
        _check_widths(shape)
        tensor, width = _flat(method.prefix()).detach(), shape.heads * shape.key_width
        values |= {
            "peft_type": PREFIX, "prefix_projection": False, "token_dim": width, "encoder_hidden_size": width,
            "num_layers": shape.layers, "num_attention_heads": shape.heads,
        }  # fmt: skip
    else:
        raise InvalidValue(f"peft: must be prompt_tuning or prefix_tuning; got {method}; PEFT has no such method.")
    values["num_virtual_tokens"] = len(tensor)
    with whole_folder(Path(folder)) as draft:
        (draft / CONFIGURATION).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        save_file({TENSOR: tensor.detach().cpu().float().contiguous()}, draft / PARAMETERS)


def read_peft(folder: str | Path, language: LanguageModel) -> PromptTuning | PrefixTuning:
    """What PEFT saved of prompt tuning or prefix tuning, for the model that it was tuned with.

    Raises:
        StorageError: a file is missing or damaged.
        InvalidValue: another method of PEFT's.
        Incompatible: sizes of another model.
    """
    file = Path(folder) / CONFIGURATION
    values = read_json(file)
    kind, tokens = values.get("peft_type"), values.get("num_virtual_tokens")
    if kind not in (PROMPT, PREFIX):
        raise InvalidValue(f"{file}: peft_type must be {PROMPT} or {PREFIX}; got {kind!r}.")
    if not isinstance(tokens, int) or tokens < 1 or values.get("num_transformer_submodules") not in (1, None):
        raise InvalidValue(f"{file}: must be of a causal model with at least one virtual token; it is not.")
    width = lookup(language.model)(torch.zeros(1, dtype=torch.long)).shape[-1]
    if kind == PROMPT:
        rows = _tensor(Path(folder) / PARAMETERS, (tokens, width), language)
        return PromptTuning(tokens=tokens).begin(language, rows)
    shape = geometry(language.model)
    _check_widths(shape)
    flat = _tensor(Path(folder) / PARAMETERS, (tokens, shape.layers * 2 * shape.heads * shape.key_width), language)
    # PEFT lays a token's numbers out as layers x (key, value) x heads x width.
    parts = flat.view(tokens, shape.layers, 2, shape.heads, -1).permute(2, 1, 3, 0, 4)
    return PrefixTuning(tokens=tokens, hidden=0).begin(language, Prefix(parts[0], parts[1]))


def _check_widths(shape: Geometry) -> None:
    if shape.key_width != shape.value_width:
        raise InvalidValue("peft: keys and values must be equally wide; they are not; keep tokenry's own folder.")


def _flat(prefix: Prefix) -> Float[Tensor, "S F"]:
    return torch.stack((prefix.keys, prefix.values), 1).permute(3, 0, 1, 2, 4).flatten(1)


def _tensor(file: Path, wanted: tuple[int, int], language: LanguageModel) -> Tensor:
    try:
        with safe_open(file, "pt") as content:
            shape = tuple(content.get_slice(TENSOR).get_shape()) if TENSOR in content.keys() else None  # noqa: SIM118
            if shape == wanted:
                return content.get_tensor(TENSOR).float()
    except (OSError, ValueError, SafetensorError) as error:
        raise StorageError(f"{file}: must be a whole safetensors file; {error}.") from error
    if shape is None:
        raise StorageError(f"{file}: must hold {TENSOR!r}; it does not.")
    raise Incompatible(f"{file}: {TENSOR!r} must have the shape {wanted} for {language.name}; got {shape}.")

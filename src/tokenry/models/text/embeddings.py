"""The input and output matrices of a causal model: read them, replace them, save the model."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenry.core.errors import StorageError, UnsupportedModel
from tokenry.core.saving import whole_folder
from tokenry.models.attention.adapter import unwrap
from tokenry.models.files.load import LanguageModel

SUPPRESSED = ("suppress_tokens", "begin_suppress_tokens")
"""Lists of ids in a generation configuration, beside all that ends in `_token_id`."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrices:
    """What stands before the first layer and behind the last one, a row for each id.

    Args:
        input: the embeddings.
        output: the weights of the logits, or None where they are those of the input; a bias is their last column.
    """

    input: Float[Tensor, "V E"]
    output: Float[Tensor, "V F"] | None


@torch.no_grad()
def matrices_of(model: Any) -> Matrices:
    """The matrices of a model, as they are in its memory.

    Raises:
        UnsupportedModel: the model is inside a wrapper or offloaded, or reads ids through more than one table.
    """
    base = unwrap(model)
    if base is not model:
        raise UnsupportedModel("model: must be plain before its vocabulary changes; got a wrapper; merge it first.")
    table, head = base.get_input_embeddings(), base.get_output_embeddings()
    if not (isinstance(table, nn.Embedding) and isinstance(head, nn.Linear) and table.weight.is_floating_point()):
        raise UnsupportedModel(f"{_called(base)}: must embed ids and give logits by one matrix of numbers each.")
    if "meta" in (table.weight.device.type, head.weight.device.type):
        raise UnsupportedModel(f"{_called(base)}: must hold its embeddings; they are offloaded; load it whole.")
    others = [
        name
        for name, module in base.named_modules()
        if isinstance(module, nn.Embedding) and module is not table and module.num_embeddings == len(table.weight)
    ]
    if others or len(head.weight) != len(table.weight):
        raise UnsupportedModel(f"{_called(base)}: must read ids through one table only; got another, {others or head}.")
    if head.weight is table.weight and head.bias is None:
        return Matrices(table.weight.detach(), None)
    bias = [] if head.bias is None else [head.bias.detach().unsqueeze(1)]
    return Matrices(table.weight.detach(), torch.cat((head.weight.detach(), *bias), 1))


def marks_of(model: Any) -> list[int]:
    """The ids that the configurations of a model name, such as those that end a text."""
    found: set[int] = set()
    for config in _configs(unwrap(model)):
        for name, value in vars(config).items():
            if name.endswith("_token_id"):
                found |= {i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)}
    return sorted(found)


def with_matrices(model: PreTrainedModel, new: Matrices, ids: Mapping[int, int]) -> PreTrainedModel:
    """The same model over another vocabulary; all weights but the matrices are shared with it, not copied.

    Args:
        new: matrices of the new vocabulary; tied or not as those of the model are.
        ids: new ids of the marks that the configuration may name, by the old ones; others are forgotten.
    """
    kept: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    model = deepcopy(model, kept)
    table: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    grad, tied, width = table.weight.requires_grad, head.weight is table.weight, head.in_features
    table.weight = nn.Parameter(new.input, requires_grad=grad)
    table.num_embeddings = head.out_features = len(new.input)
    table.padding_idx = None if table.padding_idx is None else ids.get(table.padding_idx)
    if new.output is None or tied:
        head.weight = table.weight
    else:
        head.weight = nn.Parameter(new.output[:, :width].contiguous(), requires_grad=grad)
    if head.bias is not None and new.output is not None:
        head.bias = nn.Parameter(new.output[:, width].contiguous(), requires_grad=grad)
    for owner in model.modules():
        if "vocab_size" in vars(owner):
            vars(owner)["vocab_size"] = len(new.input)
    model.config.get_text_config().vocab_size = len(new.input)
    for config in _configs(model):
        _rename(config, ids)
    return model


def save(language: LanguageModel, folder: str | Path) -> None:
    """Write model and tokenizer to a folder that plain transformers loads, whole or not at all.

    Raises:
        StorageError: the folder cannot be written.
    """
    with whole_folder(Path(folder)) as draft:
        try:
            unwrap(language.model).save_pretrained(draft)
            language.tokenizer.save_pretrained(draft)
        except SafetensorError as error:
            raise StorageError(f"{folder}: must have room for the model; {error}.") from error


def _configs(model: PreTrainedModel) -> list[Any]:
    """Each configuration once; that of the text is most often the whole one."""
    configs = (model.config, model.config.get_text_config(), model.generation_config)
    return list({id(c): c for c in configs if c is not None}.values())


def _rename(config: Any, ids: Mapping[int, int]) -> None:
    for name, value in list(vars(config).items()):
        if name in SUPPRESSED or name.endswith("_token_id"):
            if isinstance(value, int) and not isinstance(value, bool):
                setattr(config, name, ids.get(value))
            elif isinstance(value, list):
                setattr(config, name, [ids[v] for v in value if v in ids] or None)


def _called(model: PreTrainedModel) -> str:
    return type(model).__name__

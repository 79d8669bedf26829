"""A model's input embeddings: what ids become, what tells two models apart, and the proof that ids can be left out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from tokenry.core.errors import UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import evaluating

SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
SAMPLES = (17, 32)
"""Shape of a witness: a row of sizes, and a row from the embedding of each of 16 ids, spread over the vocabulary."""

_proven: WeakSet[PreTrainedModel] = WeakSet()


def lookup(model: Any) -> Callable[[Tensor], Tensor]:
    """What embeds ids as the model does; embeddings come back to where the ids are."""
    layer: Any = unwrap(model).get_input_embeddings()
    return lambda ids: layer(ids.to(layer.weight.device)).to(ids.device)


def vocabulary_size(model: Any) -> int:
    """Rows of the embedding table."""
    layer: Any = unwrap(model).get_input_embeddings()
    return int(layer.weight.shape[0])


@torch.no_grad()
def witness(model: Any) -> Float[Tensor, "17 32"]:
    """The kind and the sizes of a model, and some numbers of its embeddings, by which it is known again.

    A copy with other weights but the same embeddings is not told apart.
    """
    rows, numbers = SAMPLES[0] - 1, SAMPLES[1]
    config = unwrap(model).config.get_text_config()
    kind = hashlib.sha256(str(config.model_type).encode()).digest()[:8]
    sizes = [*kind, *(float(getattr(config, name, None) or 0) for name in SIZES), vocabulary_size(model)]
    found = lookup(model)(torch.linspace(0, vocabulary_size(model) - 1, rows).long()).float()[:, :numbers]
    return torch.cat((pad(torch.tensor([sizes]), (0, numbers - len(sizes))), pad(found, (0, numbers - found.shape[1]))))


def same_witness(a: Float[Tensor, "17 32"], b: Float[Tensor, "17 32"]) -> bool:
    """Whether both are of one model: equal but for what 16-bit numbers round away."""
    a, b = a.float().cpu(), b.float().cpu()
    return bool(torch.isfinite(a).all()) and torch.allclose(a, b, rtol=2**-8, atol=1e-7)


@torch.no_grad()
def prove(model: Any) -> None:
    """Embeddings in place of ids must give the same logits; a model that passed is not asked again.

    Raises:
        UnsupportedModel: they do not.
    """
    base = unwrap(model)
    if base in _proven:
        return
    ids = torch.arange(7, device=private.input_device(base))[None] * 5 % vocabulary_size(base)
    with evaluating(base):
        expected, found = base(input_ids=ids).logits, base(inputs_embeds=lookup(base)(ids)).logits
    if not close(expected, found):
        raise UnsupportedModel(
            f"{type(base).__name__}: embeddings in place of ids must give the same logits; they do not; "
            "soft tokens cannot stand in this model."
        )
    _proven.add(base)


def close(expected: Tensor, found: Tensor) -> bool:
    """Whether logits agree as far as their numbers are exact."""
    share = 1e-3 if expected.dtype in (torch.float32, torch.float64) else 5e-2
    error = float((expected.float() - found.float()).abs().max())
    return error <= share * max(1.0, float(expected.abs().max()))

"""The tokens of a vocabulary that a model embeds nearest to one of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.models.attention.adapter import unwrap
from tokenry.models.files.load import LanguageModel

SHOWN = 8


@torch.no_grad()
def neighbours(language: LanguageModel, token: Any) -> list[dict[str, Any]]:
    """The nearest tokens by the cosine of input embeddings, nearest first, without itself.

    Raises:
        InvalidValue: no id of the vocabulary.
    """
    table: Tensor = unwrap(language.model).get_input_embeddings().weight  # type: ignore[assignment]
    if type(token) is not int or not 0 <= token < len(table):
        raise InvalidValue(f"id: must be in [0, {len(table) - 1}]; got {token!r}.")
    near = torch.nn.functional.cosine_similarity(table.float(), table[token].float()[None])
    near[token] = -2
    values, ids = near.topk(min(SHOWN, len(table) - 1))
    return [
        {"id": i, "text": language.tokenizer.decode([i]), "cosine": round(value, 3)}
        for i, value in zip(ids.tolist(), values.tolist(), strict=True)
    ]

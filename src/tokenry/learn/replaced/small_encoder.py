"""A small bidirectional transformer over the embeddings of another model."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear


class SmallEncoder(nn.Module):
    """Says what hidden tokens are.

    Args:
        table: the embeddings of the model, which are reached and not held.
        width: of its layers.
        layers: how many.
        heads: of each.
    """

    def __init__(self, table: Any, width: int, layers: int, heads: int) -> None:
        super().__init__()
        size, inner = table.weight.shape
        self._table = (table,)
        self.down, self.up = nn.Linear(inner, width), nn.Linear(width, inner)
        self.mark = nn.Parameter(torch.randn(width) * 0.02)
        self.bias = nn.Parameter(torch.zeros(size))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"], hidden: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "H V"]:
        """The logits of the hidden tokens, in 32-bit floats."""
        weight = self._table[0].weight.float()
        x = torch.where(hidden.unsqueeze(-1), self.mark, self.down(self._table[0](ids).float()))
        x = x + _waves((real.cumsum(1) - 1).clamp_min(0), x.shape[-1])
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~real)
        return linear(self.up(self.norm(x[hidden])), weight, self.bias)


def _waves(positions: Int[Tensor, "B N"], width: int) -> Float[Tensor, "B N W"]:
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width))
    angles = positions.unsqueeze(-1) * rates
    return torch.cat((angles.sin(), angles.cos()), -1)[..., :width]

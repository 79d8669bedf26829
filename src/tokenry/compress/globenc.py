"""GlobEnc: lengths of what each token hands to each other one, multiplied through all layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokenry.compress.attribution import Attribution
from tokenry.core.card import Card
from tokenry.models.attention.anatomy import Reading
from tokenry.models.attention.encoder_layer import Steps, scale

ELEMENTS = 1 << 22
"""Numbers of pair vectors that exist at once."""


@dataclass(frozen=True, kw_only=True)
class GlobEnc(Attribution):
    """Weigh tokens by the norms of their contributions to the first token, rolled out over the layers.

    What it does
        p_ij = Σ_h α^h_ij x_j W_V^h W_O^h + [i = j] x_i;  each p_ij is centred by its own mean, divided by the true
        standard deviation of the state before the first norm, times its gain; the same again with the state before
        the second norm.  N_ij = ‖p_ij‖;  weights = first row of N_L … N_1, divided by its maximum.
    Where it acts
        As `attribution` of `frugal_prompt`, on an encoder that normalises after each block.
    Shapes
        Text of T tokens -> weights (T), in [0, 1].
    Guarantees
        The largest weight is 1. Memory holds a slice of the (T, T, E) pair vectors at a time.
    Raises
        UnsupportedModel: the encoder's layers cannot be taken apart.
    Deviations
        The bias of the values is left out, as all biases are; the authors' code keeps it within the values.
    Relations
        The MLP enters only through the second standard deviation; `decompx` follows the vectors through it.
    """

    part = Card(
        title="GlobEnc: Quantifying Global Token Attribution by Incorporating the Whole Encoder Layer in Transformers",
        year=2022,
        url="https://aclanthology.org/2022.naacl-main.19/",
        summary="norms of what tokens hand to each other, rolled out over the layers",
        deviations=("the bias of the values is left out, as all biases are",),
    )

    def weigh(self, reading: Reading) -> Float[Tensor, "T"]:
        row = torch.zeros_like(reading.steps[0].x[:, 0])
        row[0] = 1.0
        for steps in reversed(reading.steps):
            row = row @ contributions(steps)
            row = row / row.max()  # only ratios matter, and products of many layers overflow
        return row


def contributions(steps: Steps) -> Float[Tensor, "T T"]:
    """N: how long what token j hands to token i still is after both norms of a layer."""
    layer, (h, t, _) = steps.layer, steps.probs.shape
    values = functional.linear(steps.x, layer.values.weight.float()).unflatten(-1, (h, -1))
    handed = torch.einsum("thd,ehd->hte", values, layer.output.weight.float().unflatten(-1, (h, -1)))
    first, second = scale(layer.norm, steps.summed), scale(layer.last_norm, steps.total)
    rows = max(1, ELEMENTS // (t * handed.shape[-1]))
    found = []
    for low in range(0, t, rows):
        some = slice(low, low + rows)
        pairs = torch.einsum("hij,hje->ije", steps.probs[:, some], handed)
        pairs[:, some].diagonal(dim1=0, dim2=1).add_(steps.x[some].T)
        for factor in (first, second):
            pairs = (pairs - pairs.mean(-1, keepdim=True)) * factor[some, None]
        found.append(pairs.norm(dim=-1))
    return torch.cat(found)

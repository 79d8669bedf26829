"""Attributions: how much each token of a text has to do with what an encoder makes of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tokenry.core.card import Card
from tokenry.core.method import Part
from tokenry.models.attention.anatomy import Reading, read
from tokenry.models.attention.encoder_layer import Head, Steps, linear, scale
from tokenry.models.files.load import Encoder


@dataclass(frozen=True, kw_only=True)
class Attribution(Part):
    """A part of `frugal_prompt` that says how much each token weighs in an encoder's reading of its text."""

    room: ClassVar[str] = "compress"

    @torch.no_grad()
    def attribute(self, encoder: Encoder, ids: Int[Tensor, "T"], mask: Bool[Tensor, "T"]) -> Float[Tensor, "T"]:
        """The weight of every token of one text; padding is not read and weighs nothing.

        Time and memory grow with the square of the number of tokens: cut long texts.

        Args:
            ids: with the encoder's own marks, as its tokenizer gives them.
            mask: True for real tokens, which may stand left or right.

        Raises:
            UnsupportedModel: the encoder's layers cannot be taken apart.
        """
        weights = torch.zeros(len(ids))
        if bool(mask.any()):
            weights[mask.cpu()] = self.weigh(read(encoder.model, ids[mask])).cpu()
        return weights

    @abstractmethod
    def weigh(self, reading: Reading) -> Float[Tensor, "T"]:
        """The weight of every token of a text that was read without padding."""


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
        name="globenc",
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


ELEMENTS = 1 << 24


"""Numbers inside the MLP that exist at once."""


@dataclass(frozen=True, kw_only=True)
class DecompX(Attribution):
    """Weigh tokens by their shares of the embedding of the sentence, or of the classifier's answer.

    What it does
        Each state x_i is kept as Σ_k x_i⇐k over the tokens k it came from. Attention, residual sums and linear layers
        act on each share; a norm centres each share and divides it by the true standard deviation of x_i; the
        activation a(z) multiplies it by the slope a(z) / z. A bias b is split over k as |b · x_i⇐k| / Σ_k |b · x_i⇐k|.
        Weight of k: ⟨e_k, e⟩ / ⟨e, e⟩, where the embedding e = Σ_k e_k is the mean state. Where the encoder has a
        classifier: the part of k in the largest logit.
    Where it acts
        As `attribution` of `frugal_prompt`, on an encoder that normalises after each block.
    Shapes
        Text of T tokens -> shares (T, T, E) after every layer -> weights (T).
    Guarantees
        Σ_k x_i⇐k = x_i after every layer, and Σ weights = 1, or the largest logit, up to rounding. Memory is a few
        times T² E; of the MLP's T² F numbers only a slice exists at once.
    Raises
        UnsupportedModel: the encoder's layers cannot be taken apart.
    Deviations
        Without a classifier the target is the embedding of the sentence. With one it is the logit of the class that
        the encoder chose, not of a given label. The bias of the values is split in every layer; the authors' code
        leaves it within the values in the first.
    Relations
        `globenc` costs far less, and does not follow the vectors through the MLP.
    """

    part = Card(
        name="decompx",
        title="DecompX: Explaining Transformers Decisions by Propagating Token Decomposition",
        year=2023,
        url="https://aclanthology.org/2023.acl-long.149/",
        summary="shares of every token in the embedding or the logit, carried through all layers",
        deviations=(
            "without a classifier the target is the embedding of the sentence, the mean of the last states",
            "with a classifier the target is the largest logit",
            "the bias of the values is split over the sources in the first layer as well",
        ),
    )

    def weigh(self, reading: Reading) -> Float[Tensor, "T"]:
        shares = reading.steps[0].x
        for shares in decomposed(reading.steps):  # noqa: B007
            pass
        state = reading.steps[-1].out
        if reading.head is not None:
            return _logit(reading.head, shares[0], state[0])
        whole = state.mean(0)
        return shares.mean(0) @ whole / whole.square().sum()


def decomposed(layers: tuple[Steps, ...]) -> Iterator[Float[Tensor, "T K E"]]:
    """After every layer, the share of each source token k in the state of each token."""
    x = layers[0].x
    shares = torch.diag_embed(x.T).permute(1, 2, 0)
    for steps in layers:
        shares = _through(steps, shares)
        yield shares


def _through(steps: Steps, shares: Float[Tensor, "T K E"]) -> Float[Tensor, "T K E"]:
    layer = steps.layer
    shares = _with_bias(shares + layer.mix(shares, steps.probs), layer.mixed_bias)
    shares = _normalised(layer.norm, shares, steps.summed)
    slopes = _slope(steps.active, steps.rising)
    rows = max(1, ELEMENTS // (shares.shape[1] * slopes.shape[1]))
    for low in range(0, len(shares), rows):
        some = slice(low, low + rows)
        inner = _linear(layer.up, shares[some]) * slopes[some, None]
        shares[some] += _linear(layer.down, inner)
    return _normalised(layer.last_norm, shares, steps.total)


def _logit(head: Head, shares: Float[Tensor, "K E"], state: Float[Tensor, "E"]) -> Float[Tensor, "K"]:
    """Parts of the largest logit."""
    rising = linear(head.first, state)
    active = head.activation(rising)
    inner = _linear(head.first, shares) * _slope(active, rising)
    return _linear(head.last, inner)[:, linear(head.last, active).argmax()]


def _linear(module: nn.Linear, shares: Float[Tensor, "*T K E"]) -> Float[Tensor, "*T K F"]:
    moved = functional.linear(shares, module.weight.float())
    return moved if module.bias is None else _with_bias(moved, module.bias.float())


def _normalised(norm: nn.LayerNorm, shares: Float[Tensor, "T K E"], state: Float[Tensor, "T E"]) -> Tensor:
    shares = (shares - shares.mean(-1, keepdim=True)) * scale(norm, state)[:, None]
    return shares if norm.bias is None else _with_bias(shares, norm.bias.float())


def _with_bias(shares: Float[Tensor, "*T K E"], bias: Float[Tensor, "E"]) -> Float[Tensor, "*T K E"]:
    """Give each share its part of the bias ("absdot"); equal parts where no share has anything in common with it."""
    weight = (shares @ bias).abs()
    total = weight.sum(-1, keepdim=True)
    weight = torch.where(total > 0, weight / total, 1 / weight.shape[-1])
    return shares + weight.unsqueeze(-1) * bias


def _slope(active: Tensor, rising: Tensor) -> Tensor:
    """a(z) / z; the limit of GELU exactly at 0, where the shares cancel each other out."""
    return torch.where(rising == 0, 0.5, active / rising)

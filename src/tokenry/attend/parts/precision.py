"""With how many bits keys are read when a token is decoded."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice
from tokenry.core.method import Part
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState

_LOW = 4
"""Bits of the low plane, two of which make a byte."""


@dataclass(frozen=True, kw_only=True)
class Precision(Part):
    """With how many bits keys are read when a token is decoded."""

    room: ClassVar[str] = "attend"

    @abstractmethod
    def probs(self, site: Site) -> Float[Tensor, "B H 1 K"]:
        """Attention probabilities of one query."""


@dataclass(frozen=True, kw_only=True)
class Exact(Precision):
    """Read keys as they are.

    What it does
        softmax(q k / sqrt(D)).
    Where it acts
        As `precision` of `spatten`.
    Shapes
        site.q (B, H, 1, D), site.k (B, G, K, D) -> probabilities (B, H, 1, K).
    Guarantees
        Exact attention.
    Raises
        Nothing.
    Relations
        What `progressive` is measured against.
    """

    part = Card(
        title="Keys as they are",
        year=2021,
        url="https://arxiv.org/abs/2012.09852",
        summary="keys are read as they are",
    )

    def probs(self, site: Site) -> Float[Tensor, "B H 1 K"]:
        return site.probs()


@dataclass
class Planes(LayerState):
    """The keys of a layer as whole numbers, their high bits and their low bits apart.

    Shapes:
        high (B, G, R, D), low (B, G, R, D/2) with two numbers in a byte, unit (B, G, R, 1): what a 1 stands for.
    """

    high: Int[Tensor, "B G R D"] | None = None
    low: Int[Tensor, "B G R D2"] | None = None
    unit: Float[Tensor, "B G R 1"] | None = None

    def crop(self, seen: int) -> None:
        """Rows are counted again: some may hold other tokens."""
        self.forget()

    def extend(self, keys: Float[Tensor, "B G K D"], bits: int) -> None:
        """Enter the keys of the rows that are new."""
        held = 0 if self.high is None else self.high.shape[2]
        if held > keys.shape[2]:
            self.forget()
            held = 0
        if held == keys.shape[2]:
            return
        new = split(keys[:, :, held:].detach(), bits)
        if self.high is None or self.low is None or self.unit is None:
            self.high, self.low, self.unit = new
        else:
            self.high, self.low, self.unit = (
                torch.cat(pair, 2) for pair in zip((self.high, self.low, self.unit), new, strict=True)
            )


@dataclass(frozen=True, kw_only=True)
class Progressive(Precision):
    """Read the high bits of all keys, and the low bits where attention comes out flat.

    What it does
        A key is whole numbers of `high` + 4 bits and a unit. p = softmax over the high bits, the middle of what they
        may stand for; where the largest p of a head is below `flat`, which is where an error matters, the low bits are
        read as well and p is made again.
    Where it acts
        As `precision` of `spatten`, at decoding steps.
    Shapes
        site.q (B, H, 1, D), site.k (B, G, K, D) -> probabilities (B, H, 1, K).
    Guarantees
        High and low bits give back every whole number. With `flat=1` all bits are always read, with 0 never the low
        ones. What is read is counted: a byte or two for the high bits of a number, half a byte for the low ones.
    Raises
        InvalidValue: fields out of range.
    Relations
        The planes stand beside the exact keys and add to the memory; they save what is read.
    """

    part = Card(
        title="SpAtten: Efficient Sparse Attention Architecture with Cascade Token and Head Pruning",
        year=2021,
        url="https://arxiv.org/abs/2012.09852",
        summary="the high bits of keys are read, and the low ones where attention is flat",
    )

    high: str = choice("4", "6", "8", "10", "12", default="8", doc="bits of the high plane; the low one has 4")
    flat: float = between(0.0, 1.0, default=0.1, doc="largest probability of a head below which low bits are read")

    def probs(self, site: Site) -> Float[Tensor, "B H 1 K"]:
        if site.k.shape[-1] % 2 or site.sinks is not None or site.bias is not None or site.cap is not None:
            raise InvalidValue(
                "progressive: keys must have an even number of channels, and logits no sinks, bias or cap; "
                "this model has others; use precision=exact."
            )
        assert site.buffer is not None
        planes = site.buffer.state(Planes)
        if site.holes:
            # Rows move where sequences hold different numbers of tokens.
            planes.forget()
        planes.extend(site.k, int(self.high) + _LOW)
        high, low, unit = planes.high, planes.low, planes.unit
        assert high is not None
        assert low is not None
        assert unit is not None
        b, h, _, d = site.q.shape
        g = site.k.shape[1]
        q, mask = site.q.detach().float().view(b, g, h // g, d) * site.scale, site.mask()

        def attend(which: tuple[Tensor, Tensor], numbers: Tensor) -> Tensor:
            logits = q[which] @ (numbers.float() * unit[which]).mT
            if mask is not None:
                seen = mask.expand(b, g, 1, -1)[which]
                logits = logits.masked_fill(~seen, torch.finfo(logits.dtype).min)
            return logits.softmax(-1)

        at = torch.arange(b * g, device=q.device)
        probs = attend((at // g, at % g), high.flatten(0, 1).float() * (1 << _LOW) + (1 << _LOW) / 2)
        flat = (probs.amax(-1) < self.flat).any(-1)
        again = at[flat] // g, at[flat] % g
        if bool(flat.any()):
            whole = attend(again, joined(high[again], low[again]))
            is_flat = probs[flat].amax(-1, keepdim=True) < self.flat
            probs[flat] = torch.where(is_flat, whole, probs[flat])
        if site.reads is not None:
            site.reads.bytes += high.nbytes + unit.nbytes + int(flat.sum()) * low[0, 0].nbytes
        return probs.view(b, h, 1, -1)


def split(keys: Float[Tensor, "B G K D"], bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """High bits, low bits and unit of keys as whole numbers of so many bits, symmetric about 0."""
    most = (1 << (bits - 1)) - 1
    unit = (keys.float().abs().amax(-1, keepdim=True) / most).clamp_min(torch.finfo(torch.float32).tiny)
    whole = (keys.float() / unit).round().clamp(-most, most).to(torch.int32)
    high, low = whole >> _LOW, (whole & ((1 << _LOW) - 1)).to(torch.uint8)
    return (
        high.to(torch.int8 if bits - _LOW <= 8 else torch.int16),
        low[..., ::2] | (low[..., 1::2] << _LOW),
        unit,
    )


def joined(high: Int[Tensor, "*N D"], low: Int[Tensor, "*N D2"]) -> Int[Tensor, "*N D"]:
    """The whole numbers again."""
    pairs = torch.stack((low & ((1 << _LOW) - 1), low >> _LOW), -1).flatten(-2)
    return (high.to(torch.int32) << _LOW) + pairs.to(torch.int32)

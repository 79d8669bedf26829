"""ZeTT's hypernetwork: from the old pieces that spell a new one to its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

from tokenry.core.fields import between, choice, positive
from tokenry.core.learned import Learned
from tokenry.embed.transfer.donor import Donor, Rows

BYTES = 256
"""Learned rows stand for single bytes that the old vocabulary has no piece for; one more for what spells nothing."""

HEAD = 64
"""Width of an attention head, where the model is wide enough for one."""

NEAR_ZERO = 1e-6
"""Columns that vary less are not stretched."""


class Made(NamedTuple):
    """Rows in the numbers of the matrices; of a tied model the output is None."""

    input: Float[Tensor, "P E"]
    output: Float[Tensor, "P F"] | None


class Block(nn.Module):
    """LN(x + gelu(W2 gelu(W1 x)))."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "... H"]) -> Float[Tensor, "... H"]:
        """The same shape again."""
        inner = gelu(self.first(x), approximate="tanh")
        return self.norm(x + gelu(self.second(inner), approximate="tanh"))


@dataclass(eq=False, repr=False, kw_only=True)
class Hypernetwork(Learned):
    """Predict the rows of a piece from the rows of the old pieces o_1 … o_n that spell it.

    With S = [E ‖ U] the old rows, brought to mean 0 and spread 1 in every column:
    x_i = S[o_i];  h = transformer(proj(x) + positions) at the first position;
    rows = shift + scale · (residual · mean_i x_i + head(h)), one head for each matrix.
    """

    room: ClassVar[str] = "embed"

    layers: int = positive(3, doc="of the transformer")
    longest: int = positive(7, doc="old pieces that are read of a new one; the rest is cut off")
    widening: int = positive(2, doc="inner width as a multiple of the width")
    residual: float = between(0.0, 1.0, default=1.0, doc="share of the mean of pieces in a row; 0 is the paper's")
    rescaling: str = choice("fixed", "learned", "none", default="fixed", doc="what brings columns to one size")

    @classmethod
    def name(cls) -> str:
        return "hypernetwork"

    def make(self, *, width: int, outputs: int) -> None:
        """Widths of the input rows and of the output rows; 1 output column is a tied model's."""
        whole = self._whole(width, outputs)
        inner = self.widening * width
        self.missing = nn.Parameter(torch.randn(BYTES + 1, whole))
        scales = {"shift": torch.zeros(whole), "scale": torch.ones(whole)}
        for name, values in scales.items():
            if self.rescaling == "learned":
                self.register_parameter(name, nn.Parameter(values))
            else:
                self.register_buffer(name, values)
        self.project = nn.Sequential(nn.Linear(whole, width), Block(width, inner))
        self.positions = nn.Parameter(0.02 * torch.randn(self.longest, width))
        self.norm = nn.LayerNorm(width)
        layer = nn.TransformerEncoderLayer(
            width, _heads(width), inner, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, self.layers, enable_nested_tensor=False)
        sizes = [width] + [outputs] * (whole > width)
        heads = [nn.Sequential(Block(width, inner), nn.Linear(width, size)) for size in sizes]
        if self.residual:
            for head in heads:
                for values in head[-1].parameters():
                    nn.init.zeros_(values)
        self.heads = nn.ModuleList(heads)

    @classmethod
    def sizes(cls, donor: Donor) -> dict[str, int]:
        """What `build` is given for a donor."""
        return {"width": donor.input.shape[1], "outputs": 1 if donor.output is None else donor.output.shape[1]}

    @property
    def built_with(self) -> dict[str, int]:
        """What `build` was given."""
        return dict(self._sizes or {})

    @torch.no_grad()
    def fit_scales(self, donor: Donor) -> None:
        """Learn the size of every column of the donor's rows."""
        if self.rescaling == "none":
            return
        source = source_of(donor)[: len(donor.vocabulary)]
        self.shift.copy_(source.mean(0))
        self.scale.copy_(source.std(0).clamp_min(NEAR_ZERO))

    def forward(self, source: Float[Tensor, "V W"], spelled: Int[Tensor, "P n"]) -> Made:
        """Rows of pieces that are spelled by equally many old ones.

        Args:
            source: old rows of both matrices side by side.
            spelled: old ids; from V on bytes without a piece, and V + 256 for nothing.
        """
        x = (source[spelled.clamp_max(len(source) - 1)] - self.shift) / self.scale
        lacking = spelled >= len(source)
        if bool(lacking.any()):
            x = torch.where(lacking[..., None], self.missing[(spelled - len(source)).clamp_min(0)], x)
        h = self.norm(self.project(x) + self.positions[: x.shape[1]])
        first = self.encoder(h)[:, 0]
        made = [head(first).float() for head in self.heads]
        rows = self.shift + self.scale * (self.residual * x.mean(1) + torch.cat(made, -1))
        width = made[0].shape[1]
        return Made(rows[:, :width], rows[:, width:] if len(made) > 1 else None)

    def rows(self, source: Float[Tensor, "V W"], spellings: Sequence[Sequence[int]]) -> Made:
        """Rows of any pieces; those of one length are read together, so that none is padded."""
        cut = [ids[: self.longest] for ids in spellings]
        order = sorted(range(len(cut)), key=lambda i: len(cut[i]))
        parts: list[Made] = []
        at = 0
        while at < len(order):
            length = len(cut[order[at]])
            end = at
            while end < len(order) and len(cut[order[end]]) == length:
                end += 1
            parts.append(self(source, torch.tensor([cut[i] for i in order[at:end]])))
            at = end
        back = torch.tensor(order).argsort()
        made = torch.cat([p.input for p in parts])[back]
        outputs = [p.output for p in parts if p.output is not None]
        return Made(made, torch.cat(outputs)[back] if outputs else None)

    def _whole(self, width: int, outputs: int) -> int:
        return width if outputs == 1 else width + outputs


def source_of(donor: Donor) -> Float[Tensor, "V W"]:
    """The donor's rows of both matrices side by side, in 32-bit floats on the processor."""
    given = (donor.input,) if donor.output is None else (donor.input, donor.output)
    return torch.cat([matrix.float().cpu() for matrix in given], 1)


def spellings(donor: Donor, pieces: Sequence[bytes | None]) -> list[list[int]]:
    """How the donor spells each piece; bytes that it has no piece for, and nothing at all, are ids behind its rows."""
    return [ids or _with_bytes(donor, piece) for piece, ids in zip(pieces, donor.cut(pieces), strict=True)]


def _with_bytes(donor: Donor, piece: bytes | None) -> list[int]:
    rows = len(donor.input)
    if not piece:
        return [rows + BYTES]
    found: list[int] = []
    at = 0
    while at < len(piece):
        end = next((e for e in range(len(piece), at, -1) if piece[at:e] in donor.ids), at)
        found.append(donor.ids[piece[at:end]] if end > at else rows + piece[at])
        at = max(end, at + 1)
    return found


def _heads(width: int) -> int:
    return max(1, width // HEAD) if width % HEAD == 0 else 1


__all__ = ["Hypernetwork", "Made", "Rows", "source_of", "spellings"]

"""FSQ: each of a few numbers is rounded to one of its levels; all combinations are the codebook."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, counts, part
from tokenry.quantize.base import Quantized, Quantizer
from tokenry.quantize.codebooks.maps import Map, best_map, directions
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.parts.balance import AsTheyAre, Balance
from tokenry.quantize.parts.grid import Grid, TanhGrid


@dataclass(eq=False, repr=False, kw_only=True)
class FSQ(Quantizer):
    """Round each of a few numbers to one of its levels; the combination of levels is the token.

    What it does
        Number j of D is bounded and rounded to one of L_j levels, k_j; the code is sum_j k_j prod_{l<j} L_l. There is
        no table. Vectors of another width than D come to D numbers by a linear map, and back by another.
    Where it acts
        On vectors, usually between an encoder and a decoder.
    Shapes
        x (B, N, E) -> values (B, N, E), codes (B, N, 1), codebook prod L.
    Guarantees
        Codes are whole numbers of 64 bits, each with a point of the grid of its own; none is lost in half precision.
        The gradient is that of the bounding alone. In evaluation values are those of the codes, bit for bit. Values
        that are quantized again are bounded again, which may give other codes; on `clamped_grid` they stay.
    Raises
        InvalidValue: levels outside their limits or fewer than the grid has, vectors of another width or that are not
        finite, a mask of another shape, codes that there are not, a part that is none.
        Unbuilt: there is no width yet.
    Deviations
        See the card.
    Relations
        `vq` has a table instead. `projected` around it, or `rvq` with `grid=clamped_grid` and `scaling=grid_steps`,
        make residual levels.
    """

    card = Card(
        title="Finite Scalar Quantization: VQ-VAE Made Simple",
        year=2023,
        url="https://arxiv.org/abs/2309.15505",
        summary="each of a few numbers is rounded to one of its levels; all combinations are the codebook",
        trial={"levels": (5, 4, 3)},
        claims=(
            "in the middle of an autoencoder of photographs it is at least 5 dB better than random codes and at most "
            "1.86 dB worse than no quantizer; of its 512 codes the perplexity is 120 or more only with balanced "
            "channels, for which it gives up decibels (benchmarks/quantize/images.py)",
        ),
        deviations=(
            "the shift of even levels is artanh where the paper's listing has tan, as its first author corrected it",
            "the bound is wider than the outermost levels by 1e-3, as in later implementations; the listing makes it "
            "narrower by as much",
            "the maps to and from D numbers belong to the quantizer; in the paper they are the ends of the networks",
            "fit begins the maps with principal components and least squares; the paper only trains",
            "noise is drawn for each number, not for each sequence; codes are those without noise",
        ),
        training=True,
    )

    levels: tuple[int, ...] = counts(
        2, 1 << 16, product=1 << 62, default=(8, 5, 5, 5), doc="levels of each number; their product is the codebook"
    )
    grid: Grid = part(
        TanhGrid(), doc="where levels are: tanh_grid, symmetric_grid, clamped_grid, logistic_grid or normal_grid"
    )
    balance: Balance = part(AsTheyAre(), doc="what comes before: as_they_are, batch_moments or moment_loss")
    noise: float = between(
        0.0, 1.0, default=0.0, doc="share of numbers that get up to half a level of noise in training, and no rounding"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.levels) < self.grid.least:
            raise InvalidValue(
                f"{self.name()}: levels must be at least {self.grid.least} on {self.grid.name()}; got {self.levels}; "
                "use symmetric_grid for fewer."
            )

    def make(self, *, width: int) -> None:
        super().make(width=width)
        channels = len(self.levels)
        self.down = nn.Identity() if width == channels else Map(self.name(), width, channels)
        self.up = nn.Identity() if width == channels else Map(self.name(), channels, width)
        self.layer = self.balance.layer(channels)
        self.register_buffer("sizes", torch.tensor(self.levels), persistent=False)
        self.register_buffer("radix", torch.tensor([1, *accumulate(self.levels[:-1], mul)]), persistent=False)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    @property
    def spread(self) -> float | None:
        return None if isinstance(self.down, Map) else self.grid.spread

    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        moves = self.training and len(rows) > 0
        numbers = self.down(rows)
        position = self.grid.position(self.layer(numbers), self.sizes)
        level = self._level(position)
        smooth = self.grid.value(position, self.sizes)
        values = self.grid.value(level, self.sizes) + (smooth - smooth.detach())
        if self.noise and moves:
            values = self._noisy(position, values)
        losses = self.balance.losses(numbers) if moves else {}
        return Quantized(self.up(values), (level * self.radix).sum(-1, keepdim=True), losses)

    def look_up(self, codes: Int[Tensor, "T 1"]) -> Float[Tensor, "T E"]:
        return self.up(self.grid.value(codes // self.radix % self.sizes, self.sizes))

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        self.eval()
        if isinstance(self.down, Map):
            self._begin(self.down, rows)
        self.balance.learn(self.layer, self.down(rows))
        if isinstance(self.up, Map):
            level = self._level(self.grid.position(self.layer(self.down(rows)), self.sizes))
            self.up.become(*best_map(self.grid.value(level, self.sizes), rows))

    def _level(self, position: Float[Tensor, "T D"]) -> Int[Tensor, "T D"]:
        """The nearest level; of two that are equally near the higher one."""
        return (position.detach() + 0.5).floor().long().clamp_min(0).minimum(self.sizes - 1)

    def _noisy(self, position: Float[Tensor, "T D"], values: Float[Tensor, "T D"]) -> Float[Tensor, "T D"]:
        """Some numbers without rounding, up to half a level away; noise that leads off the grid is left out."""
        generator = self.draws()
        share, noise = torch.rand(2, *position.shape, generator=generator).to(position.device)
        moved = position + (noise - 0.5)
        moved = moved.where((moved > -0.5) & (moved < self.sizes - 0.5), position)
        return self.grid.value(moved, self.sizes).where(share < self.noise, values)

    def _begin(self, down: Map, rows: Float[Tensor, "T E"]) -> None:
        """Let each number be a principal direction, as wide as suits the grid; others keep what was drawn."""
        mean, found = directions(rows, len(self.levels))
        weight = torch.cat((found, down.weight[len(found) :].float()))
        wide = ((rows - mean) @ weight.T).std(0, correction=0)
        weight = weight * (self.grid.spread / wide.where(wide > 0, wide + self.grid.spread)).unsqueeze(1)
        down.become(weight, -weight @ mean)

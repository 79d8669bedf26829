"""SOFT: attention of pictures by a Gaussian kernel, through a few pooled points instead of all pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu

from tokenry.attend.layers.gaussian import STEPS, exact, supported
from tokenry.attend.layers.layer import Layer
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, positive, setting
from tokenry.models.attention.site import wide


@dataclass(eq=False, repr=False, kw_only=True)
class SoftmaxFree(Layer):
    """Weigh the patches of a picture by their distance, through points that stand for several patches each.

    What it does
        One projection gives queries and keys, q, divided by D^(1/4). With the kernel k(a, b) = exp(-|a - b|^2 / 2),
        P = k(points, q) and A = k(points, points), the output is P' A^-1 P v plus a convolution of v over its
        neighbours. A point is what a convolution makes of `ratio` times `ratio` patches. The inverse is Newton's
        iteration on A with 0.01 on its diagonal; its gradient does not go through the steps.
    Where it acts
        As the attention of an encoder of pictures that is trained with it. All patches see all others.
    Shapes
        x (B, N, E) with patches in rows of a square, or of `grid` (rows, columns) -> (B, N, E).
    Guarantees
        Time and memory grow with N times the number of points. `ratio=1` is the kernel with all pairs. Pictures of a
        batch do not see each other: each matrix has a first guess of its own, so that none diverges.
    Raises
        InvalidValue: a number of patches that is no grid, or sides that `ratio` does not divide.
    Deviations
        With `normed`, exact kernels are normed in the same way, by the root of their row sums.
    Relations
        `softplus` keeps all pairs and the order of text. Nothing here is normed to 1: without `normed` outputs grow
        with N.
    """

    card = Card(
        title="SOFT: Softmax-free Transformer with Linear Complexity",
        year=2021,
        url="https://arxiv.org/abs/2110.11945",
        summary="attention of pictures by a Gaussian kernel through a few pooled points",
        action="summarise",
        granularity="chunk",
        evidence="key",
        trial={"heads": 2, "ratio": 2},
        training=True,
        claims=("the error of the kernel falls with the number of points",),
        deviations=("with normed=true the kernel of all pairs is normed in the same way",),
    )

    heads: int = positive(2, doc="heads, among which the width is divided")
    ratio: int = positive(2, doc="patches of a side that a point stands for; 1 for the kernel of all pairs")
    points: str = choice("convolution", "mean", default="convolution", doc="what makes points of patches")
    normed: bool = setting(True, doc="norm the inverse by the root of the kernel's row sums, as in the journal version")
    steps: int = positive(STEPS, doc="of Newton's iteration")

    def make(self, *, width: int) -> None:
        if width % self.heads:
            raise InvalidValue(f"softmax_free: width must be a multiple of {self.heads} heads; got {width}.")
        d = width // self.heads
        self.queries, self.values = nn.Linear(width, width), nn.Linear(width, width)
        self.near = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.out = nn.Linear(width, width)
        if self.ratio > 1 and self.points == "convolution":
            self.pool = nn.Conv2d(d, d, self.ratio, stride=self.ratio, bias=False)
            self.pooled = nn.LayerNorm(d)

    def forward(self, x: Float[Tensor, "B N E"], grid: tuple[int, int] | None = None) -> Float[Tensor, "B N E"]:
        """What the layer adds to the states of patches.

        Args:
            grid: rows and columns of patches; a square where not given.
        """
        self.refuse(x)
        grid = self._grid(x.shape[1]) if grid is None else grid
        self._refuse_grid(x.shape[1], grid)
        d = x.shape[-1] // self.heads
        q, v = self.queries(x) / d**0.25, self.values(x)
        q, split = (t.unflatten(-1, (self.heads, d)).transpose(1, 2) for t in (q, v))
        if self.ratio == 1:
            out = exact(wide(q), wide(split), normed=self.normed)
        else:
            out = supported(wide(q), wide(self._points(q, grid)), wide(split), normed=self.normed, steps=self.steps)
        around = self.near(v.mT.unflatten(-1, grid)).flatten(2).mT
        return self.out(out.to(x.dtype).transpose(1, 2).flatten(2) + around)

    def _points(self, q: Float[Tensor, "B H N D"], grid: tuple[int, int]) -> Float[Tensor, "B H M D"]:
        b, h = q.shape[:2]
        picture = q.flatten(0, 1).mT.unflatten(-1, grid)
        if self.points == "mean":
            return avg_pool2d(picture, self.ratio).flatten(2).mT.unflatten(0, (b, h))
        found = self.pool(picture).flatten(2).mT
        return gelu(self.pooled(found)).unflatten(0, (b, h))

    def _grid(self, patches: int) -> tuple[int, int]:
        side = math.isqrt(patches)
        if side * side != patches:
            raise InvalidValue(f"softmax_free: patches must be a square where no grid is given; got {patches}.")
        return side, side

    def _refuse_grid(self, patches: int, grid: tuple[int, int]) -> None:
        if grid[0] * grid[1] != patches:
            raise InvalidValue(f"softmax_free: grid must have as many places as patches; got {grid} for {patches}.")
        if grid[0] % self.ratio or grid[1] % self.ratio:
            raise InvalidValue(
                f"softmax_free: both sides of the grid must be multiples of ratio={self.ratio}; got {grid}."
            )


def kernel_error(layer: SoftmaxFree, x: Float[Tensor, "B N E"]) -> float:
    """How far the kernel through points is from that of all pairs, relative to its norm; of the layer's queries."""
    with torch.no_grad():
        d = x.shape[-1] // layer.heads
        q = wide(layer.queries(x) / d**0.25).unflatten(-1, (layer.heads, d)).transpose(1, 2)
        one = torch.eye(q.shape[2], dtype=q.dtype).expand(*q.shape[:3], -1)
        whole = exact(q, one)
        found = supported(q, wide(layer._points(q, layer._grid(x.shape[1]))), one, steps=layer.steps)
        return float((found - whole).norm() / whole.norm())

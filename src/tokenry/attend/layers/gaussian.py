"""Attention by a Gaussian kernel instead of a softmax, whole or through a few points of support."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 0.01
"""Added to the diagonal of a kernel before it is inverted."""
STEPS = 20
"""Of Newton's iteration."""


def gaussian(a: Float[Tensor, "*B M D"], b: Float[Tensor, "*B N D"]) -> Float[Tensor, "*B M N"]:
    """exp(-|a - b|^2 / 2) for each pair."""
    squares = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
    return (a @ b.mT - 0.5 * squares).clamp_max(0.0).exp()


class Inverse(torch.autograd.Function):
    """The inverse X of a symmetric positive matrix A by Newton's iteration X <- 2 X - X A X, from X = 1.8 A / |A|^2.

    |A| is the largest column sum of each matrix by itself, so that none diverges because of another one. The gradient
    is -X dX X, as of an exact inverse, without a step of the iteration.
    """

    @staticmethod
    def forward(ctx: Any, a: Float[Tensor, "*B M M"], steps: int) -> Float[Tensor, "*B M M"]:
        x = 1.8 * a / a.abs().sum(-2, keepdim=True).amax(-1, keepdim=True).square()
        for _ in range(steps):
            x = 2 * x - x @ a @ x
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return -x.mT @ given[0] @ x.mT, None


def inverse(a: Float[Tensor, "*B M M"], steps: int = STEPS) -> Float[Tensor, "*B M M"]:
    """The inverse of each matrix with RIDGE on its diagonal; nearly, since the iteration ends early."""
    one = torch.eye(a.shape[-1], device=a.device, dtype=a.dtype)
    found: Tensor = Inverse.apply(a + RIDGE * one, steps)
    return found


def supported(
    q: Float[Tensor, "*B N D"], points: Float[Tensor, "*B M D"], v: Float[Tensor, "*B N Dv"], *,
    normed: bool = False, steps: int = STEPS,
) -> Float[Tensor, "*B N Dv"]:  # fmt: skip
    """P' A^-1 P v with P = kernel(points, q) and A = kernel(points, points): linear in N.

    Args:
        normed: D^-1/2 A^-1 D^-1/2 in place of A^-1, where D are the row sums of A.
    """
    p, a = gaussian(points, q), gaussian(points, points)
    inner = inverse(a, steps)
    if normed:
        root = a.sum(-1).rsqrt()
        inner = root.unsqueeze(-1) * inner * root.unsqueeze(-2)
    return p.mT @ (inner @ (p @ v))


def exact(q: Float[Tensor, "*B N D"], v: Float[Tensor, "*B N Dv"], *, normed: bool = False) -> Float[Tensor, "*B N Dv"]:
    """kernel(q, q) v, with all pairs.

    Args:
        normed: D^-1/2 K D^-1/2 in place of K, where D are its row sums.
    """
    k = gaussian(q, q)
    if normed:
        root = k.sum(-1).rsqrt()
        k = root.unsqueeze(-1) * k * root.unsqueeze(-2)
    return k @ v

"""Integrated gradients: what each row of an input adds to a loss along the line from nothing to the input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import legendre
from torch import Tensor

Loss = Callable[[Float[Tensor, "N E"]], Float[Tensor, ""]]


def attributions(loss: Loss, x: Float[Tensor, "N E"], steps: int) -> Float[Tensor, "N"]:
    """x_j · sum over k of w_k ∇_j loss(a_k x), in 32-bit floats; with one step x_j · ∇_j loss(x).

    Their sum is loss(x) - loss(0), as exactly as the sum over k is the integral over a from 0 to 1.
    """
    total = torch.zeros_like(x, dtype=torch.float32)
    for at, weight in zip(*radau(steps), strict=True):
        point = (x * float(at)).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point), point)
        total += float(weight) * gradient.float()
    return (x.float() * total).sum(-1)


def radau(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in (0, 1], the last of which is 1, and weights whose sum is 1.

    Of all such rules, Radau's is right for polynomials of the highest degree, 2 * steps - 2.
    """
    # The roots of P_{m-1} + P_m are the places on [-1, 1) for the rule that holds on to -1.
    both = np.zeros(steps + 1)
    both[-2:] = 1.0
    free = np.sort(legendre.legroots(both).real)[1:]
    below = np.zeros(steps)
    below[-1] = 1.0
    weights = (1 - free) / (steps * legendre.legval(free, below)) ** 2
    places = np.concatenate((-free[::-1], [1.0]))
    return (places + 1) / 2, np.concatenate((weights[::-1], [2 / steps**2])) / 2

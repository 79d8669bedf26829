"""A matrix that learns values of keys token by token, and the same for many tokens at once."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.attend.layers.aligned import decays

CHUNK = 64
"""Tokens that are taken at once; their products with each other are one small matrix."""


def learned_step(
    q: Float[Tensor, "B H D"], k: Float[Tensor, "B H D"], v: Float[Tensor, "B H Dv"], rate: Float[Tensor, "B H"],
    decay: Float[Tensor, "B H"], memory: Float[Tensor, "B H Dv D"], *, corrects: bool,
) -> tuple[Float[Tensor, "B H Dv"], Float[Tensor, "B H Dv D"]]:  # fmt: skip
    """M <- g M + rate (v - g M k) k', without `corrects` M <- g M + rate v k'; then M q.

    Args:
        decay: log g.
    """
    memory = memory * decay.exp()[..., None, None]
    error = v - torch.einsum("bhvd,bhd->bhv", memory, k) if corrects else v
    memory = memory + (rate.unsqueeze(-1) * error).unsqueeze(-1) * k.unsqueeze(-2)
    return torch.einsum("bhvd,bhd->bhv", memory, q), memory


def learned_chunk(
    q: Float[Tensor, "B H N D"], k: Float[Tensor, "B H N D"], v: Float[Tensor, "B H N Dv"],
    rate: Float[Tensor, "B H N"], decay: Float[Tensor, "B H N"], memory: Float[Tensor, "B H Dv D"], *, corrects: bool,
) -> tuple[Float[Tensor, "B H N Dv"], Float[Tensor, "B H Dv D"]]:  # fmt: skip
    """The same for N tokens: M_t = g_1..g_t M_0 + sum over j of g_(j+1)..g_t u_j k_j', where the u solve a triangle.

    u_t = rate_t (v_t - g_1..g_t M_0 k_t - sum over j < t of g_(j+1)..g_t (k_j k_t) u_j).
    """
    between, since = decays(decay), decay.cumsum(-1).exp().unsqueeze(-1)
    wanted = v
    if corrects:
        wanted = v - since * torch.einsum("bhvd,bhnd->bhnv", memory, k)
    written = rate.unsqueeze(-1) * wanted
    if corrects:
        lower = (rate.unsqueeze(-1) * between * (k @ k.mT)).tril(-1)
        one = torch.eye(k.shape[2], device=k.device, dtype=k.dtype)
        written = torch.linalg.solve_triangular(lower + one, written, upper=False, unitriangular=True)
    out = (between * (q @ k.mT)) @ written + since * torch.einsum("bhvd,bhnd->bhnv", memory, q)
    left = between[..., -1, :].unsqueeze(-1)
    return out, memory * since[..., -1, :].unsqueeze(-1) + (left * written).mT @ k


def learned(
    q: Float[Tensor, "B H N D"], k: Float[Tensor, "B H N D"], v: Float[Tensor, "B H N Dv"],
    rate: Float[Tensor, "B H N"], decay: Float[Tensor, "B H N"], memory: Float[Tensor, "B H Dv D"], *, corrects: bool,
) -> tuple[Float[Tensor, "B H N Dv"], Float[Tensor, "B H Dv D"]]:  # fmt: skip
    """The same for any number of tokens, a chunk at a time; a single one by its step."""
    if k.shape[2] == 1:
        one, key, value, fast, left = (t[:, :, 0] for t in (q, k, v, rate, decay))
        out, memory = learned_step(one, key, value, fast, left, memory, corrects=corrects)
        return out.unsqueeze(2), memory
    outs = []
    for some, keys, values, fast, left in zip(*(t.split(CHUNK, 2) for t in (q, k, v, rate, decay)), strict=True):
        out, memory = learned_chunk(some, keys, values, fast, left, memory, corrects=corrects)
        outs.append(out)
    return torch.cat(outs, 2), memory

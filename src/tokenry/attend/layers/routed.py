"""Two branches of one layer between which chunks are sent, and the gates that learn where."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.attend.layers.delta import learned_chunk
from tokenry.attend.layers.headed import slices


def chosen(scores: Float[Tensor, "*B 2"], drawn: bool, both: bool) -> Float[Tensor, "*B 2"]:
    """1 where the score is the larger one, else 0; gradients pass as through a softmax.

    Args:
        drawn: add noise of the Gumbel distribution.
        both: let the score of what was not chosen learn through its own gate, too.
    """
    if drawn:
        scores = scores - (-torch.rand_like(scores).clamp_min(1e-20).log()).clamp_min(1e-20).log()
    soft = scores.softmax(-1)
    hard = torch.zeros_like(soft).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)
    through = hard + soft - soft.detach()
    return through if both else torch.where(hard > 0, through, 0.0)


def softmax_branch(
    q: Float[Tensor, "B H N D"], k: Float[Tensor, "B H N D"], v: Float[Tensor, "B H N Dv"],
    gates: Float[Tensor, "B H C"], size: int,
) -> Float[Tensor, "B H N Dv"]:  # fmt: skip
    """Softmax attention to the own chunk up to the token, and to earlier chunks with exp(q k) times their gate."""
    n = q.shape[2]
    at = torch.arange(n, device=q.device)
    chunk, outs = at // size, []
    for some in slices(n, q.shape[0] * q.shape[1] * n * 3):
        earlier = chunk < chunk[some].unsqueeze(-1)
        own = (chunk == chunk[some].unsqueeze(-1)) & (at <= at[some].unsqueeze(-1))
        # The last chunk has no gate while it is not whole, and no later chunk.
        gate = gates[..., chunk.clamp_max(max(0, gates.shape[-1] - 1))] if gates.shape[-1] else q.new_zeros(n)
        gate = torch.where(earlier, gate.unsqueeze(-2), own.to(q.dtype))
        scores = (q[:, :, some] @ k.mT) * q.shape[-1] ** -0.5
        most = scores.masked_fill(~(earlier | own), float("-inf")).amax(-1, keepdim=True).detach()
        # Products of what comes later may be larger than any that is read.
        weights = (scores - most).clamp_max(0.0).exp() * gate
        outs.append((weights / weights.sum(-1, keepdim=True)) @ v)
    return torch.cat(outs, 2)


def linear_branch(
    q: Float[Tensor, "B G N D"], k: Float[Tensor, "B G N D"], written: Float[Tensor, "B G N D"],
    v: Float[Tensor, "B G N Dv"], rate: Float[Tensor, "B G N"], decay: Float[Tensor, "B G N"],
    memory: Float[Tensor, "B G Dv D"] | None, size: int,
) -> tuple[Float[Tensor, "B G N Dv"], Float[Tensor, "B G Dv D"]]:  # fmt: skip
    """The gated delta rule, in which later chunks find other keys than the own chunk does.

    Args:
        written: the keys that later chunks find; zero for a chunk through which what is known only fades.
    """
    if memory is None:
        memory = v.new_zeros(*v.shape[:2], v.shape[-1], k.shape[-1])
    outs = []
    for q_, k_, w_, v_, r_, d_ in zip(*(t.split(size, 2) for t in (q, k, written, v, rate, decay)), strict=True):
        outs.append(learned_chunk(q_, k_, v_, r_, d_, memory, corrects=True)[0])
        memory = learned_chunk(q_, w_, v_, r_, d_, memory, corrects=True)[1]
    return torch.cat(outs, 2), memory

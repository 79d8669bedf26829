"""A regressor that is a small network of its own, which learns while it reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import silu

from tokenry.attend.parts.regressor import Examples, Learnt, Regressor
from tokenry.core.card import Card
from tokenry.core.fields import between, positive
from tokenry.core.learned import LearnedPart


@dataclass(eq=False, repr=False, kw_only=True)
class TttMlp(LearnedPart, Regressor):
    """Train two layers on the examples, a few at a time, and answer with what they then say.

    What it does
        f(k) = W2 silu(W1 k). Every example gives u = -speed rate grad |v - f(k)|^2 / 2, at the weights that stood at
        the beginning of its chunk; S <- momentum S + u and W <- (1 - decay) W + S. The first weights are learned with
        the model.
    Guarantees
        Whole chunks are read at once without a weight of their own for each token, and give what single tokens give.
    Relations
        With `momentum` and `decay` above 0 it is the memory of Titans. The others of the kind are linear.
    """

    part = Card(
        title="Learning to (Learn at Test Time): RNNs with Expressive Hidden States",
        year=2024,
        url="https://arxiv.org/abs/2407.04620",
        summary="a network of two layers that is trained while it reads",
        deviations=(
            "no norm and no residual in the network",
            "momentum and decay are fields, where Titans lets each token say them",
        ),
    )

    hidden: int = positive(2, doc="width of the network relative to that of a key")
    chunk: int = positive(8, doc="examples whose gradients are taken at the same weights")
    speed: float = between(0.0, 100.0, default=1.0, doc="of learning while reading")
    momentum: float = between(0.0, 1.0, default=0.0, doc="what is left of the last change")
    decay: float = between(0.0, 1.0, default=0.0, doc="what is taken off the weights with each example")

    uses = frozenset({"rate"})

    def make(self, *, heads: int, width: int) -> None:
        inner = self.hidden * width
        self.first = nn.Parameter(torch.randn(heads, inner, width) * width**-0.5)
        self.second = nn.Parameter(torch.randn(heads, width, inner) * inner**-0.5)

    def whole(self, e: Examples) -> Float[Tensor, "B H N Dv"]:
        w1, w2 = (w.to(e.k.dtype).expand(len(e.k), -1, -1, -1) for w in (self.first, self.second))
        s1, s2 = torch.zeros_like(w1), torch.zeros_like(w2)
        outs = []
        for q, k, v, rate in zip(*(t.split(self.chunk, 2) for t in (e.q, e.k, e.v, e.rate)), strict=True):
            u1, u2, h = self._changes(k, v, rate, w1, w2)
            n = k.shape[2]
            left, mixed, moved = (t.to(k.device, k.dtype) for t in self._sums(n))

            def now(w: Tensor, s: Tensor, given: Tensor, keys: Tensor, at: Tensor, t: tuple[Tensor, ...]) -> Tensor:
                still = t[0].unsqueeze(-1) * (at @ w.mT) + t[1].unsqueeze(-1) * (at @ s.mT)
                return still + (t[2] * (at @ keys.mT)) @ given

            table = (left, moved, mixed)
            outs.append(now(w2, s2, u2, h, silu(now(w1, s1, u1, k, q, table)), table))
            swing = self.momentum ** torch.arange(n - 1, -1, -1, device=k.device, dtype=k.dtype).unsqueeze(-1)
            fresh = [(w, s, u, keys) for w, s, u, keys in ((w1, s1, u1, k), (w2, s2, u2, h))]
            (w1, s1), (w2, s2) = (
                (
                    left[-1] * w + moved[-1] * s + (mixed[-1].unsqueeze(-1) * u).mT @ keys,
                    self.momentum**n * s + (swing * u).mT @ keys,
                )
                for w, s, u, keys in fresh
            )
        return torch.cat(outs, 2)

    def append(self, e: Examples, memory: Learnt, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B H N Dv"]:
        if not memory.parts:
            w1, w2 = (w.to(e.k.dtype).expand(len(e.k), -1, -1, -1) for w in (self.first, self.second))
            count = torch.zeros(len(e.k), dtype=torch.long, device=e.k.device)
            memory.parts = (w1, w2, torch.zeros_like(w1), torch.zeros_like(w2), w1, w2, count)
        outs = []
        for t in range(e.k.shape[2]):
            q, k, v, rate = (part[:, :, t : t + 1] for part in (e.q, e.k, e.v, e.rate))
            out, after = self._step(q, k, v, rate, memory.parts)
            memory.parts = tuple(
                torch.where(real[:, t].view(-1, *[1] * (new.ndim - 1)), new, old)
                for new, old in zip(after, memory.parts, strict=True)
            )
            outs.append(out)
        return torch.cat(outs, 2)

    def _step(
        self, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, parts: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        w1, w2, s1, s2, a1, a2, count = parts
        fresh = (count % self.chunk == 0).view(-1, 1, 1, 1)
        a1, a2 = torch.where(fresh, w1, a1), torch.where(fresh, w2, a2)
        u1, u2, h = self._changes(k, v, rate, a1, a2)
        s1, s2 = self.momentum * s1 + u1.mT @ k, self.momentum * s2 + u2.mT @ h
        w1, w2 = (1 - self.decay) * w1 + s1, (1 - self.decay) * w2 + s2
        return silu(q @ w1.mT) @ w2.mT, (w1, w2, s1, s2, a1, a2, count + 1)

    def _changes(
        self, k: Tensor, v: Tensor, rate: Tensor, w1: Tensor, w2: Tensor
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H N Dv"], Float[Tensor, "B H N F"]]:
        """What each example adds: u1 k' to the first weights and u2 h' to the second ones, and its h."""
        z = k @ w1.mT
        gate = z.sigmoid()
        h = z * gate
        step = -self.speed * rate.unsqueeze(-1)
        error = h @ w2.mT - v
        slope = gate * (1 + z * (1 - gate))
        return step * (error @ w2) * slope, step * error, h

    def _sums(self, n: int) -> tuple[Float[Tensor, "N"], Float[Tensor, "N N"], Float[Tensor, "N"]]:
        """After t examples: what is left of W, how often each change counts, and how often the last one before does."""
        stays = 1 - self.decay
        left, moved, mixed = (torch.zeros(size, dtype=torch.double) for size in ((n,), (n,), (n, n)))
        w, s, swing, row, move = 1.0, 0.0, 1.0, torch.zeros_like(left), torch.zeros_like(left)
        for t in range(n):
            move = self.momentum * move
            move[t] = 1.0
            row = stays * row + move
            w, swing = stays * w, self.momentum * swing
            s = stays * s + swing
            left[t], moved[t], mixed[t] = w, s, row
        return left, mixed, moved

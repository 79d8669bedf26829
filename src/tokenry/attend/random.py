"""Random rows: the control that any choice of tokens must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.attend.base import Evictor
from tokenry.attend.parts.refresh import Never, Refresh, Refreshed
from tokenry.attend.rows.choose import all_where, choose
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.fields import natural, part, size
from tokenry.models.attention.site import Site

_MODULUS = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class RandomRows(Evictor):
    """Hold sinks, recent tokens and a random choice of the rest.

    What it does
        Every token draws one number from its position, the layer, the KV head and `seed`; the highest stay.
    Where it acts
        After the prompt was read densely, then at every decoding step, like `window`. With a `refresh` nothing is
        evicted: the choice is read, and everything at the steps that the refresh allows.
    Shapes
        site.k, site.v (B, G, K, D) -> rows that stay (B, G, M) with M <= budget.
    Guarantees
        Equals dense attention while no more than `budget` tokens were seen. The choice depends on nothing but
        position, layer, head and seed: not on padding, batch neighbours or chunks.
    Raises
        InvalidValue: a budget smaller than its sinks and recent tokens, or `per="sequence"`.
    Relations
        The control for `snapkv`, `token_select` and every other choice at equal rows. A comparison gives it the
        `refresh` of the method beside it.
    """

    card = Card(
        title="Random choice of cached tokens (control)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Scientific_control",
        summary="a random choice of cached tokens, the control for every other choice",
        action="evict",
        granularity="token",
        evidence="static",
        identity_at={"budget": 1000000},
        trial={"budget": "12:sink=2:recent=4"},
    )

    budget: Budget = size(
        Budget(tokens=1024, sink=4, recent=32, per="head"), doc="tokens held, sinks and recent ones included"
    )
    seed: int = natural(0, doc="of the random choice")
    refresh: Refresh = part(Never(), doc="steps that read everything: never, stride or moved")
    every_step = True
    State = Refreshed

    def reads_all(self, step: int) -> bool:
        return self.refresh.may(step)

    def attend(self, site: Site, state: Refreshed) -> Float[Tensor, "B H Q Dv"]:
        if site.buffer is None or isinstance(self.refresh, Never):
            return super().attend(site, state)
        if not site.decoding:
            self.refresh.begin(site, state)
            return site.dense()
        due, real = self.refresh.due(site, state), site.real()
        rows = choose(self.budget, self.score(site, state), real, site.seen(site.buffer.seen))
        return site.narrow(all_where(due, rows, real, site.k.shape[2])).dense()

    def score(self, site: Site, state: Any) -> Float[Tensor, "B G K"]:
        positions = site.positions()
        heads = torch.arange(site.k.shape[1], device=positions.device).view(1, -1, 1)
        return _draw(positions, (self.seed * 1009 + site.layer) * 257 + heads)


def _draw(position: Tensor, stream: Tensor) -> Float[Tensor, "B G K"]:
    """A number in [0, 1) from two integers, by two rounds of a multiplicative hash."""
    x = (position + 1) * 48271 % _MODULUS + (stream + 1) * 69621 % _MODULUS
    for factor in (16807, 39373):
        x = (x ^ (x >> 13)) % _MODULUS * factor % _MODULUS
    return x.float() / _MODULUS

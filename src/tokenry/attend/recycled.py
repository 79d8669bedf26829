"""Recycled Attention: read everything now and then, and in between the tokens that mattered then."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from tokenry.attend.base import Attention
from tokenry.attend.parts.refresh import Refresh, Refreshed, Stride
from tokenry.attend.rows.choose import all_where, choose, taken
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.fields import choice, part, size
from tokenry.models.attention.site import Site


@dataclass
class Recycling(Refreshed):
    """The rows that are read until everything is read again, and what the last query that read them gave to each."""

    rows: Int[Tensor, "B #G M"] | None = None
    given: Float[Tensor, "B G M"] | None = None


@dataclass(frozen=True, kw_only=True)
class Recycled(Attention):
    """Read everything at a few steps, and at all others the tokens that these steps attended to.

    What it does
        A full step attends to everything; p_j is what its query gives to key j, merged over the query heads of a KV
        head, and the `budget` keys with the highest p are held ready. A recycling step adds its own token to them,
        leaves out the one that received least at the step before, and attends to the rest.
    Where it acts
        The last token of a prompt makes the first choice. Then at every decoding step: `refresh` says which are full,
        the rest are recycling. Nothing is evicted, so what a choice missed can return at the next full step.
    Shapes
        site.q (B, H, 1, D), site.k and site.v (B, G, K, D) -> output (B, H, 1, Dv).
    Guarantees
        Equals dense attention while the budget covers what is held, and with `refresh=stride[steps=1]`. After a full
        step exactly the keys with the highest p are held ready. The budget bounds recycling steps, and full ones are
        those that `refresh` names. The choice depends on its own sequence alone.
    Raises
        InvalidValue: a budget smaller than its sinks and recent tokens, or `per="sequence"`.
    Deviations
        The small cache is a list of rows of the one cache, which are gathered at every step, so no new token has to be
        moved before a full step. A token is left out before its step, not after, so that no recycling step reads more
        than the budget. Continued training with the method is not part of this file.
    Relations
        `token_select` scores all keys at every step, which reads them; here a recycling step reads nothing else than
        what it attends to. `h2o` forgets for good what it leaves out. `attend/random` with the same `refresh` is the
        control.
    """

    card = Card(
        title="Recycled Attention: Efficient inference for long-context language models",
        year=2024,
        url="https://arxiv.org/abs/2411.05787",
        summary="full attention at a few steps, and between them the tokens it attended to",
        action="visible",
        granularity="token",
        evidence="observed attention",
        identity_at=({"budget": 1000000}, {"refresh": "stride[steps=1]"}),
        trial={"budget": 12, "refresh": "stride[steps=4]"},
        claims=(
            "at 100 of 800 rows, 4 sinks and 32 recent tokens included, and one full step in 16, its KL to dense is "
            "below that of random rows at the same steps, and lower still with one in 4, on each of four texts",
            "at 64 of 800 rows on prose its KL grows from 0.07 with every second step full to 0.21 with one in 32, "
            "between 0.05 of the exact vote at every step and 0.34 of a window (benchmarks/attend/choices.py)",
        ),
        deviations=(
            "the small cache is a list of rows of the one cache, gathered at every step",
            "the least attended token is left out before a step, so the budget includes the new one",
            "no continued training",
        ),
    )

    budget: Budget = size(
        Budget(tokens=4096, per="head"), doc="tokens read at each recycling step, the newest included"
    )
    refresh: Refresh = part(Stride(), doc="which steps are full: stride, moved or never")
    merge: str = choice("mean", "max", default="mean", doc="of the query heads that share keys")
    State = Recycling

    def reads_all(self, step: int) -> bool:
        return self.refresh.may(step)

    def attend(self, site: Site, state: Recycling) -> Float[Tensor, "B H Q Dv"]:
        if site.buffer is None:
            return site.dense()
        if not site.decoding:
            self.refresh.begin(site, state)
            (last, there), before = site.last(), (state.rows, state.given)
            self._hold(site, state, self._merged(last.probs(), site.groups))
            if there is not None:
                # Where a chunk brought padding only, the last token is one of before.
                state.rows, state.given = (
                    _where(there, *pair) for pair in zip((state.rows, state.given), before, strict=True)
                )
            return site.dense()
        due = self.refresh.due(site, state)
        if state.rows is None or bool(due.all()):
            out, probs = site.dense_and_probs()
            self._hold(site, state, self._merged(probs, site.groups))
            return out
        rows = all_where(due, self._ready(site, state), site.real(), site.k.shape[2])
        out, probs = site.narrow(rows).dense_and_probs()
        self._hold(site, state, self._merged(probs, site.groups), rows)
        return out

    def _merged(self, probs: Float[Tensor, "B H 1 K"], groups: int) -> Float[Tensor, "B G K"]:
        """What the query heads of each KV head give to a key."""
        heads = probs.squeeze(2).unflatten(1, (-1, groups))
        return heads.mean(2) if self.merge == "mean" else heads.amax(2)

    def _hold(self, site: Site, state: Recycling, given: Float[Tensor, "B G M"], rows: Tensor | None = None) -> None:
        """Hold the best of the rows that were read ready; of all where not said otherwise."""
        assert site.buffer is not None
        real = site.real() if rows is None else rows >= 0
        best = choose(self.budget, given, real, site.seen(site.buffer.seen))
        state.rows, state.given = best if rows is None else taken(rows, best), taken(given, best)

    def _ready(self, site: Site, state: Recycling) -> Int[Tensor, "B #G M"]:
        """The rows of a recycling step: those held ready with the newest, but for the one that received least."""
        assert site.buffer is not None
        assert state.rows is not None
        assert state.given is not None
        newest = (site.key_columns() == site.buffer.seen - 1).int().argmax(-1, keepdim=True)
        rows = torch.cat((state.rows, newest[:, : state.rows.shape[1]]), -1)
        given = pad(state.given, (0, 1), value=float("inf"))
        return taken(rows, choose(self.budget, given, rows >= 0, site.seen(site.buffer.seen)))


def _where(there: Bool[Tensor, "B"], now: Tensor | None, before: Tensor | None) -> Tensor | None:
    """For every sequence what was found now or before, -1 behind the shorter."""
    if now is None or before is None:
        return now
    most = max(now.shape[-1], before.shape[-1])
    now, before = (pad(part, (0, most - part.shape[-1]), value=-1) for part in (now, before))
    return torch.where(there.view(-1, 1, 1), now, before)

"""Choose anew every few steps, and read the last choice and what came since in between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from tokenry.attend.base import Attention, Selector
from tokenry.attend.fasa import Fasa
from tokenry.attend.rows.choose import all_where
from tokenry.attend.wrapping.wrapper import SelectingWrapper, with_budget
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, positive
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.packed import packed


@dataclass
class LastRows(LayerState):
    """The rows that were chosen last, and the tokens that had been seen then; of any method's state."""

    rows: Int[Tensor, "B #G M"] | None = None
    chosen_at: int = 0

    def forget(self) -> None:
        super().forget()
        self.rows, self.chosen_at = None, 0

    def crop(self, seen: int) -> None:
        past = self._past.get(seen)
        rows, at = (self.rows, self.chosen_at) if past is None else (past["rows"], past["chosen_at"])
        super().crop(seen)
        # A choice is of columns that are still there, also where the method inside starts anew.
        self.rows, self.chosen_at = (rows, at) if at <= seen else (None, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class was made for the method inside and has no name by which a file could find it.
        return _begun, (type(self).__bases__[1],), vars(self)


@dataclass(frozen=True, kw_only=True)
class Reused(SelectingWrapper):
    """Ask a method for its choice at every `steps`-th step only.

    What it does
        At a step that chooses, the method inside names the rows to read, `steps - 1` fewer than its budget. Until the
        next such step these rows are read, and every token that came since.
    Where it acts
        At decoding steps: the first one chooses. Prompts are read as by the method inside.
    Shapes
        site.q (B, H, 1, D), site.k and site.v (B, G, K, D) -> output (B, H, 1, Dv).
    Guarantees
        No step reads more than the budget of the method inside, and nothing is scored at steps between. `steps=1` is
        the method inside. Equals dense attention while that budget covers what is held.
    Raises
        InvalidValue: a method that does not choose step by step, one without a budget in tokens, or a budget that is
        too small for it without `steps - 1` rows.
    Deviations
        The choice is that of the method inside, not of full attention, and what came since is read beside it.
    Relations
        `token_select` has `reuse`, by which a query that has hardly turned uses a choice again; `recycled` reads
        everything where it chooses. Here any method is asked, and it alone says what choosing costs.
    """

    card = Card(
        title="Recycled Attention: Efficient inference for long-context language models",
        year=2024,
        url="https://arxiv.org/abs/2411.05787",
        summary="a method is asked for its choice every few steps, which is read again in between",
        action="visible",
        granularity="token",
        evidence="query",
        identity_at={"inside": "fasa[budget=1000000]"},
        trial={"inside": "fasa[budget=12,dense_layers=0,window=4]", "steps": 3},
        deviations=("the choice is that of the method inside, not of full attention",),
    )

    inside: Attention = part(Fasa(), doc="what chooses")
    steps: int = positive(8, doc="decoding steps from one choice to the next")

    def __post_init__(self) -> None:
        super().__post_init__()
        budget = getattr(self.inside, "budget", None)
        if not isinstance(budget, Budget) or budget.tokens is None:
            raise InvalidValue(f"{self.name()}: inside must have a budget in tokens; got {self.inside}.")
        if self.steps > budget.tokens:
            raise InvalidValue(
                f"{self.name()}: steps must be at most the budget of {budget.tokens} tokens, since those that come "
                f"between two choices are read beside a choice; got {self.steps}."
            )
        try:
            _choosing(self.inside, self.steps)
        except InvalidValue as error:
            raise InvalidValue(
                f"{self.name()}: steps must leave inside a budget that it takes, since tokens that come between two "
                f"choices are read beside a choice; got steps={self.steps}: {error}"
            ) from error

    @property
    def State(self) -> type[LayerState]:  # type: ignore[override]  # noqa: N802
        return _with_rows(self.inside.State)  # type: ignore[arg-type]

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        if not site.decoding:
            state.rows = None
        return super().attend(site, state)

    def rows(self, method: Selector, site: Site, state: Any) -> Int[Tensor, "B #G M"] | None:
        assert site.buffer is not None
        if self.steps == 1:
            return method.select(site, state)
        seen = site.buffer.seen
        if state.rows is None or seen - state.chosen_at >= self.steps:
            rows = _choosing(self.inside, self.steps).select(site, state)  # type: ignore[attr-defined]
            # Where everything is read, that is the choice, so that a neighbour in the batch moves no step that chooses.
            state.rows, state.chosen_at = _since(site, 0, site.k[:, :1]) if rows is None else rows, seen
        rows = state.rows
        if seen > state.chosen_at:
            rows = packed(torch.cat((rows, _since(site, state.chosen_at, rows)), -1))
        counts = torch.as_tensor(site.seen(seen), device=rows.device).flatten()
        covered = torch.tensor([self.budget.count(max(1, n)) >= n for n in counts.tolist()], device=rows.device)
        if bool(covered.all()):
            return None
        return rows if len(covered) == 1 else all_where(covered, rows, site.real(), site.k.shape[2])


def _since(site: Site, column: int, like: Shaped[Tensor, "B #G ..."]) -> Int[Tensor, "B #G T"]:
    """The rows of real tokens from a column on, for as many heads as `like` has."""
    k, first = site.k.shape[2], column if site.columns is None else 0
    fresh = torch.arange(first, k, device=site.k.device).expand(*site.k.shape[:2], -1)
    if site.columns is not None:
        fresh = torch.where(site.columns >= column, fresh, -1)
    real = site.real()
    if real is not None:
        fresh = torch.where(real[..., first:], fresh, -1)
    return fresh[:, : like.shape[1]]


@lru_cache(maxsize=512)
def _choosing(inside: Attention, steps: int) -> Attention:
    """The method with as many rows fewer as tokens may come until it chooses again."""
    budget = inside.budget  # type: ignore[attr-defined]
    return with_budget(inside, replace(budget, tokens=budget.tokens - steps + 1))


@lru_cache(maxsize=64)
def _with_rows(kind: type[LayerState]) -> type[LayerState]:
    """The state of a method that remembers its last rows as well."""
    made: Any = dataclass(type(f"LastRowsOf{kind.__name__}", (LastRows, kind), {"__module__": __name__}))
    return made


def _begun(kind: type[LayerState]) -> LayerState:
    return _with_rows(kind)()  # type: ignore[arg-type]

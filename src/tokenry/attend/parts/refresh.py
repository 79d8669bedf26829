"""At which decoding steps a method reads everything; at all others its budget holds."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tokenry.core.card import Card
from tokenry.core.fields import between, positive
from tokenry.core.method import Part
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass
class Refreshed(LayerState):
    """How long ago a layer read everything, and with which query."""

    step: int = 0
    """Tokens after the prompt, or since what was remembered was forgotten."""
    query: Float[Tensor, "B HD"] | None = None


@dataclass(frozen=True, kw_only=True)
class Refresh(Part):
    """At which decoding steps a method reads everything."""

    room: ClassVar[str] = "attend"

    @abstractmethod
    def may(self, step: int) -> bool:
        """Whether the decoding step with this number, the first is 0, may read everything."""

    def moved(self, query: Float[Tensor, "B HD"], last: Float[Tensor, "B HD"]) -> Bool[Tensor, "B"]:
        """Which sequences read everything in a step that may."""
        return torch.ones(len(query), dtype=torch.bool, device=query.device)

    def begin(self, site: Site, state: Refreshed) -> None:
        """A part of the prompt, which reads everything; steps are counted from here."""
        last, there = site.last()
        query = last.q.flatten(1).clone()
        if there is not None and state.query is not None:
            query = torch.where(there.unsqueeze(-1), query, state.query)
        state.step, state.query = 0, query

    def due(self, site: Site, state: Refreshed) -> Bool[Tensor, "B"]:
        """Which sequences read everything in this decoding step; all where nothing is remembered."""
        query = site.q.flatten(1)
        if state.query is None:
            due = torch.ones(len(query), dtype=torch.bool, device=query.device)
            state.step, state.query = -1, query
        elif self.may(state.step):
            due = self.moved(query, state.query)
            state.query = torch.where(due.unsqueeze(-1), query, state.query)
        else:
            due = torch.zeros(len(query), dtype=torch.bool, device=query.device)
        state.step += 1
        return due


@dataclass(frozen=True, kw_only=True)
class Never(Refresh):
    """Read everything never again after the prompt: the budget holds at every step.

    What it does
        Nothing.
    Where it acts
        As `refresh` of `recycled` and `attend/random`.
    Shapes
        query (B, H D) -> no sequence reads everything (B).
    Guarantees
        Every decoding step is bounded by the budget.
    Raises
        Nothing.
    Relations
        What `stride` and `moved` are measured against.
    """

    part = Card(
        title="A budget at every step (control)",
        year=2026,
        url="https://en.wikipedia.org/wiki/Scientific_control",
        summary="the budget holds at every step",
    )

    def may(self, step: int) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class Stride(Refresh):
    """Read everything at every `steps`-th decoding step.

    What it does
        Of the steps 0, 1, 2, … after the prompt, those whose number plus 1 is a multiple of `steps`.
    Where it acts
        In all layers and sequences at once.
    Shapes
        query (B, H D) -> all sequences or none (B).
    Guarantees
        With `steps=1` every step reads everything.
    Raises
        InvalidValue: fewer than 1 step.
    Relations
        `moved` looks at the query as well.
    """

    part = Card(
        title="Recycled Attention: Efficient inference for long-context language models",
        year=2024,
        url="https://arxiv.org/abs/2411.05787",
        summary="every so many steps everything is read",
    )

    steps: int = positive(50, doc="decoding steps from one that reads everything to the next")

    def may(self, step: int) -> bool:
        return (step + 1) % self.steps == 0


@dataclass(frozen=True, kw_only=True)
class Moved(Refresh):
    """Read everything at every `check`-th decoding step in which the query has turned away.

    What it does
        A sequence reads everything where cos(q, q') < `similarity`: q are the queries of all heads of the layer, as
        attention sees them, and q' those with which the layer last read everything.
    Where it acts
        In each layer and for each sequence by itself.
    Shapes
        query (B, H D) -> which sequences read everything (B).
    Guarantees
        `similarity` above 1 reads everything at every `check`-th step, -1 never.
    Raises
        InvalidValue: a field out of range.
    Relations
        `stride` reads everything as often, whether a text has moved on or not.
    """

    part = Card(
        title="Recycled Attention: Efficient inference for long-context language models (dynamic)",
        year=2024,
        url="https://arxiv.org/abs/2411.05787",
        summary="everything is read where the query has moved",
    )

    check: int = positive(5, doc="decoding steps from one comparison to the next")
    similarity: float = between(-1.0, 1.01, default=0.8, doc="cosine of queries below which everything is read")

    def may(self, step: int) -> bool:
        return (step + 1) % self.check == 0

    def moved(self, query: Float[Tensor, "B HD"], last: Float[Tensor, "B HD"]) -> Bool[Tensor, "B"]:
        return cosine_similarity(query.float(), last.float(), dim=-1) < self.similarity

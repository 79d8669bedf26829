"""One step of a decoder: what it sees, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.models.generate.session import Session

Notes = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a decoder sees before a step.

    Args:
        scores: of the next token, after `generate`'s own processors.
        logits: the same as the model gave them.
        ids: the prompt, where it came as ids, and everything said.
        prompt: columns of `ids` that are the prompt.
        step: steps taken before.
        finished: rows that have ended; what is said for them is replaced by padding.
        end_of_text: ids that end a row.
        hidden: final hidden states of the columns that were read since the last step.
        state: what the decoder remembers of this generation.
        session: the model that generates; `read` and `crop` what is drafted, `lookup` embeddings.
        generators: one source of chance for each row, so that no row depends on another.
        processors: what made scores of the logits.
    """

    scores: Float[Tensor, "B V"]
    logits: Float[Tensor, "B V"]
    ids: Int[Tensor, "B N"]
    prompt: int
    step: int
    finished: Bool[Tensor, "B"]
    end_of_text: tuple[int, ...]
    hidden: Float[Tensor, "B n E"] | None
    state: Any
    session: Session
    generators: tuple[torch.Generator, ...]
    processors: Callable[[Any, Any], Tensor] = field(repr=False)

    def lookup(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... E"]:
        """The embeddings of ids as the model makes them."""
        return self.session.lookup(ids)

    def process(self, drafted: Int[Tensor, "B m"], logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Scores from logits that follow the text so far and some drafted ids."""
        return self.processors(torch.cat((self.ids, drafted), 1), logits.clone())

    def uniform(self, *shape: int) -> Float[Tensor, "B ..."]:
        """Numbers from [0, 1), each row's from its own source."""
        rows = [torch.rand(shape, generator=g, device=g.device) for g in self.generators]
        return torch.stack(rows).to(self.scores.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a decoder says.

    Args:
        ids: the next id of every row, or the next m of them.
        embeds: what the model reads in place of the last id's embedding; None for that itself.
        read: how many of the ids the decoder has read already through the session.
        notes: what to keep of this step, with the rows as first axis.
    """

    ids: Int[Tensor, "B *m"]
    embeds: Float[Tensor, "B E"] | None = None
    read: int = 0
    notes: Notes = field(default_factory=dict)


@runtime_checkable
class Stepper(Protocol):
    """What `generate` needs of a decoder."""

    draws: ClassVar[bool]
    feeds_embeds: ClassVar[bool]
    reads_ahead: ClassVar[bool]
    needs_hidden: ClassVar[bool]

    @classmethod
    def name(cls) -> str: ...
    def start(self, session: Session) -> Any: ...
    def step(self, view: View) -> Step: ...
    def attached(self, model: Any) -> AbstractContextManager[Any]: ...

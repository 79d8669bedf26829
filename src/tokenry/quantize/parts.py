"""What a quantizer with a table is made of: how it starts, moves, revives, measures, chooses and passes gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.method import Part
from tokenry.quantize.codebooks.codebook import Codebook


@dataclass(frozen=True, kw_only=True)
class Start(Part):
    """What a table holds first, when the first batch of training arrives."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def begin(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        """Fill a table for these vectors, of which there is at least one."""


@dataclass(frozen=True, kw_only=True)
class Update(Part):
    """What moves a table in training."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def book(self, who: str, codes: int, width: int) -> Codebook:
        """The table that this way of moving it needs."""

    @abstractmethod
    def losses(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Mapping[str, Float[Tensor, ""]]:
        """Losses of vectors and the table's vectors nearest to them, by name, each a mean over all numbers."""

    @abstractmethod
    def step(self, book: Codebook, rows: Float[Tensor, "T E"], codes: Int[Tensor, "T"]) -> None:
        """Follow one batch; at least the counts."""


@dataclass(frozen=True, kw_only=True)
class Revival(Part):
    """What becomes of codes that no vector uses."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def step(self, book: Codebook, rows: Float[Tensor, "T E"], generator: torch.Generator) -> None:
        """Look at the counts after a batch, and move dead codes; living ones stay as they are, bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Metric(Part):
    """Where vectors are compared."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def bring(self, vectors: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """Vectors as they are compared; the nearest in Euclidean distance is then the nearest."""


@dataclass(frozen=True, kw_only=True)
class Choice(Part):
    """Which code a vector gets."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def codes(
        self, rows: Float[Tensor, "T E"], table: Float[Tensor, "C E"], generator: torch.Generator | None
    ) -> Int[Tensor, "T"]:
        """A code for each vector.

        Args:
            generator: in training, of what is drawn; None in evaluation, where the nearest code is chosen.
        """


@dataclass(frozen=True, kw_only=True)
class Gradient(Part):
    """How a gradient passes the choice of a code, which has none."""

    room: ClassVar[str] = "quantize"

    @abstractmethod
    def through(self, rows: Float[Tensor, "T E"], values: Float[Tensor, "T E"]) -> Float[Tensor, "T E"]:
        """`values` exactly, with a gradient for `rows`."""

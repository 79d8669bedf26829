"""Room: quantize. Vectors become codes, and codes become vectors again."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Learned, Unbuilt
from tokenry.quantize.codebooks.passes import Passes
from tokenry.quantize.codebooks.whole_buffers import WholeBuffers

NONE = -1
"""The code of padding, and of a codebook that had no part in a vector."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """Vectors on the grid of their codes.

    Args:
        values: the nearest vectors, in the type of what was given; gradients pass as the method says. Zero in padding.
        codes: one number for each of R codebooks; -1 in padding.
        losses: what training adds to the loss of the task, by name; scalars in 32-bit floats. Empty outside training.
    """

    values: Float[Tensor, "*B E"]
    codes: Int[Tensor, "*B R"]
    losses: Mapping[str, Float[Tensor, ""]] = field(default_factory=dict)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of all parts."""
        return sum(self.losses.values(), torch.zeros((), device=self.values.device))


class RowQuantizer(WholeBuffers, Learned):
    """A learned grid of vectors, where neighbours in a row may have a code together.

    A quantizer learns in two ways: from vectors alone with `fit`, or inside a network that is trained, where
    `quantize` moves the tables while the module is in training mode. In evaluation mode nothing changes. `load` gives
    a quantizer in evaluation mode.

    Whatever the type of the vectors and of the parameters, and inside autocast too, codes are found in 32-bit floats,
    and averages are kept in as many bits or more. Padding is cut out before a method sees the vectors, so that it
    touches nothing. Where several processes train one quantizer, each must have a real vector in every batch.
    """

    room: ClassVar[str] = "quantize"
    partial: ClassVar[bool] = False
    """Whether a vector may lack some of its codes."""

    def make(self, *, width: int) -> None:
        """Remember the width; whatever a method draws while it trains comes from `draws`."""
        self.width = width
        self.register_buffer("seed", torch.randint(1 << 62, ()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """The number of codes of each of R codebooks."""

    @property
    def repeats(self) -> tuple[int, ...]:
        """How many neighbours have a code together, for each of R codebooks."""
        return (1,) * len(self.codebook_sizes)

    @property
    def tokens(self) -> float:
        """Tokens for each vector of a long row: a code that several have together is one."""
        return sum(1 / count for count in self.repeats)

    @property
    def bits(self) -> float:
        """Bits for each vector of a long row, where all codes are equally likely."""
        return sum(math.log2(size) / count for size, count in zip(self.codebook_sizes, self.repeats, strict=True))

    def quantize(self, x: Float[Tensor, "*B E"], mask: Bool[Tensor, "*B"] | None = None) -> Quantized:
        """Put every vector on the grid.

        Args:
            x: vectors in the last axis, usually (B, N, E).
            mask: True for real vectors; all are, where there is none.

        Raises:
            InvalidValue: another width than the quantizer was built for, a mask of another shape, or numbers that are
                not finite.
            Unbuilt: there are no parameters yet.
        """
        real = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask.bool()
        self._check_width(x)
        if real.shape != x.shape[:-1]:
            raise InvalidValue(
                f"{self.name()}: mask must be of shape {tuple(x.shape[:-1])}; got {tuple(real.shape)}; give one value "
                "for each vector."
            )
        # Without a mask nothing is cut out, which saves two copies.
        rows = (x.reshape(-1, self.width) if mask is None else x[real]).float()
        self._check_finite(rows)
        with torch.autocast(x.device.type, enabled=False):
            found = self.assign_rows(rows, real)
        if self.training and len(found.codes):
            self.steps += 1
        values, shape = found.values.to(x.dtype), (*x.shape[:-1], len(self.codebook_sizes))
        if mask is None:
            return Quantized(values.view(x.shape), found.codes.view(shape), found.losses)
        whole, codes = x.new_zeros(x.shape), found.codes.new_full(shape, NONE)
        whole[real], codes[real] = values, found.codes
        return Quantized(whole, codes, found.losses)

    def dequantize(self, codes: Int[Tensor, "*B R"]) -> Float[Tensor, "*B E"]:
        """The vectors of some codes, in 32-bit floats; a vector without codes is zero.

        Raises:
            InvalidValue: another number of codebooks, or a code that there is not.
            Unbuilt: a table that has learned nothing yet.
        """
        self.check_codes(codes)
        real = (codes != NONE).any(-1)
        values = torch.zeros(*codes.shape[:-1], self.width, device=codes.device)
        values[real] = self.look_up(codes[real])
        return values

    @abstractmethod
    def assign_rows(self, vectors: Float[Tensor, "T E"], real: Bool[Tensor, "*B"]) -> Quantized:
        """Codes of the real vectors of rows, which may be none; in training mode also a step of learning."""

    @abstractmethod
    def look_up(self, codes: Int[Tensor, "T R"]) -> Float[Tensor, "T E"]:
        """The vectors of codes that exist."""

    def sent(self, codes: Int[Tensor, "*B R"]) -> Int[Tensor, "*B R"]:
        """Codes as they are sent or counted: one that several neighbours have together stands at the first of them, and
        -1 at the others.
        """
        return codes

    def fit(self, vectors: Float[Tensor, "T E"], *, iterations: int = 25, seed: int = 0, progress: bool = True) -> Self:
        """Build the quantizer, where it is not built yet, and learn it from vectors alone; then it is ready for use.

        Args:
            vectors: where neighbours may have codes together, of one row, in their order.
            iterations: passes over the vectors for each table.
            seed: of what is drawn.
            progress: show a bar on standard error, where it is a terminal.

        Raises:
            InvalidValue: no vectors, another width, or numbers that are not finite.
        """
        if vectors.ndim != 2 or not len(vectors):
            raise InvalidValue(
                f"{self.name()}: vectors must be of shape (T, E), T at least 1; got {tuple(vectors.shape)}."
            )
        generator = torch.Generator().manual_seed(seed)
        if self.built:
            # As a build does, so that what is learnt does not depend on who built it.
            torch.randint(1 << 62, (), generator=generator)
        else:
            self.build(generator=generator, width=vectors.shape[1])
        self.to(vectors.device)
        self.check_vectors(vectors)
        console = Console(stderr=True)
        shown = progress and console.is_interactive
        with torch.no_grad(), Progress(console=console, disable=not shown, transient=True) as bar:
            self.learn(vectors.float(), Passes(iterations, bar), generator)
        return self.eval()

    def learn(self, rows: Float[Tensor, "T E"], passes: Passes, generator: torch.Generator) -> None:
        """Learn tables from vectors; a method without tables has nothing to learn."""

    def draws(self) -> torch.Generator:
        """What this step of training draws from: the same after the module was saved and loaded."""
        return torch.Generator().manual_seed((int(self.seed) + int(self.steps)) % (1 << 63))

    def _unbuilt(self, wanted: str) -> Unbuilt:
        return Unbuilt(f"{self.name()}: must be fitted or trained before {wanted!r} is used; call fit(vectors).")

    @classmethod
    def load(cls, folder: Any) -> Self:
        return super().load(folder).eval()

    def check_vectors(self, x: Float[Tensor, "*B E"]) -> None:
        """Refuse vectors that cannot be quantized.

        Raises:
            InvalidValue: another width, whole numbers, NaN, infinity, or numbers whose squares overflow.
        """
        self._check_width(x)
        self._check_finite(x.float())

    def _check_width(self, x: Tensor) -> None:
        if x.ndim < 1 or x.shape[-1] != self.width or not x.is_floating_point():
            raise InvalidValue(
                f"{self.name()}: vectors must be floats of width {self.width}; got {x.dtype} of shape {tuple(x.shape)}."
            )

    def _check_finite(self, rows: Tensor) -> None:
        # Numbers may be finite and distances not.
        if not bool(rows.detach().norm(dim=-1).isfinite().all()):
            raise InvalidValue(
                f"{self.name()}: vectors must be finite, and so must their squared lengths in 32-bit floats; got NaN, "
                "infinity or larger ones; look at what made them."
            )

    def check_codes(self, codes: Int[Tensor, "*B R"]) -> None:
        """Refuse codes that there are not.

        Raises:
            InvalidValue: another number of codebooks, a code outside its codebook, or some codes of a vector missing.
        """
        if codes.is_floating_point():
            raise InvalidValue(f"{self.name()}: codes must be whole numbers; got {codes.dtype}.")
        sizes = torch.tensor(self.codebook_sizes, device=codes.device)
        if codes.ndim < 1 or codes.shape[-1] != len(sizes):
            raise InvalidValue(
                f"{self.name()}: codes must end with {len(sizes)} codebooks; got shape {tuple(codes.shape)}."
            )
        if bool(((codes < NONE) | (codes >= sizes)).any()):
            raise InvalidValue(
                f"{self.name()}: codes must be in [-1, size) of their codebooks {tuple(self.codebook_sizes)}; got "
                f"{int(codes.min())} to {int(codes.max())}."
            )
        if not self.partial and bool(((codes == NONE).any(-1) != (codes == NONE).all(-1)).any()):
            raise InvalidValue(f"{self.name()}: codes of a vector must all be there or all be -1; some are missing.")


class Quantizer(RowQuantizer):
    """A learned grid of vectors, each of which gets its codes without a look at the others."""

    @property
    def spread(self) -> float | None:
        """The standard deviation of numbers that suit it; None where any do."""
        return None

    def assign_rows(self, vectors: Float[Tensor, "T E"], real: Bool[Tensor, "*B"]) -> Quantized:
        return self.assign(vectors)

    @abstractmethod
    def assign(self, rows: Float[Tensor, "T E"]) -> Quantized:
        """Codes of real vectors, which may be none; in training mode also a step of learning."""

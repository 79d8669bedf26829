"""The base of attention layers that are learned: a whole text at once, or token by token from a memory."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.attend.layers.aligned import aligned, restored
from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Learned


class Layer(Learned):
    """A layer of attention with weights of its own, which a model is trained with from the start."""

    room: ClassVar[str] = "attend"

    @abstractmethod
    def make(self, *, width: int) -> None:
        """Create the parameters for states of this width."""

    @classmethod
    def load(cls, folder: Any) -> Self:
        return super().load(folder).eval()

    def refuse(self, x: Tensor) -> None:
        """Refuse states of another width, or none at all.

        Raises:
            InvalidValue: states of another shape or of whole numbers.
            Unbuilt: there are no parameters yet.
        """
        width = (self._sizes or {}).get("width")
        if width is None:
            raise self._unbuilt("forward")
        if x.ndim != 3 or x.shape[-1] != width or not x.is_floating_point():
            raise InvalidValue(
                f"{self.name()}: states must be floats of shape (B, N, {width}); got {x.dtype} of {tuple(x.shape)}."
            )


class CausalLayer(Layer):
    """A layer whose tokens look at themselves and at those before them.

    `forward` reads whole rows at once, for training. `begin` gives an empty memory and `read` reads tokens on top of
    it, one or many, for decoding; both give the same, however a row is cut into pieces.
    """

    @property
    def least(self) -> int:
        """Tokens of a row from which on it shows the layer all that it has to learn."""
        return 1

    @abstractmethod
    def whole(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        """All tokens of rows without padding before or between them."""

    @abstractmethod
    def begin(self, sequences: int) -> Any:
        """What decoding remembers of so many sequences, before anything was read."""

    @abstractmethod
    def append(self, x: Float[Tensor, "B N E"], memory: Any, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        """Tokens on top of a memory, which remembers the real ones; these stand before all padding."""

    @property
    def every(self) -> int:
        """Tokens from one mark that the layer needs among the tokens to the next; 0 where it needs none."""
        return 0

    def forward(self, x: Float[Tensor, "B N E"], real: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B N E"]:
        """What the layer adds to the states of whole rows.

        Args:
            real: True for real tokens; all are where there is none. Padding gets zeros and changes nothing.

        Raises:
            InvalidValue: states or a mask of another shape.
            Unbuilt: there are no parameters yet.
        """
        self._refuse(x, real)
        if real is None:
            return self.whole(x)
        order, straight = aligned(real)
        return restored(self.whole(_taken(x, order, straight)), order, straight)

    def read(
        self, x: Float[Tensor, "B N E"], memory: Any, real: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N E"]:
        """The same for the next tokens of rows, on top of what `memory` remembers of those before; it goes on."""
        self._refuse(x, real)
        if not x.shape[1]:
            return torch.zeros_like(x)
        if real is None:
            return self.append(x, memory, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        order, straight = aligned(real)
        return restored(self.append(_taken(x, order, straight), memory, straight), order, straight)

    def _refuse(self, x: Tensor, real: Tensor | None) -> None:
        self.refuse(x)
        if real is not None and real.shape != x.shape[:2]:
            raise InvalidValue(
                f"{self.name()}: mask must be of shape {tuple(x.shape[:2])}; got {tuple(real.shape)}; give one value "
                "for each token."
            )


def _taken(x: Float[Tensor, "B N E"], order: Tensor, real: Tensor) -> Float[Tensor, "B N E"]:
    """States in this order; zeros in padding, whose numbers may be none."""
    return torch.where(real.unsqueeze(-1), x.gather(1, order.unsqueeze(-1).expand_as(x)), 0)


def memory_bytes(memory: Any) -> int:
    """Bytes of all tensors that a memory holds, those in its parts as well."""
    if isinstance(memory, Tensor):
        return memory.nbytes
    if isinstance(memory, list | tuple):
        return sum(map(memory_bytes, memory))
    return sum(map(memory_bytes, vars(memory).values())) if hasattr(memory, "__dict__") else 0

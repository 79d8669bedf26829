"""A small causal language model of attention layers: which stands at which depth is a field."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenry.attend.layers.aligned import aligned, restored
from tokenry.attend.layers.convolution import CausalConvolution
from tokenry.attend.layers.layer import CausalLayer
from tokenry.attend.layers.marks import Marks
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import natural, setting
from tokenry.core.learned import Learned
from tokenry.core.registry import parse

LARGEST = {"vocabulary": 1 << 17, "width": 2048}
"""Sizes beyond which a model is refused, also one that was loaded."""


@dataclass(slots=True)
class Reading:
    """What a model remembers of the texts it has read so far: a memory of each layer, lengths, and the last tokens."""

    memories: list[Any]
    lengths: Int[Tensor, "B"]
    recent: Float[Tensor, "B S E"] | None = None


class Block(nn.Module):
    """A layer of attention and a network of each token alone, each added to what came in."""

    def __init__(self, layer: CausalLayer, width: int, hidden: int) -> None:
        super().__init__()
        self.before = nn.RMSNorm(width)
        self.layer: CausalLayer = layer
        self.between = nn.RMSNorm(width)
        if hidden:
            parts = (nn.Linear(width, hidden, bias=False), nn.SiLU(), nn.Linear(hidden, width, bias=False))
            self.network = nn.Sequential(*parts)
        self.hidden = hidden

    def forward(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        return self.after(x + self.layer(self.before(x)))

    def read(self, x: Float[Tensor, "B N E"], memory: Any, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        """The same on top of a memory; real tokens stand before all padding."""
        return self.after(x + self.layer.append(self.before(x), memory, real))

    def after(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        """The network of each token, added to what came in."""
        return x + self.network(self.between(x)) if self.hidden else x


@dataclass(eq=False, repr=False, kw_only=True)
class LayerModel(Learned):
    """Predicts the next id: embeddings, the layers with a network each, and the embeddings again.

    `LayerModel(layers=("softplus", "softplus:power=3")).build(vocabulary=65, width=64)`. Where a layer needs marks
    among the tokens, the model puts them there itself, in training as in decoding: nobody else sees them.
    """

    room: ClassVar[str] = "attend"

    layers: tuple[Any, ...] = setting(("softplus", "softplus"), doc="layers from below, as values or one-line forms")
    hidden: int = natural(4, doc="width of the networks relative to that of the states; 0 for none")
    conv: int = natural(0, doc="tokens that an embedding is made of by a short convolution; 0 or 1 for its own alone")

    def __post_init__(self) -> None:
        super().__post_init__()
        layers: tuple[Any, ...] = tuple(parse(layer) if isinstance(layer, str) else layer for layer in self.layers)
        for layer in layers:
            if not isinstance(layer, CausalLayer) or layer.built:
                raise InvalidValue(
                    f"LayerModel: layers must be attention layers that are not built yet; got {layer}; a layer is "
                    "built with its model."
                )
        if not layers:
            raise InvalidValue("LayerModel: layers must hold at least one; got none.")
        if len({layer.every for layer in layers} - {0}) > 1:
            raise InvalidValue("LayerModel: layers must need marks at the same places; got blocks of several lengths.")
        object.__setattr__(self, "layers", layers)

    def make(self, *, vocabulary: int, width: int) -> None:
        for name, size in (("vocabulary", vocabulary), ("width", width)):
            if size > LARGEST[name]:
                raise InvalidValue(f"LayerModel: {name} must be at most {LARGEST[name]}; got {size}.")
        self.vocabulary = vocabulary
        every = max(layer.every for layer in self.layers)
        self.marks = Marks(every, vocabulary) if every else None
        self.embed = nn.Embedding(vocabulary + bool(every), width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.convolution = CausalConvolution(self.conv, width) if self.conv > 1 else None
        self.blocks: Any = nn.ModuleList(
            Block(copy.deepcopy(layer).build(width=width), width, self.hidden * width) for layer in self.layers
        )
        self.last = nn.RMSNorm(width)

    def forward(self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B N V"]:
        """Logits of the id after each; zeros in padding.

        Args:
            real: True for real tokens; all are where there is none.
        """
        self._refuse(ids, real)
        if real is None:
            return self._logits(self._through(ids))
        order, straight = aligned(real)
        states = self._through(ids.gather(1, order))
        return restored(self._logits(states), order, straight)

    def begin(self, sequences: int) -> Reading:
        """Nothing read yet, of so many texts."""
        return Reading(
            [block.layer.begin(sequences) for block in self.blocks], torch.zeros(sequences, dtype=torch.long)
        )

    def read(
        self, ids: Int[Tensor, "B N"], reading: Reading, real: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N V"]:
        """The same for the next ids of texts, on top of what was read of them; `reading` goes on."""
        self._refuse(ids, real)
        if not ids.shape[1]:
            return self.embed.weight.new_zeros(*ids.shape, self.vocabulary)
        real = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        order, straight = aligned(real)
        ids, among = ids.gather(1, order), straight
        reading.lengths = reading.lengths.to(ids.device)
        at = None
        if self.marks is not None:
            ids, among, at = self.marks.among(ids, straight, reading.lengths)
        x = self.embed(ids)
        if self.convolution is not None:
            x, reading.recent = self.convolution.append(x, reading.recent, among)
        for block, memory in zip(self.blocks, reading.memories, strict=True):
            x = block.read(x, memory, among)
        reading.lengths = reading.lengths + straight.sum(1)
        x = x if at is None else x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return restored(self._logits(x), order, straight)

    @torch.no_grad()
    def generate(
        self, ids: Int[Tensor, "B N"], new: int, real: Bool[Tensor, "B N"] | None = None, *,
        temperature: float = 0.0, generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B new"]:  # fmt: skip
        """The ids that follow: the most likely ones, or drawn at a temperature above 0."""
        reading = self.begin(len(ids))
        logits = self.read(ids, reading, real)
        last = torch.full((len(ids),), ids.shape[1] - 1, device=ids.device)
        if real is not None:
            last = torch.where(real, torch.arange(ids.shape[1], device=ids.device), 0).amax(1)
        row = logits.gather(1, last.view(-1, 1, 1).expand(-1, 1, logits.shape[-1]))[:, 0]
        said = []
        for i in range(new):
            if temperature > 0:
                drawn = torch.multinomial((row.float() / temperature).softmax(-1), 1, generator=generator)
            else:
                drawn = row.argmax(-1, keepdim=True)
            said.append(drawn)
            if i + 1 < new:
                row = self.read(drawn, reading)[:, -1]
        return torch.cat(said, 1) if said else ids[:, :0]

    @classmethod
    def load(cls, folder: Any) -> Self:
        return super().load(folder).eval()

    def _through(self, ids: Int[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        """The states of whole rows that have no padding before or between their tokens."""
        at = None
        if self.marks is not None:
            every = torch.ones_like(ids, dtype=torch.bool)
            ids, _, at = self.marks.among(ids, every, torch.zeros(len(ids), dtype=torch.long, device=ids.device))
        x = self.embed(ids)
        x = x if self.convolution is None else self.convolution(x)
        for block in self.blocks:
            x = block(x)
        return x if at is None else x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

    def _logits(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N V"]:
        return self.last(x) @ self.embed.weight[: self.vocabulary].T

    def _refuse(self, ids: Tensor, real: Tensor | None) -> None:
        if not self.built:
            raise self._unbuilt("forward")
        if ids.ndim != 2 or ids.is_floating_point() or bool(((ids < 0) | (ids >= self.vocabulary)).any()):
            raise InvalidValue(f"LayerModel: ids must be rows of numbers in [0, {self.vocabulary}); got others.")
        if real is not None and real.shape != ids.shape:
            raise InvalidValue(f"LayerModel: mask must be of shape {tuple(ids.shape)}; got {tuple(real.shape)}.")

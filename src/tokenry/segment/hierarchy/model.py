"""A language model that reads bytes through chunks of them: the base of all systems whose tokens are chunks."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tokenry.attend.layers.aligned import aligned, restored
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import counts, natural, positive
from tokenry.core.learned import Learned
from tokenry.segment.hierarchy.cuts import Cut, Seen
from tokenry.segment.hierarchy.level import Level, Memory
from tokenry.segment.hierarchy.splitter import words
from tokenry.segment.hierarchy.stream import Stack
from tokenry.segment.parts.boundaries import MARK, Boundaries, Marks

IDS = MARK + 1
"""All bytes, and the mark."""
LARGEST = 4096
"""Width beyond which a model is refused, also one that was loaded."""
PIECE = 4096
"""Bytes of a long text that are read at once to cut it."""


@dataclass(slots=True)
class Reading:
    """What a model remembers of the texts it has read so far."""

    memory: Memory
    lengths: Int[Tensor, "B"]


@dataclass(eq=False, repr=False, kw_only=True)
class HierarchicalLM(Learned):
    """Predicts the next byte: an encoder of bytes, blocks over chunks of them, and a decoder of bytes.

    Ids are bytes, and `MARK`, with which every text begins. Models that read words also end each word with it, and
    predict that. `forward` reads whole rows; `read` goes on from what was read, by any number of ids.
    """

    room: ClassVar[str] = "segment"
    spells: ClassVar[bool] = False
    """Whether a splitter says where words end, and a mark stands behind each."""
    begins: ClassVar[bool] = False
    """Whether the chosen tokens begin chunks, and do not end them."""

    layers: tuple[int, ...] = counts(0, 64, default=(1, 3, 1), doc="blocks of the encoder, over chunks, of the decoder")
    heads: int = positive(4, doc="heads of each block")
    hidden: int = positive(4, doc="width of a block's network relative to that of its states")
    window: int = natural(64, doc="bytes that a block over bytes looks back to; 0 for all of them")
    longest: int = positive(32, doc="bytes of a word, where words are read; longer ones are cut")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < 4:
            raise InvalidValue(f"{self.name()}: longest must be at least 4, the bytes of a character.")
        if len(self.layers) < 3 or len(self.layers) % 2 == 0:
            raise InvalidValue(
                f"{self.name()}: layers must be an odd number of at least 3 numbers, from the encoder to the decoder; "
                f"got {'+'.join(map(str, self.layers))}."
            )

    @abstractmethod
    def level(self, width: int) -> Level:
        """What stands between embeddings and logits."""

    def make(self, *, width: int) -> None:
        if width > LARGEST:
            raise InvalidValue(f"{self.name()}: width must be at most {LARGEST}; got {width}.")
        self.embed = nn.Embedding(IDS, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.top: Level = self.level(width)
        self.head = nn.Linear(width, IDS, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def stack(self, width: int, layers: int, window: int = 0) -> Stack:
        """Blocks of this model's form."""
        return Stack(width, layers, self.heads, self.hidden, window)

    def cutting(self, boundaries: Boundaries, width: int, *, within: bool = False) -> Boundaries:
        """What cuts at one level, with parameters of its own.

        Args:
            within: whether what it cuts are chunks already.
        """
        if isinstance(boundaries, Marks) or (within and boundaries.reads_bytes):
            raise InvalidValue(
                f"{self.name()}: boundaries must be told by states at all levels within, and never by marks between "
                f"words, which it does not read; got {boundaries}; use cosine or stride."
            )
        return copy.deepcopy(boundaries).build(width=width)

    def forward(self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"] | None = None) -> Float[Tensor, "B N V"]:
        """Logits of the id after each; zeros in padding.

        Args:
            real: True for real ids; all are where there is none.

        Raises:
            InvalidValue: ids that there are not, or a text that does not begin with the mark.
        """
        return self.whole(ids, real)[0]

    def whole(
        self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"] | None = None
    ) -> tuple[Float[Tensor, "B N V"], list[Cut]]:
        """Logits, and where each level cut; the cuts of padded rows have their real tokens first."""
        return self._through(ids, real, None)

    def begin(self, sequences: int) -> Reading:
        """Nothing read yet, of so many texts."""
        return Reading(self.top.begin(sequences), torch.zeros(sequences, dtype=torch.long))

    def read(
        self, ids: Int[Tensor, "B N"], reading: Reading, real: Bool[Tensor, "B N"] | None = None
    ) -> Float[Tensor, "B N V"]:
        """The same for the next ids of texts, on top of what was read of them; `reading` goes on."""
        return self._through(ids, real, reading)[0]

    def loss(self, ids: Int[Tensor, "B N"], real: Bool[Tensor, "B N"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """What all ids behind the first of each row cost in nats, in sum, and the price of the cuts."""
        order, real = aligned(real)
        ids = ids.gather(1, order)
        logits, cuts = self.whole(ids, real)
        asked = real[:, 1:]
        nats = nn.functional.cross_entropy(logits[:, :-1][asked].float(), ids[:, 1:][asked], reduction="sum")
        return nats, torch.stack([cut.loss for cut in cuts]).sum()

    def ids(self, data: bytes) -> list[int]:
        """What the model reads of a text; its last word is not ended, since more may follow."""
        if not self.spells:
            return [MARK, *data]
        return [id for word in words(data, self.longest) for id in (MARK, *word)] or [MARK]

    @torch.no_grad()
    def ends(self, data: bytes) -> list[int]:
        """Where the chunks of a text end, in bytes; the last one ends with the text.

        A long text is read piece by piece.
        """
        if self.spells:
            sizes = torch.tensor([len(word) for word in words(data, self.longest)], dtype=torch.long)
            return sizes.cumsum(0).tolist()
        if not self.built:
            raise self._unbuilt("ends")
        was, found = self.training, []
        memory = self.eval().top.begin(1)
        try:
            for read in range(0, len(data) + 1, PIECE):
                # The mark stands in front of the first byte.
                some = data[read - 1 : read - 1 + PIECE] if read else [MARK, *data[: PIECE - 1]]
                ids = torch.tensor([[*some]], device=self.embed.weight.device)
                places = torch.arange(read, read + ids.shape[1], device=ids.device).unsqueeze(0)
                seen = Seen(torch.ones_like(ids, dtype=torch.bool), places, ids)
                found += (self.top.cut(self.embed(ids), seen, memory)[1].at[0].nonzero()[:, 0] + read).tolist()
        finally:
            self.train(was)
        # The chunk of the mark is empty.
        inner = (at - 1 if self.begins else at for at in found)
        return [*(at for at in inner if 0 < at < len(data)), len(data)] if data else []

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """The chunks of a text, each from byte to byte."""
        return list(pairwise([0, *self.ends(data)]))

    @classmethod
    def load(cls, folder: Any) -> Self:
        return super().load(folder).eval()

    def _through(
        self, ids: Tensor, real: Tensor | None, reading: Reading | None
    ) -> tuple[Float[Tensor, "B N V"], list[Cut]]:
        self._refuse(ids, real)
        real = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        order, straight = aligned(real)
        lengths = ids.new_zeros(len(ids)) if reading is None else reading.lengths.to(ids.device)
        places = lengths.unsqueeze(1) + torch.arange(ids.shape[1], device=ids.device)
        # Padding is read as the mark, which changes nothing behind all that is real.
        straightened = torch.where(straight, ids.gather(1, order), MARK)
        seen = Seen(straight, places, straightened)
        if bool((straightened[seen.first] != MARK).any()):
            raise InvalidValue(f"{self.name()}: ids of a text must begin with {MARK}, the mark; put it in front.")
        x, cuts = self.top.read(self.embed(seen.ids), seen, None if reading is None else reading.memory)
        if reading is not None:
            reading.lengths = lengths + straight.sum(1)
        return restored(self.head(x), order, straight), cuts

    def _refuse(self, ids: Tensor, real: Tensor | None) -> None:
        if not self.built:
            raise self._unbuilt("forward")
        if ids.ndim != 2 or ids.is_floating_point() or bool(((ids < 0) | (ids >= IDS)).any()):
            raise InvalidValue(f"{self.name()}: ids must be rows of numbers in [0, {IDS}); got others.")
        if real is not None and real.shape != ids.shape:
            raise InvalidValue(f"{self.name()}: mask must be of shape {tuple(ids.shape)}; got {tuple(real.shape)}.")


def spelled(ids: list[int]) -> bytes:
    """The bytes among ids."""
    return bytes(id for id in ids if id < MARK)

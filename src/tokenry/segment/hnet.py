"""H-Net: chunks begin where neighbouring bytes look different, in one level or several, learned end to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, numbers, part
from tokenry.segment.hierarchy.level import Level
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.hierarchy.pooling import Select
from tokenry.segment.hierarchy.stream import Stack
from tokenry.segment.hierarchy.unpooling import Smoothed
from tokenry.segment.parts.boundaries import Boundaries, Cosine


@dataclass(eq=False, repr=False, kw_only=True)
class Hnet(HierarchicalLM):
    """Let the network choose the bytes that go on into its inner, larger part.

    What it does
        An encoder reads bytes. Byte t begins a chunk where p_t = (1 - cos(Q x_(t-1), K x_t)) / 2 > 1/2; only these
        bytes go on, and the blocks over chunks read them. Their outputs are smoothed,
        s_j = p_j y_j + (1 - p_j) s_(j-1), and each byte gets the one of its chunk, times 1 with the gradient of its
        certainty, and W x, where W begins at zero. A decoder reads that. A price keeps chunks near `ratio` bytes. With
        layers such as 1+1+3+1+1 the inner part is such a network itself, and chunks of chunks are `ratio` times longer.
    Where it acts
        As a language model of bytes in place of a tokenizer and a model of tokens; `tokenry encode` shows its chunks.
    Shapes
        ids (B, N) -> logits (B, N, 257); the k-th level reads as many tokens as the one outside of it chose.
    Guarantees
        Read whole, in pieces and byte by byte are the same; later bytes, padding and other rows change nothing. Where
        all bytes are chosen with p = 1, it is its encoder, blocks and decoder, one behind the other. What is chosen is
        computed in 32-bit floats. The blocks over chunks compute only what was chosen.
    Raises
        InvalidValue: ids that there are not, no mark in front, an even number of layers.
        Unbuilt: there are no parameters yet.
    Deviations
        See the card.
    Relations
        `magnet` learns where chunks end, script by script; `hierarchical_ar` and `word_pool` are told by a splitter.
        `boundaries=stride` cuts evenly, as a control.
    """

    card = Card(
        title="Dynamic Chunking for End-to-End Hierarchical Sequence Modeling",
        year=2025,
        url="https://arxiv.org/abs/2507.07955",
        summary="a byte model whose network chooses where its chunks begin, trained end to end, in levels",
        training=True,
        trial={"layers": (1, 1, 1), "heads": 2, "window": 8, "boundaries": "cosine[ratio=3]"},
        deviations=(
            "the outer layers are attention to near bytes, not Mamba-2",
            "p is kept from 0 by 1e-4 and not from 1, so that chunks of which the model is sure are not smoothed",
            "all levels learn at one rate where `rates` does not say another",
            "texts begin with a mark of their own, not with a byte used again, and do not end with one",
        ),
    )

    begins: ClassVar[bool] = True

    boundaries: Boundaries = part(Cosine(), doc="what chooses the bytes that begin chunks, at every level")
    wider: float = between(1.0, 8.0, default=1.0, doc="width of the states of chunks relative to what is outside")

    rates: tuple[float, ...] = numbers(
        1e-3,
        1e3,
        default=(1.0,),
        doc="times that levels learn as fast as training says, from outside; the last is of all within, too",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.layers) // 2 + 1
        if len(self.rates) > levels:
            raise InvalidValue(f"hnet: rates must be at most {levels}, one for each level; got {len(self.rates)}.")

    def rate_of(self, name: str) -> float:
        return self.rates[min(name.split(".").count("inner"), len(self.rates) - 1)]

    def level(self, width: int) -> Level:
        return self._level(width, self.layers)

    def _level(self, width: int, layers: tuple[int, ...]) -> Level:
        inner = round(width * self.wider)
        if inner % (2 * self.heads):
            raise InvalidValue(
                f"hnet: width times wider must be a multiple of {2 * self.heads} at each level; got "
                f"{width * self.wider:g}."
            )
        within: Stack | Level = self.stack(inner, layers[1]) if len(layers) == 3 else self._level(inner, layers[1:-1])
        return Level(
            self.stack(width, layers[0], self.window),
            self.cutting(self.boundaries, width, within=layers is not self.layers),
            Select(width, inner),
            within,
            Smoothed(self.stack(width, layers[-1], self.window), width, inner),
        )

"""HAT: words encoded from their bytes, a model over words, and bytes decoded from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice
from tokenry.segment.hierarchy.level import Level
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.hierarchy.pooling import Query, Word
from tokenry.segment.hierarchy.unpooling import Crossed, Spelled
from tokenry.segment.parts.boundaries import Marks


@dataclass(eq=False, repr=False, kw_only=True)
class HierarchicalAr(HierarchicalLM):
    """Read words as wholes that are made of bytes, and write them byte by byte.

    What it does
        A splitter ends each word with a mark. With `variant=words` a small encoder, in which the bytes of a word and
        a learned vector see each other, makes the word's state; the blocks read the states of words; and a small
        causal decoder spells the next word from the last output, up to the mark. All words of all rows are encoded at
        once, and decoded at once. With `variant=stream`, that of the released models, one causal encoder reads all
        bytes, a learned query attends to those of each word, and a decoder of all bytes attends in each block to the
        one state of the word before, which is to add it.
    Where it acts
        As a language model of bytes in place of a tokenizer and a model of tokens; `tokenry encode` shows its words,
        also before it is trained.
    Shapes
        ids (B, N), marks among them -> logits (B, N, 257); the blocks over words read as many as there are words.
    Guarantees
        Read whole, in pieces and byte by byte are the same; later bytes, padding and other rows change nothing. What
        the decoder makes of all words at once is what it makes of each alone. The splitter loses no byte, and its
        finished words never change with what follows.
    Raises
        InvalidValue: ids that there are not, no mark in front, a number of layers other than 3.
        Unbuilt: there are no parameters yet.
    Deviations
        See the card.
    Relations
        `word_pool` gives a word several states and can spell without reading what it spelled. `hnet` and `magnet` learn
        where to cut.
    """

    card = Card(
        title=(
            "Hierarchical Autoregressive Transformers: Combining Byte- and Word-Level Processing for Robust, "
            "Adaptable Language Models"
        ),
        year=2025,
        url="https://arxiv.org/abs/2501.10322",
        summary="a byte encoder for each word, a model over words, and a byte decoder for each word",
        training=True,
        trial={"layers": (1, 1, 1), "heads": 2, "window": 8, "longest": 6},
        claims=(
            "models of 128 wide that learned English and get half as many operations again in Turkish: a byte of it "
            "then costs 2.54 bits, with byte pairs of English 3.25; of English they forget more, 2.95 becomes 5.08 "
            "and with byte pairs 2.48 becomes 3.40 (benchmarks/segment/hierarchical.py)",
        ),
        deviations=(
            "the vector that gathers a word stands where the encoder sees all bytes, with rotated positions",
            "in both variants the decoder says that a word ends by a mark, which the stream reads as well; the "
            "released models let the splitter decide, and then predict the next byte again",
            "scores of the stream's query are bounded by 20",
            "token by token, the word that is being spelled is read again with each byte",
        ),
    )

    spells: ClassVar[bool] = True

    variant: str = choice("words", "stream", default="words", doc="each word by itself, or one stream of bytes")
    wider: float = between(1.0, 8.0, default=1.0, doc="width of the states of words relative to those of bytes")

    def level(self, width: int) -> Level:
        if len(self.layers) != 3:
            raise InvalidValue(f"hierarchical_ar: layers must be 3 numbers; got {len(self.layers)}.")
        inner, marks = round(width * self.wider), Marks().build(width=width)
        first, between_, last = self.layers
        if self.variant == "words":
            return Level(
                None, marks, Word(self.stack(width, first), width, inner, 1), self.stack(inner, between_),
                Spelled(self.stack(width, last), width, inner, 1, False),
            )  # fmt: skip
        return Level(
            self.stack(width, first, self.window), marks, Query(width, inner, self.heads), self.stack(inner, between_),
            Crossed(self.stack(width, last, self.window), width, inner),
        )  # fmt: skip

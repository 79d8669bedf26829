"""Learn Your Tokens: the bytes of words pooled into a few vectors, a model over these, all words spelled at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import choice, positive
from tokenry.segment.hierarchy.level import Level
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.hierarchy.pooling import Word
from tokenry.segment.hierarchy.unpooling import Spelled
from tokenry.segment.parts.boundaries import Marks


@dataclass(eq=False, repr=False, kw_only=True)
class WordPool(HierarchicalLM):
    """Pool the bytes of each word into `vectors` states, model these, and spell the next word from as many.

    What it does
        A splitter ends each word with a mark. A small encoder, in which the bytes of a word and p learned vectors see
        each other, makes p states; the blocks read p states for each word, one after the other; and a small causal
        decoder gets the p outputs of a word in front of the bytes of the next one, which it predicts up to the mark.
        With `spelling=at_once` it gets no bytes, and tells all of a word from these p outputs.
    Where it acts
        As a language model of bytes in place of a tokenizer and a model of tokens; `tokenry encode` shows its words,
        also before it is trained.
    Shapes
        ids (B, N), marks among them -> logits (B, N, 257); the blocks over words read p states for each word.
    Guarantees
        Read whole, in pieces and byte by byte are the same; later bytes, padding and other rows change nothing. What
        the decoder makes of all words at once is what it makes of each alone. No byte is lost: words of more than
        `longest` bytes are several.
    Raises
        InvalidValue: ids that there are not, no mark in front, a number of layers other than 3.
        Unbuilt: there are no parameters yet.
    Deviations
        See the card.
    Relations
        `hierarchical_ar` is this with one state for each word, whose width may be another.
    """

    card = Card(
        title="Learn Your Tokens: Word-Pooled Tokenization for Language Modeling",
        year=2023,
        url="https://arxiv.org/abs/2310.11628",
        summary="words pooled from their bytes into a few vectors, modelled, and spelled in parallel",
        training=True,
        trial={"layers": (1, 1, 1), "heads": 2, "longest": 6, "vectors": 2},
        deviations=(
            "long words are cut, not cut off; words keep the spaces before them and the signs behind them",
            "positions are rotated, not learned",
            "there is no dropout",
            "token by token, the word that is being spelled is read again with each byte",
        ),
    )

    spells: ClassVar[bool] = True

    vectors: int = positive(2, doc="states of a word")
    spelling: str = choice("in_turn", "at_once", default="in_turn", doc="whether a byte is told from those before it")

    def level(self, width: int) -> Level:
        if len(self.layers) != 3:
            raise InvalidValue(f"word_pool: layers must be 3 numbers; got {len(self.layers)}.")
        first, inner, last = self.layers
        return Level(
            None,
            Marks().build(width=width),
            Word(self.stack(width, first), width, width, self.vectors),
            self.stack(width, inner),
            Spelled(self.stack(width, last), width, width, self.vectors, self.spelling == "at_once"),
        )

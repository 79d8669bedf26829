"""MAGNET: learned ends of chunks with a predictor and a prior for each script, to cut all alike."""

from __future__ import annotations

from dataclasses import dataclass

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part
from tokenry.segment.hierarchy.level import Level
from tokenry.segment.hierarchy.model import HierarchicalLM
from tokenry.segment.hierarchy.pooling import Mean
from tokenry.segment.hierarchy.unpooling import Added
from tokenry.segment.parts.boundaries import Boundaries, ByScript


@dataclass(eq=False, repr=False, kw_only=True)
class Magnet(HierarchicalLM):
    """Predict where chunks end by the script of a byte, aiming at a length of chunks for each script.

    What it does
        An encoder reads bytes. A network of the byte's script says how likely a chunk ends with it; in training ends
        are drawn, with the gradient of a relaxed Bernoulli variable; afterwards they are where it is likelier than not,
        so that predictors that stay below one half cut nowhere: the log of a training says how long chunks are. The
        blocks read the normed means of chunks. A byte
        gets the state of the last chunk that ended with it or before, on top of its own, and a decoder reads that. The
        price of cuts is -log Binomial(k; T, rate) / T for each script of a row, with k ends among T bytes.
    Where it acts
        As a language model of bytes in place of a tokenizer and a model of tokens; `tokenry encode` shows its chunks.
    Shapes
        ids (B, N) -> logits (B, N, 257); the blocks over chunks read as many as there are.
    Guarantees
        Read whole, in pieces and byte by byte are the same; later bytes, padding and other rows change nothing: a
        byte's script is that of the last letter that was told by the bytes so far. Where every byte ends a chunk,
        chunks are bytes. The price is that of `torch.distributions.Binomial`.
    Raises
        InvalidValue: ids that there are not, no mark in front, scripts and rates that do not fit.
        Unbuilt: there are no parameters yet.
    Deviations
        See the card.
    Relations
        `hnet` cuts where bytes differ, whatever their script. `boundaries=by_script[scripts=latin,rates=0.2]` is the
        ablation with one predictor for all.
    """

    card = Card(
        title=(
            "MAGNET: Improving the Multilingual Fairness of Language Models with Adaptive Gradient-Based Tokenization"
        ),
        year=2024,
        url="https://arxiv.org/abs/2407.08818",
        summary="a byte model with a predictor of ends for each script, which aims at as many chunks in all languages",
        training=True,
        trial={
            "layers": (1, 1, 1),
            "heads": 2,
            "window": 8,
            "boundaries": "by_script[scripts=latin+cyrillic,rates=0.4+0.6]",
        },
        deviations=(
            "a byte's script is told by the letters before it, not by a mark in front of the text, so that texts may "
            "mix scripts",
            "positions are rotated, not relative with a table of their own",
            "the null chunk in front is the chunk of the mark that begins a text",
            "the means of chunks are divided by their root mean square, without the mean and shift of layer norm",
            "predictors begin at the rates that are aimed at",
        ),
    )

    boundaries: Boundaries = part(ByScript(), doc="what says where chunks end")

    def level(self, width: int) -> Level:
        if len(self.layers) != 3:
            raise InvalidValue(f"magnet: layers must be 3 numbers; got {len(self.layers)}.")
        encoder, inner, decoder = self.layers
        return Level(
            self.stack(width, encoder, self.window),
            self.cutting(self.boundaries, width),
            Mean(width),
            self.stack(width, inner),
            Added(self.stack(width, decoder, self.window), width),
        )

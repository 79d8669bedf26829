"""A keep-or-drop head on an encoder that stays as it is, and how it reads a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tokenry.core.errors import InvalidValue
from tokenry.core.fields import natural, positive, setting
from tokenry.core.learned import Learned
from tokenry.core.progress import counted
from tokenry.models.files.load import Encoder, load_encoder
from tokenry.models.text.as_text import text_ids, text_windows


@dataclass(eq=False, repr=False, kw_only=True)
class KeepDrop(Learned):
    """Say of every piece of a text how likely it is to be kept: softmax(W h + b) over drop and keep.

    h is a hidden state of an encoder that stays as it is. Only W (2 x E) and b are learned.
    """

    room: ClassVar[str] = "compress"

    encoder: str = setting("minilm", doc="encoder whose states are judged: an alias, a folder or a hub id")
    layer: int = natural(3, doc="hidden layer whose states are judged; 0 is the embeddings")
    window: int = positive(512, doc="pieces read together, at most what the encoder reads")

    @classmethod
    def name(cls) -> str:
        return "keep_drop"

    def make(self, *, width: int) -> None:
        self.head = nn.Linear(width, 2)

    def judge(self, states: Float[Tensor, "S E"]) -> Float[Tensor, "S"]:
        """Probability of keeping each piece."""
        return self.head(states).softmax(-1)[:, 1]

    @torch.no_grad()
    def read(self, text: str, starts: Sequence[int]) -> tuple[Float[Tensor, "S E"], Int[np.ndarray, "S"]]:
        """The hidden state of every piece of a text, and the character at which each begins.

        A text that fits into the window is read at once, a longer one in chunks that end where sentences do, and a
        longer sentence in parts.

        Args:
            starts: first character of each sentence.
        """
        encoder = load_encoder(self.encoder)
        layers = encoder.model.config.num_hidden_layers
        if self.layer > layers:
            raise InvalidValue(f"{self.name()}: layer must be at most {layers} for {self.encoder}; got {self.layer}.")
        window = min(self.window, encoder.max_tokens)
        chunks = _chunks(encoder, text, starts, window)
        states, at = [], []
        parts = text_windows(encoder.tokenizer, [text[low:high] for low, high in chunks], window)
        for i, part in counted(parts, "reading chunk", len(parts)):
            row = torch.tensor([part.ids], device=encoder.model.device)
            hidden = encoder.model(input_ids=row, output_hidden_states=True).hidden_states[self.layer][0]
            real = np.array(part.special_tokens_mask) == 0
            states.append(hidden.float().cpu()[torch.from_numpy(real)])
            begin, _ = chunks[i]
            at.append(np.array(part.offsets, dtype=np.int64)[real, 0] + begin)
        return torch.cat(states), np.concatenate(at)


def holder(heads: Sequence[int], at: Sequence[int] | Int[np.ndarray, "S"]) -> Int[np.ndarray, "S"]:
    """Number of the unit that holds each character, by where units begin; the first also has what is before it."""
    return np.maximum(np.searchsorted(heads, at, side="right") - 1, 0)


def _chunks(encoder: Encoder, text: str, starts: Sequence[int], window: int) -> list[tuple[int, int]]:
    """Characters of each chunk: as many whole sentences as fit into the window."""
    edges = [0, *starts[1:], len(text)]
    sentences = [text[low:high] for low, high in pairwise(edges)]
    sizes = [len(text_ids(encoder.tokenizer, sentence)) for sentence in sentences]
    room = window - encoder.tokenizer.num_special_tokens_to_add()
    cuts, held = [0], 0
    for start, size in zip(edges[:-1], sizes, strict=True):
        if held and held + size > room:
            cuts.append(start)
            held = 0
        held += size
    return list(pairwise([*cuts, len(text)]))

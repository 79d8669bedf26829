"""A vocabulary of bytes with the merges that make it, as `tokenizer.json` has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tokenry.segment.training.trained import ALPHABET, END


@dataclass(frozen=True, slots=True, eq=False)
class Merges:
    """A vocabulary and the merges that make it.

    Args:
        pieces: of every id; None for the mark at the end of a text.
        pairs: ids that merge, in their order.
        counts: how often each pair occurred when it was merged; 0 for those that were there before.
    """

    pieces: list[bytes | None]
    pairs: list[tuple[int, int]]
    counts: list[int]

    def description(self, **steps: Any) -> dict[str, Any]:
        """What `tokenizer.json` holds; `steps` are the objects of tokenizers around the model, by their names."""
        from tokenizers import Tokenizer, models

        library = Tokenizer(models.BPE())
        for name, step in steps.items():
            setattr(library, name, step)
        found: dict[str, Any] = json.loads(library.to_str())
        shown = [END if piece is None else "".join(ALPHABET[b] for b in piece) for piece in self.pieces]
        found["model"]["vocab"] = {piece: i for i, piece in enumerate(shown)}
        found["model"]["merges"] = [[shown[left], shown[right]] for left, right in self.pairs]
        return found

"""Passages of the sample documents, character by character: every one asks for the next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.data import documents, read
from tokenry.data.tasks.asked import Asked, Task


@dataclass(frozen=True, kw_only=True)
class Passages(Task):
    """Rows of characters from random places of the first nine tenths of each document.

    Args:
        length: ids of a row.
    """

    length: int = 128

    @cached_property
    def texts(self) -> tuple[Int[Tensor, "N"], Int[Tensor, "M"]]:
        """What is learned from, and the last tenths, which are not."""
        texts = [read(name) for name in sorted(documents())]
        place = {symbol: i for i, symbol in enumerate(sorted(set("".join(texts))))}
        first = "".join(text[: len(text) * 9 // 10] for text in texts)
        last = "".join(text[len(text) * 9 // 10 :] for text in texts)
        return torch.tensor([place[s] for s in first]), torch.tensor([place[s] for s in last])

    @property
    def size(self) -> int:
        return 1 + max(int(text.max()) for text in self.texts)

    def sample(self, rows: int, generator: torch.Generator) -> Asked:
        text = self._text(0, self.length)
        return _at(text, torch.randint(len(text) - self.length, (rows,), generator=generator), self.length)

    def held_out(self, rows: int, length: int) -> Asked:
        """Rows of any length that no step learns from, evenly spread."""
        text = self._text(1, length)
        return _at(text, torch.linspace(0, len(text) - length - 1, rows).long(), length)

    def _text(self, which: int, length: int) -> Int[Tensor, "N"]:
        text = self.texts[which]
        if not 1 <= length < len(text):
            raise InvalidValue(f"Passages: length must be in [1, {len(text)}), the text; got {length}.")
        return text


def _at(text: Int[Tensor, "N"], starts: Int[Tensor, "B"], length: int) -> Asked:
    rows = text[starts.unsqueeze(1) + torch.arange(length + 1)]
    return Asked(rows[:, :-1], rows[:, 1:])

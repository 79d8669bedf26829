"""Where tokens came from: the sources and each original token's place in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

SourceKind = Literal["text", "image", "audio", "video", "template", "system", "question", "generated"]

NOWHERE = -1
"""The source of a token that no source holds: padding, or a learned or generated token."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One piece of raw data. Spans count bytes of UTF-8 text, samples of sound, pixels and frames of pictures.

    Args:
        kind: what it is.
        data: the data itself, or None where it is not kept.
        name: what to call it.
        size: what spans alone do not say: samples and rate of a sound, with 0 samples while it still arrives; height
            and width of a picture; frames, height, width and thousandths of frames a second of a clip.
    """

    kind: SourceKind
    data: Any
    name: str = ""
    size: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """The place of every original token.

    Args:
        sources: everything that was tokenized, for all rows.
        source: index into `sources` for each original; `NOWHERE` where there is none.
        spans: half-open boxes (t0, t1, y0, y1, x0, x1); text and sound use only t0 and t1.
    """

    sources: tuple[Source, ...]
    source: Int[Tensor, "B N0"]
    spans: Int[Tensor, "B N0 6"]

    @classmethod
    def nowhere(cls, b: int, n: int, device: torch.device | str = "cpu") -> Origin:
        """An origin for tokens whose source is not known."""
        return cls(
            (),
            torch.full((b, n), NOWHERE, dtype=torch.long, device=device),
            torch.zeros(b, n, 6, dtype=torch.long, device=device),
        )

    def join(self, other: Origin) -> Origin:
        """These originals followed by the others'; sources are kept apart."""
        shifted = torch.where(other.source >= 0, other.source + len(self.sources), other.source)
        return Origin(
            self.sources + other.sources,
            torch.cat((self.source, shifted), 1),
            torch.cat((self.spans, other.spans), 1),
        )

    def extend(self, n: int) -> Origin:
        """These originals followed by `n` of nowhere."""
        b = self.source.shape[0]
        return self.join(Origin.nowhere(b, n, self.source.device))

    def to(self, device: torch.device | str) -> Origin:
        return Origin(self.sources, self.source.to(device), self.spans.to(device))

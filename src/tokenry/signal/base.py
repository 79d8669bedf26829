"""Room: signal. Pictures, sounds and what else is no text become tokens, and tokens become signals again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.learned import Learned
from tokenry.core.origin import Source, SourceKind
from tokenry.core.sequence import Modality, TokenSequence


class SignalTokenizer(Learned):
    """A method that turns a signal into tokens that know their place in it.

    Every token has the box of what it shows: (t0, t1, y0, y1, x0, x1), half open, in samples of a sound, and in frames
    and pixels of a picture. Boxes together cover the signal. A signal with several codebooks gives one token for each
    code, all with the same box, and each codebook has ids of its own.

    A method that has nothing to learn is ready at once; any other one is fitted, or loaded from a folder.
    """

    room: ClassVar[str] = "signal"
    takes: ClassVar[type]
    """What it encodes and decodes, such as `Image`."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Ids are below this; 0 where tokens are vectors that have no ids."""

    @abstractmethod
    def encode(self, signal: Any) -> TokenSequence:
        """The tokens of a signal, which is the one source of them all.

        Raises:
            InvalidValue: nothing of the kind that it takes.
            Unbuilt: it must be fitted first.
        """

    @abstractmethod
    def decode(self, tokens: TokenSequence) -> Any:
        """The signal that tokens describe, from ids or embeddings, their places, and the size that their source says.

        What a source holds is not looked at. Where tokens are missing the signal is neutral: grey, or silent.

        Raises:
            InvalidValue: an id that there is not, boxes that are none of this tokenizer's, or no size.
            Unbuilt: it must be fitted first.
        """

    def fit(self, signals: Sequence[Any], *, seed: int = 0) -> Self:
        """Learn what must be learnt from signals alone; then it is ready for use.

        Raises:
            InvalidValue: no signals.
        """
        return self.eval()

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        return super().load(folder).eval()


class SegmentTokenizer(SignalTokenizer):
    """A tokenizer of one kind of signal that can be a segment of a stream: ids and a few numbers say everything."""

    kind: ClassVar[SourceKind]
    """What its sources are, such as `image`."""

    @property
    def books(self) -> tuple[int, ...]:
        """How many ids each codebook has, whose tokens take turns; one number where there is one kind of token."""
        return (self.vocab_size,)

    @abstractmethod
    def size_of(self, signal: Any) -> tuple[int, ...]:
        """The numbers from which `places` finds every box, such as height and width."""

    @abstractmethod
    def count(self, size: tuple[int, ...]) -> int | None:
        """How many tokens a signal of this size has; None where that depends on what it shows."""

    @abstractmethod
    def places(self, size: tuple[int, ...], count: int) -> Int[Tensor, "N 6"]:
        """The boxes of all tokens of a signal, which `encode` gave in this order.

        Raises:
            InvalidValue: another number of tokens than a signal of this size has, or one that is too large.
            Incompatible: boxes depend on what the signal shows.
        """

    def placed(self, ids: Int[Tensor, "N"], size: tuple[int, ...]) -> TokenSequence:
        """Ids of a signal of this size, such as a model says them, as tokens that can be decoded.

        Raises:
            InvalidValue: another number of ids than a signal of this size has, or one that is too large.
            Incompatible: boxes depend on what the signal shows.
        """
        return TokenSequence(
            ids=ids,
            source=torch.zeros_like(ids),
            spans=self.places(size, len(ids)).to(ids.device),
            sources=(Source(self.kind, None, size=size),),
            modality=torch.full_like(ids, int(Modality[self.kind.upper()])),
        )

"""Which methods of a pipeline act where, and which orders cannot work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenry.attend.base import Attention
from tokenry.compress.base import Compressor
from tokenry.core.errors import Incompatible
from tokenry.core.method import Method
from tokenry.core.registry import ROOMS
from tokenry.decode.base import Decoder
from tokenry.segment.base import Tokenizer
from tokenry.segment.spelling.respeller import Respeller
from tokenry.soft.base import SoftTokens

Prepares = Respeller | SoftTokens | Compressor
"""Methods that change the prompt before the model reads it."""

INSTEAD = {
    "embed": "it makes a model with another vocabulary; run `tokenry adapt` first and give its folder as the model",
    "attend": "it is a layer of a model that is trained with it from the start",
    "learn": "it is a loss to train with",
    "probe": "it looks at a model; run `tokenry probe`",
    "measure": "it measures pipelines; run `tokenry measure`",
}
"""What methods do that are no step of an answer."""


@dataclass(frozen=True, slots=True)
class Stages:
    """Methods in the order of a token's life: spelling, soft tokens, compressors, attention, decoder.

    Raises:
        Incompatible: an order or a combination that cannot work, with the reason.
    """

    methods: tuple[Method, ...]

    def __post_init__(self) -> None:
        for method in self.methods:
            if isinstance(method, Tokenizer):
                raise Incompatible(
                    f"Pipeline: {method} is a vocabulary, and the model reads its own only; "
                    "give the model another one with `tokenry adapt`."
                )
            if not isinstance(method, Prepares | Attention | Decoder):
                raise Incompatible(
                    f"Pipeline: {method} cannot answer over a document: "
                    f"{INSTEAD.get(method.room, f'methods of room {method.room} are no step of an answer')}."
                )
        self._check_order()
        _at_most_one([m for m in self.methods if isinstance(m, Respeller)], "method may spell the text anew")
        _at_most_one([m for m in self.methods if isinstance(m, Attention)], "attention method may act on a cache")
        _at_most_one([m for m in self.methods if isinstance(m, Decoder)], "decoder may choose the tokens")
        cached = [m for m in self.soft if m.has_cache]
        if len(cached) > 1 or (cached and cached[0] is not self.soft[-1]):
            raise Incompatible(
                f"Pipeline: keys and values that are not read must stand first, so only the last soft method may bring "
                f"some; got {_names(self.soft)}; keep one such method and put it last of them."
            )

    @property
    def preparing(self) -> list[Prepares]:
        """The methods that change the prompt, in order."""
        return [m for m in self.methods if isinstance(m, Prepares)]

    @property
    def soft(self) -> list[SoftTokens]:
        return [m for m in self.methods if isinstance(m, SoftTokens)]

    @property
    def attention(self) -> Attention | None:
        return next((m for m in self.methods if isinstance(m, Attention)), None)

    @property
    def decoder(self) -> Decoder | None:
        return next((m for m in self.methods if isinstance(m, Decoder)), None)

    def _check_order(self) -> None:
        rooms = [ROOMS.index(m.room) for m in self.methods]
        for i, room in enumerate(rooms):
            late = next((j for j in range(i) if rooms[j] > room), None)
            if late is not None:
                raise Incompatible(
                    f"Pipeline: methods of room {ROOMS[room]} must come before those of room {ROOMS[rooms[late]]}, "
                    f"which {_reason(ROOMS[rooms[late]])}; got {_names(self.methods)}; change the order."
                )


def _at_most_one(found: Sequence[Method], what: str) -> None:
    if len(found) > 1:
        raise Incompatible(f"Pipeline: only one {what}; got {_names(found)}; keep one.")


def _reason(room: str) -> str:
    return {
        "soft": "turn ids into embeddings",
        "compress": "judge the tokens that the model will read",
        "attend": "act while the model reads",
        "decode": "act when the model has read everything",
    }[room]


def _names(methods: Iterable[Method]) -> str:
    return ", ".join(map(str, methods))

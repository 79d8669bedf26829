"""What may be said next in a stream: a mask over the logits while a model generates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from tokenry.signal.streams.stream import DIGITS, Stream, Where

Count = Callable[[str, tuple[int, ...]], int | None]
"""How many tokens a segment of a kind and size has; None where any number is right."""


class StreamGrammar(LogitsProcessor):
    """Allow only ids that keep a stream whole; for `generate(logits_processor=[StreamGrammar(stream)])`.

    Args:
        stream: the layout.
        kinds: segments that may begin; all, where nothing is said.
        sizes: the size that segments of a kind must have; others may have any.
        count: forbids a mark before a segment has its tokens, and more tokens behind it.
        stop: ids that may stand between segments, such as the model's end mark.
        start: columns before the stream begins, such as a prompt that is no part of it.
    """

    def __init__(
        self, stream: Stream, *, kinds: tuple[str, ...] = (), sizes: Mapping[str, tuple[int, ...]] | None = None,
        count: Count | None = None, stop: tuple[int, ...] = (), start: int = 0,
    ) -> None:  # fmt: skip
        self.stream, self.kinds, self.stop, self.start = stream, kinds or tuple(stream.kinds), stop, start
        self.headers = {kind: stream.header(kind, size) for kind, size in (sizes or {}).items()}
        self.count = count or (lambda kind, size: None)

    def __call__(self, input_ids: Int[Tensor, "B N"], scores: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        masks = [self.allowed(self.where(row[self.start :])) for row in input_ids]
        mask = torch.stack(masks).to(scores.device)
        wide = torch.zeros_like(scores, dtype=torch.bool)
        wide[:, : mask.shape[1]] = mask[:, : scores.shape[1]]
        return scores.masked_fill(~wide, -torch.inf)

    def where(self, ids: Int[Tensor, "N"]) -> Where:
        """What stands behind a row.

        Raises:
            InvalidValue: a row that is no beginning of a stream.
        """
        at = Where()
        for place, number in enumerate(ids.tolist()):
            if at.part == "between" and number in self.stop:
                continue
            at = self.stream.after(at, number, place)
        return at

    def allowed(self, at: Where) -> Bool[Tensor, "V"]:
        """The ids that may stand next."""
        stream = self.stream
        mask = torch.zeros(max(len(stream.vocabulary), *(s + 1 for s in self.stop), 1), dtype=torch.bool)
        if at.part == "between":
            mask[[*(stream.begin(kind) for kind in self.kinds), *self.stop]] = True
        elif at.part == "header" and at.kind in self.headers:
            written = len(stream.digits(at.size)) + len(at.digits)
            mask[self.headers[at.kind][written]] = True
        elif at.part == "header":
            mask[stream.digit(0) : stream.digit(0) + DIGITS] = at.takes_digits
            mask[stream.comma] = bool(at.digits)
        else:
            wanted = self.count(at.kind, at.size)
            turns = stream.turns(at.kind)
            held = turns[at.count % len(turns)]
            mask[held.first : held.end] = wanted is None or at.count < wanted
            mask[stream.end(at.kind)] = wanted is None or at.count >= wanted
        return mask

"""Write with more pieces than a model has: the prompt in merged tokens, each step by an indexed head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tokenry.core.errors import InvalidValue
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import evaluating
from tokenry.models.cache.name import cache_of, with_cache
from tokenry.models.text.end import end_ids
from tokenry.segment.merging.expanded import Expanded, prove_linear, with_one
from tokenry.segment.merging.head import IndexedHead
from tokenry.segment.merging.reader import Merged


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """What a model wrote.

    Args:
        ids: of the expanded vocabulary.
        spelled: their bytes.
    """

    ids: tuple[int, ...]
    spelled: bytes


class Writer:
    """A causal model that writes with an expanded vocabulary.

    Args:
        expanded: the pieces it may write.
        head: of their output rows, `expanded.outputs()`.

    Raises:
        UnsupportedModel: logits are scaled or capped, so that products of rows are none.
        InvalidValue: a head of another size.
    """

    def __init__(self, expanded: Expanded, head: IndexedHead) -> None:
        if len(head.ids) != len(expanded):
            raise InvalidValue(f"dynamic_bpe: head must have {len(expanded)} rows; got {len(head.ids)}; build it anew.")
        prove_linear(expanded.reader)
        self.expanded, self.head, self.reader = expanded, head, expanded.reader
        rows = self.reader.donor.input if self.reader.donor.output is None else self.reader.donor.output
        self._width, self._ends = rows.shape[1], set(end_ids(self.reader.language))

    @torch.no_grad()
    def write(
        self, prompt: str, *, most: int = 64, temperature: float = 0.0, candidates: int = 200, seed: int = 0
    ) -> Written:
        """Go on after a prompt, until an end mark.

        Args:
            most: tokens to write.
            temperature: 0 takes the largest logit; else one of the candidates is drawn.
            candidates: the largest logits, among which is drawn.
            seed: of what is drawn.

        Raises:
            InvalidValue: an empty prompt, or a temperature below 0.
        """
        if temperature < 0 or candidates < 1:
            raise InvalidValue(
                f"dynamic_bpe: temperature must be at least 0 and candidates at least 1; got {temperature} and "
                f"{candidates}."
            )
        generator = torch.Generator().manual_seed(seed)
        given: dict[str, Any] = dict(self.reader.inputs(self.reader.merge(self.reader.ids([prompt]))))
        model, read, past = unwrap(self.reader.language.model), given["attention_mask"].shape[1], None
        ids: list[int] = []
        with evaluating(model):
            while len(ids) < most and not (ids and ids[-1] in self._ends):
                if ids:
                    given, read = self._next(ids[-1], read), read + 1
                outputs = model.base_model(**given, **with_cache(past), use_cache=True)
                past, hidden = cache_of(outputs), with_one(outputs.last_hidden_state[0, -1], self._width)
                scores, found = self.head.search(hidden, 1 if temperature == 0 else candidates)
                at = 0
                if temperature > 0:
                    chances = (scores.float() / temperature).softmax(0).cpu()
                    at = int(torch.multinomial(chances, 1, generator=generator))
                ids.append(int(found[at]))
        return Written(tuple(ids), b"".join(self.expanded.piece(i) or b"" for i in ids))

    def _next(self, i: int, read: int) -> dict[str, Any]:
        """What the model is called with to read one more piece."""
        piece = self.expanded.piece(i)
        part = (i,) if i < self.reader.own else tuple(self.reader.donor.cut([piece])[0])
        given = self.reader.inputs([Merged((part,), (0,), (piece,))])
        given["attention_mask"] = given["attention_mask"].new_ones(1, read + 1)
        if "position_ids" in given:
            given["position_ids"] = given["position_ids"] + read
        return given

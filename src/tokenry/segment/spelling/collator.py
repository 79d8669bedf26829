"""Training examples in new spellings, each time they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import get_worker_info

from tokenry.core.errors import InvalidValue
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.spelling.respeller import Respeller
from tokenry.segment.spelling.respelling import Respelling

Example = Mapping[str, Any]


class RespellingCollator:
    """Respell examples as Hugging Face tokenizers make them, then pad them with any other collator.

    Every example is respelled by itself, anew each time. `labels` follow the parts; every other list as long as
    `input_ids`, such as masks, weights and offsets, gives each part what its token had. Tokens of padding and special
    tokens that the example marks as such never change. In worker processes each worker and epoch has choices of its
    own.

    Args:
        respeller: the method, such as `StochasTok(share=0.1)`.
        vocabulary: of the tokenizer that made the examples.
        then: makes a batch of the respelled examples, such as `DataCollatorForSeq2Seq(tokenizer)`; by default they
            come out as they are.
        within: name of a mask in the examples, such as `assistant_masks`, outside of which no token changes.
        longest: tokens after which a respelled example is cut; by default it is as long as it gets.
    """

    def __init__(
        self,
        respeller: Respeller,
        vocabulary: Vocabulary,
        then: Callable[[list[dict[str, Any]]], Any] = list,
        *,
        within: str | None = None,
        longest: int | None = None,
    ) -> None:
        self.respeller = respeller
        self.vocabulary = vocabulary
        self.then = then
        self.within = within
        self.longest = longest
        self._worker: int | None = None
        self._generator = torch.Generator().manual_seed(respeller.seed)

    def __call__(self, examples: Sequence[Example]) -> Any:
        """Respell examples.

        Raises:
            InvalidValue: positions, a missing mask, or labels other than the ids themselves and -100.
        """
        generator = self._random()
        return self.then([self._respelled(example, generator) for example in examples])

    def _random(self) -> torch.Generator:
        worker = get_worker_info()
        if worker is not None and worker.seed != self._worker:
            self._worker = worker.seed
            self._generator = torch.Generator().manual_seed((self.respeller.seed + worker.seed) % (1 << 63))
        return self._generator

    def _respelled(self, example: Example, generator: torch.Generator) -> dict[str, Any]:
        if "position_ids" in example:
            raise InvalidValue("examples: must have no position_ids, since parts are counted anew; leave them out.")
        ids = torch.as_tensor(example["input_ids"])
        new = self.respeller.respell(ids, self.vocabulary, generator, self._free(example, ids))
        return {name: self._carried(name, value, ids, new) for name, value in example.items()}

    def _free(self, example: Example, ids: Int[Tensor, "N"]) -> Bool[Tensor, "N"]:
        free = torch.ones_like(ids, dtype=torch.bool)
        if "attention_mask" in example:
            free &= torch.as_tensor(example["attention_mask"]).bool()
        if "special_tokens_mask" in example:
            free &= ~torch.as_tensor(example["special_tokens_mask"]).bool()
        if self.within is not None:
            if self.within not in example:
                raise InvalidValue(f"examples: must hold {self.within!r}; got {', '.join(example)}; check `within`.")
            free &= torch.as_tensor(example[self.within]).bool()
        return free

    def _carried(self, name: str, value: Any, ids: Int[Tensor, "N"], new: Respelling) -> Any:
        if not isinstance(value, Sequence | Tensor) or isinstance(value, str) or len(value) != len(ids):
            return value
        if name == "input_ids":
            spread = new.ids
        elif name == "labels":
            spread = new.spread_labels(torch.as_tensor(value), ids)
        elif isinstance(value, Tensor):
            spread = new.spread(value)
        else:
            return [value[i] for i in new.parent[: self.longest].tolist()]
        spread = spread[: self.longest]
        return spread if isinstance(value, Tensor) else spread.tolist()

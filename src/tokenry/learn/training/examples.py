"""Examples to learn from: a prompt that is read and a response that is learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.learn.selection.labels import IGNORED
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.as_text import text_tokens


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One sample.

    Args:
        ids: its tokens.
        labels: the same ids where there is something to learn, -100 elsewhere.

    Raises:
        InvalidValue: not one label for each token, or no label that can be learned.
    """

    ids: Int[Tensor, "N"]
    labels: Int[Tensor, "N"]

    def __post_init__(self) -> None:
        if self.ids.ndim != 1 or self.ids.shape != self.labels.shape:
            raise InvalidValue(
                f"Example: labels must be one for each token; got {tuple(self.labels.shape)} for "
                f"{tuple(self.ids.shape)}."
            )
        if not bool((self.labels[1:] != IGNORED).any()):
            raise InvalidValue(
                f"Example: must have a response after its first token; got {len(self.ids)} tokens without a label; "
                f"leave it out, or allow more tokens."
            )

    @classmethod
    def of(
        cls, language: LanguageModel, prompt: str, response: str, *, longest: int | None = None, marks: bool = False
    ) -> Example:
        """A prompt and the response to it, which ends with the model's end mark.

        Args:
            longest: tokens at which the response is cut; the model's context if not given.
            marks: the spelling of a mark, such as `<|im_end|>`, is that mark, as where a prompt was put into a chat
                template before; else it is text like all others.

        Raises:
            InvalidValue: nothing of the response is left.
        """
        tokenizer = language.tokenizer
        read, said = (
            text_tokens(tokenizer, text, own=[(0, len(text))] if marks else (), whole=whole).ids
            for text, whole in ((prompt, True), (response, False))
        )
        if said and isinstance(tokenizer.eos_token_id, int):
            said = [*said, tokenizer.eos_token_id]
        end = longest or language.context
        ids = torch.tensor([*read, *said], dtype=torch.long)[:end]
        labels = ids.clone()
        labels[: len(read)] = IGNORED
        return cls(ids, labels)


def collate(examples: Sequence[Example], device: torch.device | str = "cpu", pad: int = 0) -> dict[str, Any]:
    """A batch of examples, padded on the right."""
    n = max(len(e.ids) for e in examples)
    batch = {
        "input_ids": torch.full((len(examples), n), pad),
        "attention_mask": torch.zeros(len(examples), n, dtype=torch.long),
        "labels": torch.full((len(examples), n), IGNORED),
    }
    for row, example in enumerate(examples):
        end = len(example.ids)
        batch["input_ids"][row, :end] = example.ids
        batch["attention_mask"][row, :end] = 1
        batch["labels"][row, :end] = example.labels
    return {name: values.to(device) for name, values in batch.items()}


def batches(examples: Sequence[Example], rows: int, device: torch.device | str = "cpu") -> Iterator[dict[str, Any]]:
    """All examples, in order, `rows` at a time."""
    for low in range(0, len(examples), rows):
        yield collate(examples[low : low + rows], device)

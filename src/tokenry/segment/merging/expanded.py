"""Many more pieces than a model has: found by merging further over a text, with an output row for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.models.attention.adapter import unwrap
from tokenry.models.attention.rest import evaluating
from tokenry.models.text.lookup import close
from tokenry.segment.merging.boundaries import pretokens
from tokenry.segment.merging.pairs import merge_all
from tokenry.segment.merging.reader import DynamicReader

AT_ONCE = 16384
"""Pieces whose rows are made in one call."""


@dataclass(frozen=True, slots=True, eq=False)
class Expanded:
    """Pieces beyond those of a model.

    Args:
        reader: the model.
        pieces: in the order in which they were merged; their ids follow the rows of the model.
    """

    reader: DynamicReader
    pieces: tuple[bytes, ...]

    def __len__(self) -> int:
        return self.reader.own + len(self.pieces)

    @classmethod
    def grown(
        cls, reader: DynamicReader, corpus: Iterable[str], size: int, told: Callable[[int], None] | None = None
    ) -> Expanded:
        """Merge further over a text; a small one may not give as many pieces.

        Raises:
            InvalidValue: fewer pieces than the model has, or an empty corpus.
        """
        base = reader.own
        if size < base:
            raise InvalidValue(f"dynamic_bpe: size must be at least the model's {base} rows; got {size}.")
        split = pretokens(reader.language.tokenizer) if reader.method.boundary == "pretoken" else str.splitlines
        counts = Counter(part for text in corpus for part in split(text) if part)
        if not counts:
            raise InvalidValue("dynamic_bpe: corpus must hold some text; got none.")
        boundary = reader.boundary.allows
        merges = merge_all(
            _encoded(reader, list(counts)), reader.vocabulary.pieces, reader.vocabulary.ids.get, boundary,
            weights=list(counts.values()), most=size - base, told=told,
        )  # fmt: skip
        made = merges.pieces[len(reader.vocabulary) :]
        return cls(reader, tuple(piece for piece in made if piece is not None))

    @torch.no_grad()
    def outputs(self) -> Float[Tensor, "W F"]:
        """A row of the output layer for each id, in the model's numbers; a bias is the last column."""
        donor = self.reader.donor
        own = donor.input if donor.output is None else donor.output
        found = own.new_empty(len(self), own.shape[1])
        found[: len(own)] = own
        for at in range(0, len(self.pieces), AT_ONCE):
            made = self.reader.method.provider.table(list(self.pieces[at : at + AT_ONCE]), donor)
            rows = made.input if made.output is None else made.output
            found[len(own) + at : len(own) + at + len(rows)] = rows.to(found)
        return found

    def piece(self, i: int) -> bytes | None:
        """What an id spells; None for marks."""
        base = self.reader.own
        if i >= base:
            return self.pieces[i - base]
        return self.reader.vocabulary[i] if i < len(self.reader.vocabulary) else None


@torch.no_grad()
def prove_linear(reader: DynamicReader) -> None:
    """The model's logits must be its last hidden states times its output rows.

    Raises:
        UnsupportedModel: they are scaled or capped.
    """
    model = unwrap(reader.language.model)
    ids = torch.arange(5, device=reader.language.device)[None] * 3 % reader.own
    with evaluating(model):
        expected, hidden = model(input_ids=ids).logits, last_hidden(model, input_ids=ids)
    rows = reader.donor.input if reader.donor.output is None else reader.donor.output
    if not close(expected, with_one(hidden, rows.shape[1]) @ rows.T):
        raise UnsupportedModel(
            f"{type(model).__name__}: logits must be hidden states times output rows; they are scaled or capped; "
            "use a model whose logits are not."
        )


def last_hidden(model: object, **given: object) -> Float[Tensor, "B N E"]:
    """What stands before the output layer."""
    states: Tensor = model.base_model(**given).last_hidden_state  # type: ignore[attr-defined]
    return states


def with_one(hidden: Float[Tensor, "*B E"], width: int) -> Float[Tensor, "*B F"]:
    """Hidden states, with a one behind them where rows end with a bias."""
    return hidden if hidden.shape[-1] == width else torch.cat((hidden, torch.ones_like(hidden[..., :1])), -1)


def _encoded(reader: DynamicReader, parts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = []
    for at in range(0, len(parts), AT_ONCE):
        batch = list(parts[at : at + AT_ONCE])
        found += reader.language.tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]
    return found

"""Which labels of a batch there is something to learn from, and how surprised the model is by each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue

IGNORED = -100
"""The label of a token that is not learned."""

PACKED = ("cu_seq_lens_q", "cu_seq_lens_k", "seq_idx", "seq_lengths")
"""What collators add that put several samples into one row."""

KEY_BYTES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A checked batch of labels.

    Args:
        labels: the id that stands in each column, or -100.
        real: which columns are tokens and not padding.
        counted: the labels that count. That of a sample's first token does not: nothing stands before it.
        ids: the ids of all tokens, None where the batch has embeddings instead.
    """

    labels: Int[Tensor, "B N"]
    real: Bool[Tensor, "B N"]
    counted: Bool[Tensor, "B N"]
    ids: Int[Tensor, "B N"] | None

    @classmethod
    def of(cls, batch: Mapping[str, Any], who: str) -> Labelled:
        """Check a batch.

        Raises:
            InvalidValue: labels are missing, do not fit the ids, stand at padding, or the rows are packed.
        """
        labels, ids, mask = batch.get("labels"), batch.get("input_ids"), batch.get("attention_mask")
        if not isinstance(labels, Tensor) or labels.ndim != 2 or labels.is_floating_point():
            found = "nothing" if labels is None else f"{type(labels).__name__} {tuple(getattr(labels, 'shape', ()))}"
            raise InvalidValue(f"{who}: batch must hold labels, whole numbers (B, N); got {found}; add them.")
        _refuse_packed(batch, mask, who)
        for name, other in (("input_ids", ids), ("attention_mask", mask)):
            if other is not None and other.shape != labels.shape:
                raise InvalidValue(
                    f"{who}: labels must be one for each token of {name}, {tuple(other.shape)}; got "
                    f"{tuple(labels.shape)}; pad both alike."
                )
        real = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask.bool()
        wanted = labels != IGNORED
        outside = (wanted & ~real).nonzero()
        if len(outside):
            row, column = outside[0].tolist()
            raise InvalidValue(
                f"{who}: labels must be -100 where attention_mask is 0; got {int(labels[row, column])} in row {row}, "
                f"column {column}; pad labels with -100."
            )
        return cls(labels, real, wanted & real & (real.cumsum(1) > 1), ids)

    @property
    def prompt(self) -> Bool[Tensor, "B N"]:
        """Tokens that are read and not learned: the prompt, and the user's turns in a longer conversation."""
        return self.real & (self.labels == IGNORED)

    def losses(self, logits: Float[Tensor, "B N V"], who: str) -> Float[Tensor, "B N"]:
        """-log p of every label that counts, in nats and 32-bit floats; 0 for all others.

        Raises:
            InvalidValue: logits of another shape, or a label that is no token of the model.
        """
        if logits.shape[:2] != self.labels.shape:
            raise InvalidValue(
                f"{who}: outputs.logits must be (B, N, V) with (B, N) = {tuple(self.labels.shape)}; got "
                f"{tuple(logits.shape)}; call the model with watch.inputs(batch)."
            )
        row, column = self.counted.nonzero(as_tuple=True)
        wanted = self.labels[row, column]
        if len(wanted) and not bool((wanted.min() >= 0) & (wanted.max() < logits.shape[-1])):
            raise InvalidValue(
                f"{who}: labels must be -100 or ids below the model's {logits.shape[-1]}; got {int(wanted.min())} to "
                f"{int(wanted.max())}; use the model's own tokenizer."
            )
        # What the model says about a token stands at the token before it.
        found = cross_entropy(logits[row, column - 1].float(), wanted, reduction="none")
        return found.new_zeros(self.labels.shape).index_put((row, column), found)

    def key(self, row: int) -> bytes:
        """Names a sample by its content: the same in any batch, order and padding."""
        if self.ids is None:
            raise InvalidValue("learn: batch must hold input_ids, by which samples are known; got none; add them.")
        real = self.real[row]
        both = torch.stack((self.ids[row][real], self.labels[row][real])).to("cpu", torch.int64)
        return blake2b(both.numpy().tobytes(), digest_size=KEY_BYTES).digest()


def _refuse_packed(batch: Mapping[str, Any], mask: Tensor | None, who: str) -> None:
    reason = next((name for name in PACKED if batch.get(name) is not None), None)
    if mask is not None and mask.ndim != 2:
        reason = f"an attention_mask with {mask.ndim} axes"
    positions = batch.get("position_ids")
    if reason is None and isinstance(positions, Tensor) and positions.ndim == 2:
        back = positions.diff(dim=1) <= 0
        if mask is not None and mask.shape == positions.shape:
            back &= mask[:, 1:].bool() & mask[:, :-1].bool()
        reason = "position_ids that begin anew within a row" if bool(back.any()) else None
    if reason is not None:
        raise InvalidValue(f"{who}: each row must hold one sample; got {reason}; pad the samples, do not pack them.")

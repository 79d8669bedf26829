"""Only the rows of new ids learn; the matrices of a model stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from tokenry.core.errors import InvalidValue
from tokenry.models.text.embeddings import matrices_of


class NewRows(nn.Module):
    """The rows from an id on, of the embeddings and, where it is another matrix, of the logits too.

    They are parameters of their own, in 32-bit floats, so that an optimiser holds nothing for the old rows.

        rows = NewRows(language.model, first=49_152)
        with rows.learning():
            ...  # the model, or PEFT's wrapper of it, reads and says new ids through these rows
        rows.write()

    Args:
        model: a plain causal model; it may be wrapped afterwards.
        first: the first new id; there are rows from there to the end of the matrices.

    Raises:
        InvalidValue: no row from there on.
        UnsupportedModel: a model whose matrices cannot be told.
    """

    def __init__(self, model: Any, first: int) -> None:
        super().__init__()
        found = matrices_of(model)
        if not 0 < first < len(found.input):
            raise InvalidValue(f"new_rows: first must be from 1 to {len(found.input) - 1}; got {first}.")
        self.first = first
        # A tuple hides the model, whose parameters are none of these.
        self._of = (model,)
        self.input = nn.Parameter(found.input[first:].float().clone())
        self.output = None if found.output is None else nn.Parameter(found.output[first:].float().clone())

    @contextmanager
    def learning(self) -> Iterator[None]:
        """New ids are read and said through these rows as long as the block runs."""
        model = self._of[0]
        hooks = [
            model.get_input_embeddings().register_forward_hook(self._read),
            model.get_output_embeddings().register_forward_hook(self._say),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def write(self) -> None:
        """Put the rows into the model's own matrices."""
        model = self._of[0]
        model.get_input_embeddings().weight[self.first :] = self.input.to(model.get_input_embeddings().weight)
        if self.output is not None:
            head = model.get_output_embeddings()
            head.weight[self.first :] = self.output[:, : head.in_features].to(head.weight)
            if head.bias is not None:
                head.bias[self.first :] = self.output[:, head.in_features].to(head.bias)

    def _read(self, module: nn.Module, given: tuple[Int[Tensor, "B N"]], out: Float[Tensor, "B N E"]) -> Tensor:
        new = given[0] >= self.first
        rows = embedding((given[0] - self.first).clamp_min(0), self.input)
        scale = getattr(module, "embed_scale", 1.0)
        return torch.where(new.unsqueeze(-1), rows.to(out.dtype) * scale, out)

    def _say(self, module: nn.Linear, given: tuple[Float[Tensor, "B N E"]], out: Float[Tensor, "B N V"]) -> Tensor:
        rows = self.input if self.output is None else self.output[:, : module.in_features]
        bias = None if self.output is None or module.bias is None else self.output[:, module.in_features]
        said = linear(given[0].float(), rows, bias)
        return torch.cat((out[..., : self.first], said.to(out.dtype)), -1)

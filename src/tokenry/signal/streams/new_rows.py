"""Rows for new ids, of tokens that are no text: a language model gets them, and they alone learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from tokenry.core.errors import InvalidValue
from tokenry.models.files.load import LanguageModel
from tokenry.models.text.embeddings import Matrices, marks_of, matrices_of, with_matrices


def extended(
    language: LanguageModel, count: int, *, vectors: Mapping[int, Float[Tensor, "..."]] | None = None,
    spread: float = 0.1, seed: int = 0,
) -> LanguageModel:  # fmt: skip
    """The same model with `count` more ids behind its own; everything that it says of its own ids stays as it was.

    New rows are the mean of the old ones with a little noise, so that training does not begin with a leap of the loss.
    Rows of codes may be made from the vectors of their codebook instead, so that codes that lie near each other begin
    near each other. All other weights are shared with the given model, not copied.

    Args:
        vectors: vectors (C, D) of a codebook, by the number of the new id that its first code has; D is any width.
        spread: noise as a share of the spread of the old rows.
        seed: of the noise, and of the map from vectors to rows.

    Raises:
        InvalidValue: no new ids, or vectors behind the last of them.
        UnsupportedModel: a model whose matrices cannot be replaced.
    """
    vectors = vectors or {}
    fewest = max((at + len(rows) for at, rows in vectors.items()), default=1)
    if count < fewest:
        raise InvalidValue(f"extended: count must be at least {fewest}, where the last vectors end; got {count}.")
    old = matrices_of(language.model)
    generator = torch.Generator().manual_seed(seed)
    read = _rows(old.input, count, vectors, spread, generator)
    new = Matrices(read, None if old.output is None else _rows(old.output, count, vectors, spread, generator))
    model = with_matrices(language.model, new, {i: i for i in marks_of(language.model)})
    return replace(language, model=model)


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


def _rows(
    matrix: Float[Tensor, "V E"], count: int, vectors: Mapping[int, Float[Tensor, "..."]], spread: float,
    generator: torch.Generator,
) -> Float[Tensor, "W E"]:  # fmt: skip
    mean, deviation = matrix.float().mean(0), matrix.float().std(0)
    noise = torch.randn(count, matrix.shape[1], generator=generator).to(matrix.device)
    fresh = mean + spread * deviation * noise
    for at, rows in vectors.items():
        centred = (rows.float() - rows.float().mean(0)) / rows.float().std().clamp_min(1e-12)
        turn = torch.randn(rows.shape[1], matrix.shape[1], generator=generator) / rows.shape[1] ** 0.5
        fresh[at : at + len(rows)] = mean + deviation * (centred.cpu() @ turn).to(matrix.device)
    return torch.cat((matrix, fresh.to(matrix.dtype)))

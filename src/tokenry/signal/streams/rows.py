"""A language model with more rows: ids for tokens that are no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

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

"""A language model with more rows: ids for tokens that are no text."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.models.embeddings import Matrices, marks_of, matrices_of, with_matrices
from tokenry.models.load import LanguageModel


def extended(
    language: LanguageModel,
    count: int,
    *,
    vectors: Float[Tensor, "C D"] | None = None,
    spread: float = 0.1,
    seed: int = 0,
) -> LanguageModel:
    """The same model with `count` more ids behind its own; everything that it says of its own ids stays as it was.

    New rows are the mean of the old ones with a little noise, so that training does not begin with a leap of the loss.
    The first of them may be made from vectors of a codebook instead, so that codes that lie near each other begin near
    each other. All other weights are shared with the given model, not copied.

    Args:
        vectors: of the codes that have the first of the new ids, of any width.
        spread: noise as a share of the spread of the old rows.
        seed: of the noise, and of the map from vectors to rows.

    Raises:
        InvalidValue: fewer new ids than vectors.
        UnsupportedModel: a model whose matrices cannot be replaced.
    """
    fewest = 1 if vectors is None else len(vectors)
    if count < fewest:
        raise InvalidValue(f"extended: count must be at least {fewest}, the number of vectors; got {count}.")
    old = matrices_of(language.model)
    generator = torch.Generator().manual_seed(seed)
    read = _rows(old.input, count, vectors, spread, generator)
    new = Matrices(read, None if old.output is None else _rows(old.output, count, vectors, spread, generator))
    model = with_matrices(language.model, new, {i: i for i in marks_of(language.model)})
    return replace(language, model=model)


def _rows(
    matrix: Float[Tensor, "V E"], count: int, vectors: Float[Tensor, "C D"] | None, spread: float,
    generator: torch.Generator,
) -> Float[Tensor, "W E"]:  # fmt: skip
    mean, deviation = matrix.float().mean(0), matrix.float().std(0)
    noise = torch.randn(count, matrix.shape[1], generator=generator).to(matrix.device)
    fresh = mean + spread * deviation * noise
    if vectors is not None:
        centred = (vectors - vectors.mean(0)) / vectors.std().clamp_min(1e-12)
        turn = torch.randn(vectors.shape[1], matrix.shape[1], generator=generator) / vectors.shape[1] ** 0.5
        fresh[: len(vectors)] = mean + deviation * (centred.cpu() @ turn).to(matrix.device)
    return torch.cat((matrix, fresh.to(matrix.dtype)))

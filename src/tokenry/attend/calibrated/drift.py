"""Which layers move the states of tokens least: where skipping a token costs least."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tokenry.core.errors import InvalidValue


@torch.no_grad()
def drifts(model: Any, ids: Int[Tensor, "T"]) -> Float[Tensor, "L1"]:
    """Mean over tokens of |h' - h| / |h| for every layer but the last, whose output models return normalised."""
    states = model(input_ids=ids[None].to(model.device), output_hidden_states=True, use_cache=False).hidden_states
    return torch.stack(
        [
            ((after - before).float().norm(dim=-1) / (before.float().norm(dim=-1) + 1e-6)).mean()
            for before, after in pairwise(states[:-1])
        ]
    )


def drifting(model: Any, ids: Int[Tensor, "T"], *, share: float = 0.5) -> tuple[int, ...]:
    """The layers whose drift on a long prompt is at most the quantile `share`, for `TokenSparse(layers=…)`.

    Raises:
        InvalidValue: a share outside (0, 1], or fewer than two tokens.
    """
    if not 0 < share <= 1 or len(ids) < 2:
        raise InvalidValue(
            f"drifting: share must be in (0, 1] and ids at least two tokens; got {share} and {len(ids)}."
        )
    found = drifts(model, ids)
    return tuple((found <= found.quantile(share)).nonzero()[:, 0].tolist())

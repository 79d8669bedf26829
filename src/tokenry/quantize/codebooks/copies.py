"""Several quantizers made from one that describes them: how they learn in turn, and where their losses reach."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenry.core.errors import InvalidValue
from tokenry.quantize.base import Quantizer
from tokenry.quantize.codebooks.passes import Passes

MOST_CODEBOOKS = 4096
"""Beyond this the counts of a quantizer, perhaps read from a file, are refused."""
ROUNDS = 3
"""How often a table that all levels share is fitted to what all levels see."""


def check_count(who: str, count: int) -> None:
    """Refuse more codebooks than anybody uses, before any of them is made."""
    if count > MOST_CODEBOOKS:
        raise InvalidValue(f"{who}: must have at most {MOST_CODEBOOKS} codebooks; got {count}; use fewer.")


def copies(of: Quantizer, count: int, width: int, *, shared: bool) -> nn.ModuleList:
    """Quantizers like `of` that are built for vectors of this width, each with parameters of its own, or one for all.

    Raises:
        InvalidValue: `of` is built already.
    """
    return nn.ModuleList(copy.deepcopy(of).build(width=width) for _ in range(1 if shared else count))


def learn_levels(
    descend: Callable[[], Iterable[tuple[Quantizer, Float[Tensor, "_ E"]]]],
    rows: Float[Tensor, "T E"],
    passes: Passes,
    generator: torch.Generator,
    *,
    shared: bool,
) -> None:
    """Let each level learn what the ones before it leave over.

    Args:
        descend: gives each level with what it sees, which depends on what the ones before have learnt.
        rows: what a quantizer that is all levels learns from first.
    """
    if not shared:
        for level, seen in descend():
            level.learn(seen, passes, generator)
        return
    every = rows
    for _ in range(ROUNDS):
        next(iter(descend()))[0].learn(every, passes, generator)
        every = torch.cat([seen for _, seen in descend()])


def reaching(given: Float[Tensor, "T E"], loss: Float[Tensor, ""], seen: Float[Tensor, "T E"]) -> Float[Tensor, ""]:
    """The loss of `seen`, a copy of `given` without history, with its gradient for `given`; its value stays."""
    if not (loss.requires_grad and seen.requires_grad):
        return loss
    (slope,) = torch.autograd.grad(loss, seen, retain_graph=True, allow_unused=True)
    return loss if slope is None else loss + (slope * (given - given.detach())).sum()

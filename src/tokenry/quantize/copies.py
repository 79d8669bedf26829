"""Several quantizers made from one that describes them."""

from __future__ import annotations

import copy

from torch import nn

from tokenry.core.errors import InvalidValue
from tokenry.quantize.base import Quantizer

MOST_CODEBOOKS = 4096
"""Beyond this the counts of a quantizer, perhaps read from a file, are refused."""


def check_count(who: str, of: Quantizer, count: int) -> None:
    """Refuse more codebooks than anybody uses, before any of them is made."""
    found = count * len(of.codebook_sizes)
    if found > MOST_CODEBOOKS:
        raise InvalidValue(f"{who}: must have at most {MOST_CODEBOOKS} codebooks; got {found}; use fewer.")


def copies(of: Quantizer, count: int, width: int, *, shared: bool) -> nn.ModuleList:
    """Quantizers like `of` that are built for vectors of this width, each with parameters of its own, or one for all.

    Raises:
        InvalidValue: `of` is built already.
    """
    return nn.ModuleList(copy.deepcopy(of).build(width=width) for _ in range(1 if shared else count))

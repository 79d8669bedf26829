"""Scores of units that know what they stand under and what stands beside them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tokenry.compress.units.cut import Cut


def in_context(own: Float[np.ndarray, "U"], cut: Cut, *, beside: float, above: float) -> Float[np.ndarray, "U"]:
    """Scores with a share of the better neighbour's, where the order of units tells something, and of the parent's.

    A statement is about what its definition is called, and a paragraph about its heading, without saying so.
    """
    found = own.copy()
    flows = np.array([kind.flows for kind in cut.kinds], dtype=bool)[cut.kind]
    for other in cut.neighbours.T:
        near = own + beside * np.where(flows & (other >= 0), own[other], 0.0)
        np.maximum(found, near, out=found)
    for units in cut.levels:
        found[units] += above * found[cut.parent[units]]
    return found

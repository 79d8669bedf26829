"""Which tokens of a sample are hidden, and random numbers that depend on nothing else."""

from __future__ import annotations

from hashlib import blake2b

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.learn.selection.labels import Labelled


def hidden_count(share: float, tokens: int) -> int:
    """How many tokens of a sample are hidden: the share, rounded, and at least one of them."""
    return min(tokens, max(1, round(share * tokens))) if share > 0 else 0


def seeds(labelled: Labelled, seed: int, done: float) -> list[torch.Generator]:
    """For each row a generator that depends on the sample, the seed and where the training stands."""
    at = f":{seed}:{done}".encode()
    # Generators of the processor look at 32 bits of a seed only.
    digests = (blake2b(labelled.key(r) + at, digest_size=4).digest() for r in range(len(labelled.labels)))
    return [torch.Generator().manual_seed(int.from_bytes(digest, "big")) for digest in digests]


def hide(labelled: Labelled, share: float, generators: list[torch.Generator]) -> Bool[Tensor, "B N"]:
    """The hidden tokens of each row, drawn among those that count."""
    found = torch.zeros_like(labelled.counted)
    for row, generator in enumerate(generators):
        columns = labelled.counted[row].nonzero()[:, 0]
        order = torch.randperm(len(columns), generator=generator).to(columns.device)
        found[row, columns[order[: hidden_count(share, len(columns))]]] = True
    return found


def draw(
    logits: Float[Tensor, "H V"], hidden: Bool[Tensor, "B N"], generators: list[torch.Generator], temperature: float
) -> Int[Tensor, "H"]:
    """One id for each hidden token, by its logits; row by row, so that rows do not depend on each other."""
    counts = hidden.sum(1).tolist()
    noise = [
        torch.rand(count, logits.shape[1], generator=g, dtype=torch.float64)
        for count, g in zip(counts, generators, strict=True)
    ]
    # The largest of logits with Gumbel noise is a draw from their softmax.
    gumbel = -(-torch.cat(noise).clamp_min(1e-300).log()).log()
    return (logits.detach().double().cpu() / temperature + gumbel).argmax(1).to(logits.device)

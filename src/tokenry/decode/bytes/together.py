"""Several models of different vocabularies that predict the next byte together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from tokenry.core.errors import InvalidValue
from tokenry.decode.bytes.reader import END, ByteReader

MEANS = ("arithmetic", "geometric")


@dataclass(eq=False)
class Together:
    """Readers of the same text whose predictions are one.

    Args:
        readers: of models that may differ in everything.
        weights: of the models, made to sum to one.
        mean: `arithmetic` mixes probabilities, `geometric` mixes their logarithms and makes them sum to one again.
    """

    readers: Sequence[ByteReader]
    weights: Sequence[float] = ()
    mean: str = "arithmetic"

    def __post_init__(self) -> None:
        if not self.readers:
            raise InvalidValue("together: readers must be at least one; got none.")
        if self.mean not in MEANS:
            raise InvalidValue(f"together: mean must be one of {', '.join(MEANS)}; got {self.mean!r}.")
        given = list(self.weights) or [1.0] * len(self.readers)
        if len(given) != len(self.readers) or min(given) < 0 or not sum(given):
            raise InvalidValue(f"together: weights must be one for each of {len(self.readers)} models; got {given}.")
        self.weights = [w / sum(given) for w in given]

    def push(self, text: bytes) -> Together:
        """All read on."""
        for reader in self.readers:
            reader.push(text)
        return self

    def next(self) -> Float[np.ndarray, "257"]:
        """Log-probability of each next byte and of the end of the text."""
        logs = np.stack([reader.next() for reader in self.readers])
        weights = np.array(self.weights)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.mean == "arithmetic":
                return np.log((weights * np.exp(logs)).sum(0))
            # A model without weight has no say, also where it finds something impossible.
            mixed = np.where(weights > 0, weights * logs, 0.0).sum(0)
        return mixed - np.log(np.exp(mixed).sum())

    def score(self, text: bytes) -> Float[np.ndarray, "n"]:
        """Log-probability of each byte of what comes next, in nats; it is read."""
        found = []
        for byte in text:
            found.append(self.next()[byte])
            self.push(bytes([byte]))
        return np.array(found)


def sample(
    reader: ByteReader | Together, most: int, *, temperature: float = 1.0, seed: int = 0, stop: bytes = b""
) -> bytes:
    """Bytes drawn one after the other, each from its exact distribution.

    Args:
        most: bytes at most; there are fewer where the text ends.
        temperature: divides the log-probabilities of bytes; 0 takes the likeliest one.
        seed: of what is drawn.
        stop: end behind these bytes.
    """
    chance = torch.Generator().manual_seed(seed)
    said = b""
    for _ in range(most):
        logs = reader.next()
        if temperature:
            p = np.exp((logs - logs.max()) / temperature)
            place = float(torch.rand((), generator=chance, dtype=torch.float64)) * p.sum()
            byte = min(int(np.searchsorted(p.cumsum(), place, side="right")), END)
        else:
            byte = int(logs.argmax())
        if byte == END:
            break
        said += bytes([byte])
        reader.push(bytes([byte]))
        if stop and said.endswith(stop):
            break
    return said

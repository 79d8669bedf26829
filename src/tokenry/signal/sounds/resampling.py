"""Resampling of a sound that arrives in pieces."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.core.needs import need
from tokenry.data.sound import STEEPEST


class Resampler:
    """T samples at the old rate become ceil(T new / old), the same numbers however they are cut.

    Raises:
        InvalidValue: rates too far apart, or the library for it is not installed.
    """

    def __init__(self, old: int, new: int) -> None:
        if max(old, new) > STEEPEST * min(old, new):
            raise InvalidValue(f"resampling: rates must differ at most {STEEPEST} times; got {old} and {new}.")
        self.old, self.new = old, new
        self.taken = self.given = 0
        self._stream = None if old == new else need("soxr", "resampling").ResampleStream(old, new, 1, dtype="float32")

    def feed(self, samples: Float[Tensor, "T"]) -> Float[Tensor, "U"]:
        """What is known after these samples."""
        self.taken += len(samples)
        return self._resampled(samples, last=False)

    def finish(self) -> Float[Tensor, "U"]:
        """The rest; nothing may follow."""
        # A little silence lets the filter reach the last sample.
        rest = self._resampled(torch.zeros(0 if self._stream is None else self.old // self.new + 1), last=True)
        return rest[: -(-self.taken * self.new // self.old) - self.given + len(rest)]

    def _resampled(self, samples: Float[Tensor, "T"], *, last: bool) -> Float[Tensor, "U"]:
        if self._stream is not None:
            samples = torch.from_numpy(self._stream.resample_chunk(samples.cpu().numpy(), last=last).copy())
        self.given += len(samples)
        return samples

"""Which code of which frame a token is."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from tokenry.core.errors import InvalidValue
from tokenry.data.sound import MOST_SAMPLES
from tokenry.quantize.base import Quantizer
from tokenry.signal.parts.sound_content import MISSING, SoundContent


def check_codes(who: str, ids: Int[Tensor, "N"], spans: Int[Tensor, "N 2"], vocab_size: int) -> None:
    """Refuse tokens that are no codes with places.

    Raises:
        InvalidValue: an id that there is not, or a span that is no part of a sound.
    """
    if int(ids.min()) < 0 or int(ids.max()) >= vocab_size:
        raise InvalidValue(f"{who}: ids must be in [0, {vocab_size}); got {int(ids.min())} to {int(ids.max())}.")
    wrong = (spans[:, 0] < 0) | (spans[:, 1] <= spans[:, 0]) | (spans[:, 1] > MOST_SAMPLES)
    if bool(wrong.any()):
        raise InvalidValue(
            f"{who}: spans must be samples of a sound of at most {MOST_SAMPLES}; got {spans[wrong][0].tolist()}."
        )


def books_of(ids: Int[Tensor, "N"], content: SoundContent) -> Int[Tensor, "N"]:
    """The codebook of each id."""
    return torch.bucketize(ids, torch.tensor(content.codebook_sizes).cumsum(0), right=True)


def codes_of(
    ids: Int[Tensor, "N"], frames: Int[Tensor, "N 2"], count: int, content: SoundContent
) -> Int[Tensor, "F R"]:
    """The codes of all frames; `MISSING` where there is no token.

    Args:
        frames: the first frame of each token's span, and the one behind its last. Where a span has several frames and
            tokens are not merged, the first token of a codebook is of the first frame, and so on.
        count: of frames.
    """
    sizes, books = torch.tensor(content.codebook_sizes), books_of(ids, content)
    codes = torch.full((count, len(sizes)), MISSING)
    values = ids - (sizes.cumsum(0) - sizes)[books]
    first, lengths = frames[:, 0], frames[:, 1] - frames[:, 0]
    if content.merges:
        token = torch.arange(len(ids)).repeat_interleave(lengths)
        within = torch.arange(len(token)) - (lengths.cumsum(0) - lengths)[token]
        codes[first[token] + within, books[token]] = values[token]
    else:
        codes[first + _rank(first * len(sizes) + books), books] = values
    return codes


def usable(codes: Int[Tensor, "F R"], quantizer: Quantizer) -> Int[Tensor, "F R"]:
    """Codes without those that say nothing: of a sum the ones behind a gap, of other quantizers all of such a frame."""
    there = codes != MISSING
    whole = there.cummin(1).values if quantizer.partial else there.all(1, keepdim=True)
    return codes.masked_fill(~whole, MISSING)


def _rank(keys: Int[Tensor, "N"]) -> Int[Tensor, "N"]:
    """How many equal keys stand before each."""
    order = keys.argsort(stable=True)
    new = torch.ones(len(keys), dtype=torch.bool)
    new[1:] = keys[order][1:] != keys[order][:-1]
    starts = new.nonzero()[:, 0]
    run = new.cumsum(0) - 1
    rank = torch.empty_like(keys)
    rank[order] = torch.arange(len(keys)) - starts[run]
    return rank

"""Where tokens of several kinds stand to each other: positions on three axes, and who may read whom."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.core.sequence import Modality, TokenSequence

PICTURES = (int(Modality.IMAGE), int(Modality.VIDEO))


def runs_of(tokens: TokenSequence) -> Int[Tensor, "N"]:
    """The number of the stretch that each token stands in: of one kind and one source, one after the other."""
    shows, source = tokens.shows, tokens.source
    new = torch.ones(len(tokens), dtype=torch.bool)
    new[1:] = (shows[1:] != shows[:-1]) | (source[1:] != source[:-1])
    return new.long().cumsum(0) - 1


def axes_of(tokens: TokenSequence) -> Int[Tensor, "3 N"]:
    """Positions (t, y, x): text counts on all axes alike; in a picture y and x count its rows and columns.

    What follows a picture goes on behind the largest of its positions, as multi-axis rotary embeddings expect.
    """
    out = torch.zeros(3, len(tokens), dtype=torch.long)
    runs, ahead = runs_of(tokens), 0
    for at in runs.unique():
        here = (runs == at).nonzero()[:, 0]
        if int(tokens.shows[here[0]]) in PICTURES:
            starts = tokens.spans[here][:, [0, 2, 4]]
            counted = torch.stack([axis.unique(return_inverse=True)[1] for axis in starts.unbind(1)])
        else:
            counted = torch.arange(len(here)).expand(3, -1)
        out[:, here] = ahead + counted
        ahead = int(out[:, here].max()) + 1
    return out


def mixed_mask(tokens: TokenSequence) -> Bool[Tensor, "N N"]:
    """True where a token may read another: all before it, and in a picture all of the same picture."""
    run = runs_of(tokens)
    picture = torch.isin(tokens.shows, torch.tensor(PICTURES))
    same = (run.unsqueeze(1) == run) & picture.unsqueeze(1) & picture
    return torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril() | same


def prefix_mask(length: int, prefix: int) -> Bool[Tensor, "N N"]:
    """True where a token may read another: all of the prefix, and behind it what stands before."""
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[:, :prefix] = True
    return mask

"""How badly a model foretells segments: each kind by itself, so that a long picture does not drown a short word."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue
from tokenry.signal.streams.stream import Stream


def stream_loss(
    logits: Float[Tensor, "*B V"], labels: Int[Tensor, "*B"], stream: Stream, weights: Mapping[str, float]
) -> Float[Tensor, ""]:
    """The weighted sum over kinds of the mean cross-entropy of their ids and of the mark behind them.

    At every place only those ids count that a grammar would let through inside such a segment: those of the codebook
    whose turn it is, and the last mark. A mean is over the labels of one kind, so that its share does not depend on how
    many there are.

    Args:
        logits: for the id at the same place of `labels`.
        labels: ids of the stream; other marks, numbers of headers and negative ones are not learnt.
        weights: of each kind that is learnt.

    Raises:
        InvalidValue: a kind that the stream does not have, or another number of labels than of logits.
    """
    wrong = sorted(set(weights) - set(stream.kinds))
    if wrong:
        raise InvalidValue(f"stream_loss: weights must be of {', '.join(stream.kinds)}; got {', '.join(wrong)}.")
    if logits.shape[:-1] != labels.shape or logits.shape[-1] < len(stream.vocabulary):
        raise InvalidValue(
            f"stream_loss: logits must be of shape {tuple(labels.shape)} and {len(stream.vocabulary)} ids; got "
            f"{tuple(logits.shape)}."
        )
    total = logits.new_zeros((), dtype=torch.float32)
    for kind, weight in weights.items():
        held, end = stream.vocabulary.ranges[kind], stream.end(kind)
        inside = (labels >= held.first) & (labels < held.end)
        here = inside | (labels == end)
        if weight == 0 or not bool(here.any()):
            continue
        wanted = torch.where(inside[here], labels[here] - held.first, len(held))
        scores = torch.cat((logits[here][:, held.first : held.end], logits[here][:, end : end + 1]), 1).float()
        total = total + weight * cross_entropy(scores.masked_fill(_others(stream, kind, wanted), -torch.inf), wanted)
    return total


def _others(stream: Stream, kind: str, wanted: Int[Tensor, "T"]) -> Bool[Tensor, "T W"]:
    """True for ids of codebooks whose turn it is not; the mark comes where the first one's turn would be."""
    turns = stream.turns(kind)
    last = stream.vocabulary.ranges[kind].end - stream.vocabulary.ranges[kind].first
    ends = torch.tensor([turn.end for turn in turns], device=wanted.device) - turns[0].first
    turn = torch.bucketize(wanted, ends, right=True).masked_fill(wanted == last, 0)
    book = torch.bucketize(torch.arange(last + 1, device=wanted.device), ends, right=True)
    return (book != turn.unsqueeze(1)) & (book < len(turns))

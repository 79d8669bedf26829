"""What it costs to write otherwise than a model writes, where all that it reads is cut as it is used to."""

from __future__ import annotations

from itertools import accumulate
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.models.files.load import LanguageModel
from tokenry.models.text.vocabulary import vocabulary_of

Stretch = tuple[int, int, list[int]]
"""Where a stretch begins and ends among the model's own tokens, and the others that spell it."""


@torch.no_grad()
def bits_of_stretches(language: LanguageModel, own: list[int], other: list[int]) -> float:
    """-log2 p of a text whose tokens are `own`, each stretch that is cut otherwise in `other` spelled as there.

    Before every stretch stand the model's own tokens: all stretches are read in one pass, in branches that do not see
    each other.
    """
    begin = next(i for i in (language.tokenizer.bos_token_id, language.tokenizer.eos_token_id) if i is not None)
    read, places, branches = [begin, *own], [*range(len(own) + 1)], []
    for first, last, spelled in stretches(language, own, other):
        branches.append((first, last, len(read), spelled))
        places += range(first + 1, first + 1 + len(spelled))
        read += spelled
    logits = language.model(
        input_ids=torch.tensor([read]), position_ids=torch.tensor([places]),
        attention_mask=_seen(len(own) + 1, len(read), [(a, at, len(s)) for a, _, at, s in branches])[None, None],
    ).logits[0]  # fmt: skip
    sure = logits.float().log_softmax(-1)
    nats = -sure[torch.arange(len(own)), torch.tensor(own)]
    for first, last, at, spelled in branches:
        nats[first:last] = 0
        nats[first] = -sure[[first, *range(at, at + len(spelled) - 1)], spelled].sum()
    return float(nats.double().sum()) / log(2)


def stretches(language: LanguageModel, own: list[int], other: list[int]) -> list[Stretch]:
    """The shortest parts between two places where both cut, of those that they cut otherwise."""
    vocabulary = vocabulary_of(language.tokenizer)
    ends = [list(accumulate(len(vocabulary[i] or b"") for i in ids)) for ids in (own, other)]
    found, a, b = [], 0, 0
    for end in sorted(set(ends[0]) & set(ends[1])):
        to_a, to_b = (cut.index(end) + 1 for cut in ends)
        if own[a:to_a] != other[b:to_b]:
            found.append((a, to_a, other[b:to_b]))
        a, b = to_a, to_b
    return found


def _seen(whole: int, size: int, branches: list[tuple[int, int, int]]) -> Float[Tensor, "N N"]:
    """What every token sees: those before it, a branch of them none behind the place where it begins."""
    never = float("-inf")
    mask = torch.full((size, size), never)
    mask[:whole, :whole] = torch.full((whole, whole), never).triu(1)
    for first, at, length in branches:
        mask[at : at + length, : first + 1] = 0
        mask[at : at + length, at : at + length] = torch.full((length, length), never).triu(1)
    return mask

"""StochasTok: while a model is trained, spell some tokens by two smaller ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.fields import between, natural
from tokenry.core.vocabulary import Vocabulary
from tokenry.segment.spelling.respeller import Respeller
from tokenry.segment.spelling.respelling import Respelling, piece_lengths
from tokenry.segment.spelling.splits import LONGEST, Splits, splits_of


@dataclass(frozen=True, kw_only=True)
class StochasTok(Respeller):
    """Replace random tokens by two that spell the same, so that a model learns what is inside tokens.

    What it does
        floor(share * N) times: a uniform position in the sequence as it then is; the token there, if two tokens of the
        vocabulary spell it, becomes one such pair, all being equally likely. An attempt at any other token counts too.
    Where it acts
        On examples for training, through `RespellingCollator`, and on prompts, before all other methods. A model is
        asked with the ordinary tokenizer.
    Shapes
        ids (N) -> parts (M) and the old token of each part (M); N <= M <= N + share * N.
    Guarantees
        The bytes stay. `share=0` changes nothing. Marks, the template, the question and protected tokens are never
        split nor counted in N, except marks, which count where they are free. Places, labels and masks follow the
        same map. The same tokens and seed give the same parts, whatever the padding and the other rows of the batch.
    Raises
        InvalidValue: a share outside [0, 1].
        Incompatible: a vocabulary whose pieces do not spell text side by side, or tokens changed before.
    Deviations
        Attempts are counted over the tokens that may change, and random numbers are drawn by the seed and the tokens.
    Relations
        Needs no merges and never encodes again, unlike dropout of merges.
    """

    card = Card(
        title="StochasTok: Improving Fine-Grained Subword Understanding in LLMs",
        year=2025,
        url="https://arxiv.org/abs/2506.01687",
        summary="random splitting of tokens into two smaller ones of the same vocabulary, for training",
        identity_at={"share": 0.0},
        trial={"share": 0.5},
        claims=(
            "a small model that read 300 words with random splits is right about the letters of words held out from "
            "its questions in 39.1 % of 1,200, without splits in 23.5 %, with meaningless splits in 22.9 %; chance is "
            "25 % (benchmarks/segment/stochastok.py, one seed)",
            "splitting the same tokens into all their bytes taught that model more, 49.8 %, with 24 % more tokens read "
            "(benchmarks/segment/stochastok.py, one seed)",
            "splits 66 MB of English text a second on one core at share 0.1 (benchmarks/segment/stochastok.py)",
        ),
        deviations=(
            "attempts are counted over the tokens that may change; the published code counts all",
            "random numbers are drawn by the seed and the tokens, not from the global state",
        ),
    )

    share: float = between(0.0, 1.0, default=0.1, doc="attempts to split, as a share of the tokens")
    seed: int = natural(0, doc="of the random choices in `apply`")

    def respell(
        self,
        ids: Int[Tensor, "N"],
        vocabulary: Vocabulary,
        generator: torch.Generator,
        free: Bool[Tensor, "N"] | None = None,
    ) -> Respelling:
        at = np.arange(len(ids)) if free is None else free.nonzero()[:, 0].cpu().numpy()
        attempts = math.floor(self.share * len(at) + 1e-9)  # 0.29 of 100 are 29
        if not attempts:
            return Respelling.same(ids)
        old = ids.cpu().numpy()
        parts = _split(old[at], attempts, splits_of(vocabulary), piece_lengths(vocabulary).numpy(), generator)
        return _assembled(ids, at, parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Tokens and parts of tokens, in any order.

    Args:
        id: of each part.
        place: number of the old token, times `LONGEST`, plus the part's first byte in it.
        born: the clock when it came to be.
        tried: the clock when it is tried.
    """

    id: Int[np.ndarray, "T"]
    place: Int[np.ndarray, "T"]
    born: Float[np.ndarray, "T"]
    tried: Float[np.ndarray, "T"]

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, which: Bool[np.ndarray, "T"]) -> _Parts:
        return _Parts(self.id[which], self.place[which], self.born[which], self.tried[which])


def _split(
    ids: Int[np.ndarray, "N"],
    attempts: int,
    splits: Splits,
    lengths: Int[np.ndarray, "V"],
    generator: torch.Generator,
) -> _Parts:
    """What the tokens that were tried became.

    Every part has a clock of its own: it waits for an exponential time, is tried, and its children wait anew. Such
    clocks do not remember, so whichever part is tried next is uniform among those that stand, as in the loop over
    positions; attempt number `attempts` is the end. A clock is kept as exp(-time), which falls from 1 and is at each
    trial multiplied by a uniform number. Children are tried after their parents: whole generations are made at once,
    and the end can only come earlier than the generations so far say.
    """
    clocks = _uniform(len(ids), generator)
    end = _largest(clocks, attempts)[0]
    (token,) = (clocks >= end).nonzero()
    tried = _Parts(ids[token], token * LONGEST, np.ones(len(token)), clocks[token])
    made, clocks = [tried], tried.tried
    while len(tried):
        parts = _children(tried, splits, lengths, generator)
        made.append(parts)
        clocks = _largest(np.concatenate((clocks, parts.tried)), attempts)
        end = clocks[0]
        tried = parts[parts.tried >= end]
    found = _Parts(*map(np.concatenate, zip(*((p.id, p.place, p.born, p.tried) for p in made), strict=True)))
    return found[(found.born >= end) & (found.tried < end)]


def _children(tried: _Parts, splits: Splits, lengths: Int[np.ndarray, "V"], generator: torch.Generator) -> _Parts:
    """The two parts of each token that was tried, or the token itself where it has no pairs."""
    counts = splits.counts[tried.id]
    (whole,), (cut,) = (counts == 0).nonzero(), counts.nonzero()
    chance = 1 - _uniform(len(cut), generator)
    pair = splits.begins[tried.id[cut]] + (chance * counts[cut]).astype(np.int64)
    first, second = splits.first[pair], splits.second[pair]
    place, born = tried.place[cut], tried.tried[np.concatenate((whole, cut, cut))]
    return _Parts(
        np.concatenate((tried.id[whole], first, second)),
        np.concatenate((tried.place[whole], place, place + lengths[first])),
        born,
        born * _uniform(len(born), generator),
    )


def _assembled(ids: Int[Tensor, "N"], at: Int[np.ndarray, "F"], parts: _Parts) -> Respelling:
    """The sequence with the parts, which belong to the tokens at places `at`, in order."""
    order = np.argsort(parts.place)
    token = at[parts.place[order] // LONGEST]
    counts = np.bincount(token, minlength=len(ids))
    changed = counts > 0
    parent = np.repeat(np.arange(len(ids)), np.maximum(counts, 1))
    new = ids.cpu().numpy()[parent]
    new[changed[parent]] = parts.id[order]
    return Respelling(torch.from_numpy(new).to(ids.device), torch.from_numpy(parent).to(ids.device))


def _uniform(count: int, generator: torch.Generator) -> Float[np.ndarray, "T"]:
    """Numbers in (0, 1]."""
    return 1 - torch.rand(count, generator=generator, dtype=torch.float64).numpy()


def _largest(values: Float[np.ndarray, "T"], count: int) -> Float[np.ndarray, "K"]:
    """The `count` largest values, the smallest of them first, the others in any order."""
    return np.partition(values, len(values) - count)[len(values) - count :]

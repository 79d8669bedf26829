"""Facts hidden in prose, and questions that a small model answers rightly when it may read them all.

Every text hides one fact of each kind, so that no two are alike: among several of one kind SmolLM2-135M mixes them up.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.forced import ids, tokens
from tokenry.models.files.load import LanguageModel

KINDS = {
    "name of the ship": "marble coffee winter silver dragon thunder velvet lemon",
    "favourite animal of Anna": "tiger rabbit camel horse eagle monkey turtle spider",
    "colour of the old house": "purple orange yellow green pink brown white blue",
    "city where Peter was born": "Lisbon Vienna Oslo Dublin Madrid Cairo Boston Tokyo",
    "month of the wedding": "April June October March July August May January",
    "instrument that Clara plays": "violin piano guitar flute drum organ trumpet harp",
    "profession of Martin": "baker doctor farmer sailor lawyer painter teacher judge",
    "sport that Julia likes": "tennis soccer golf boxing hockey chess swimming rugby",
}
"""What is asked, and what it may be: words of one token."""
FACT = "\n\nThe {kind} is {word}.\n\n"
ASK, ANSWER = "\n\nQuestion: What is the {kind}?\nAnswer:", " The {kind} is"


@dataclass(frozen=True, eq=False)
class Asked:
    """One question about a text: read in one piece, then its answer is begun token by token, and a word is expected.

    Shapes:
        ask (A), begun (S), word (W)
    """

    ask: Tensor
    begun: Tensor
    word: Tensor


def hidden(language: LanguageModel, document: str, place: float, length: int) -> tuple[Tensor, list[Asked]]:
    """A part of a sample document, `length` tokens with the facts that stand in it at equal distances and in an order
    of their own, and all questions about it.
    """
    dice = random.Random(f"{document} {place}")
    words = {kind: dice.choice(among.split()) for kind, among in KINDS.items()}
    facts = [tokens(language, FACT.format(kind=k, word=words[k])) for k in dice.sample(list(words), len(words))]
    prose, room = ids(language, document), length - sum(map(len, facts))
    at = int(place * (len(prose) - room))
    cuts = [at + room * i // len(facts) for i in range(len(facts) + 1)]
    parts = [part for fact, (a, b) in zip(facts, pairwise(cuts), strict=True) for part in (prose[a:b], fact)]
    texts = ((ASK.format(kind=k), ANSWER.format(kind=k), f" {word}") for k, word in words.items())
    return torch.cat(parts), [Asked(*(tokens(language, text) for text in each)) for each in texts]

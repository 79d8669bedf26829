"""Teach a keep-or-drop head: where its labels come from, and how it learns them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokenry.compress.heads.keep_drop import KeepDrop, holder
from tokenry.compress.parts.kind import Word
from tokenry.compress.self_information import SelfInformation
from tokenry.compress.units.sentences import CLOSERS, MARKS, OPENERS, sentence_starts, words
from tokenry.core.errors import InvalidValue
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import plain

T = TypeVar("T")

STRETCH = 400
"""Words among which the better half is labelled `keep`, about as many as an encoder reads at once."""


def train(
    texts: Sequence[str],
    labels: Sequence[Sequence[bool]] | None = None,
    *,
    scorer: str | LanguageModel = "smollm2",
    encoder: str = "minilm",
    layer: int = 3,
    window: int = 512,
    epochs: int = 10,
    rate: float = 1e-3,
    batch: int = 256,
    seed: int = 0,
    progress: bool = True,
) -> KeepDrop:
    """Train a head; `head.save(folder)` makes it one that `LLMLingua2(head=folder)` reads.

    Args:
        texts: what to learn from; the head that ships has read 17,000 words.
        labels: for every text, whether each of its words stays, as `sentences.words` finds them; `by_compression`
            makes them of compressed texts. Without labels, `by_information` does.
        scorer: causal model that labels where no labels are given.
        rate: first learning rate, which falls to zero in a straight line.
        batch: pieces per step.
        seed: of the first weights and the order of the pieces; the global random state stays as it was.

    Raises:
        InvalidValue: no text, labels that do not match the words, or only one kind of label.
    """
    if not texts:
        raise InvalidValue("train: texts must hold at least one text; got none.")
    if labels is None:
        language = load(scorer) if isinstance(scorer, str) else scorer
        labels = [by_information(text, language) for text in _bar(texts, "label", progress)]
    if len(labels) != len(texts):
        raise InvalidValue(f"train: labels must be given for all {len(texts)} texts; got {len(labels)}.")
    head = KeepDrop(encoder=encoder, layer=layer, window=window)
    read = [_examples(head, t, keep) for t, keep in _bar(list(zip(texts, labels, strict=True)), "read", progress)]
    states, keep = torch.cat([s for s, _ in read]), torch.cat([k for _, k in read])
    if len(keep.unique()) < 2:
        raise InvalidValue(f"train: labels must hold words that stay and words that go; got {len(keep)} of one kind.")
    generator = torch.Generator().manual_seed(seed)
    head.build(width=states.shape[1], generator=generator)
    with torch.enable_grad():
        _fit(head, states, keep, _bar(range(epochs), "train", progress), epochs, rate, batch, generator)
    return head


def by_information(text: str, scorer: LanguageModel) -> list[bool]:
    """Label each word of a text: the half with the most self-information in every `STRETCH` words stays."""
    ranking = SelfInformation(units=Word()).rank(plain(scorer.tokenizer, [Document(text)]), model=scorer)
    heads = [start for start, _ in ranking.documents[0].words.bounds]
    unit = torch.from_numpy(holder(heads, [start for start, _ in words(text)]))
    return better_half(ranking.scores[0])[unit].tolist()


def better_half(scores: Float[Tensor, "U"]) -> Bool[Tensor, "U"]:
    """The half with the highest scores of every `STRETCH` units; the first of equal ones, and one more than a half."""
    ranks = [part.argsort(descending=True, stable=True).argsort() for part in scores.split(STRETCH)]
    return torch.cat([rank < (len(rank) + 1) // 2 for rank in ranks])


def by_compression(text: str, compressed: str) -> list[bool]:
    """Label each word of a text by whether it was kept in a compression made of its words, as by a large model.

    Case and punctuation around words do not matter. Words that the compression has and the text has not are ignored.
    """
    theirs = [_bare(word) for word in compressed.split()]
    mine = [_bare(text[start:end]) for start, end in words(text)]
    keep = [False] * len(mine)
    for block in SequenceMatcher(None, mine, theirs, autojunk=False).get_matching_blocks():
        keep[block.a : block.a + block.size] = [True] * block.size
    return keep


def _examples(head: KeepDrop, text: str, keep: Sequence[bool]) -> tuple[Float[Tensor, "S E"], Int[Tensor, "S"]]:
    """States of the pieces of a text with the labels of their words."""
    found = words(text)
    if len(found) != len(keep):
        raise InvalidValue(f"train: labels must be one for each word; got {len(keep)} for {len(found)} of `words`.")
    heads = [start for start, _ in found]
    begins = [start for start, first in zip(heads, sentence_starts(text, found), strict=True) if first]
    states, at = head.read(text, begins)
    return states, torch.tensor(keep, dtype=torch.long)[torch.from_numpy(holder(heads, at))]


def _fit(
    head: KeepDrop,
    states: Float[Tensor, "S E"],
    keep: Int[Tensor, "S"],
    epochs: Iterable[int],
    count: int,
    rate: float,
    batch: int,
    generator: torch.Generator,
) -> None:
    mean, scale = states.mean(0), states.std(0).clamp_min(1e-6)
    states = (states - mean) / scale
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.01)
    steps = count * -(-len(states) // batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    for _ in epochs:
        for rows in torch.randperm(len(states), generator=generator).split(batch):
            optimizer.zero_grad()
            cross_entropy(head.head(states[rows]), keep[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        # The head reads plain states: scale and mean go into its weights.
        head.head.weight /= scale
        head.head.bias.sub_(head.head.weight @ mean)


def _bare(word: str) -> str:
    return word.strip(OPENERS + CLOSERS + MARKS + ",;:-—–").lower()


def _bar(items: Sequence[T], what: str, shown: bool) -> Iterable[T]:
    return track(items, what, disable=not shown)

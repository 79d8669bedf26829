"""A row as a document: its text, and its tokens grouped into words and sentences."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tokenry.compress.kept.text import Reading, read
from tokenry.compress.parts.kind import Kind, Sentence, Token, Word
from tokenry.compress.units.cut import Cut
from tokenry.compress.units.page import Page, Units
from tokenry.compress.units.sentences import sentence_starts, words
from tokenry.core.errors import Incompatible
from tokenry.core.tokens import TokenBatch

LONGEST = 120
"""A sentence of more tokens is cut: at a line break, else after a clause, else between words."""

_CLAUSE = tuple(",;:—–)，；：、")


@dataclass(frozen=True, kw_only=True, eq=False)
class Document(Page):
    """The tokens of one row that come from texts which may be compressed.

    Protected tokens inside such a text are part of it, so that they count as context, but are not free.

    Args:
        text: what these tokens say.
        columns: their columns in the batch.
        ids: their vocabulary ids, where the batch has ids.
        free: True for tokens that may be dropped; the budget counts these.
        starts: first character of each token in `text`.
        ends: the character after each token.
        tokens: every token by itself.
        words: tokens grouped by words.
        sentences: words grouped by sentences.
        unit: how it is cut: the three groupings are those of tokens, any other kind cuts the text.
        stretch: the number of the stretch of one source that each token belongs to.
    """

    text: str
    columns: Int[Tensor, "T"]
    ids: Int[Tensor, "T"] | None
    free: Bool[np.ndarray, "T"]
    starts: Int[np.ndarray, "T"]
    ends: Int[np.ndarray, "T"]
    tokens: Units
    words: Units
    sentences: Units
    unit: Kind
    stretch: Int[np.ndarray, "T"]

    @cached_property
    def units(self) -> Units:
        """What is scored."""
        groups = {Token: self.tokens, Word: self.words, Sentence: self.sentences}
        found = groups.get(type(self.unit))
        return super().units if found is None else found

    @property
    def texts(self) -> list[str]:
        if type(self.unit) in (Token, Word, Sentence):
            return super().texts
        return self.cut.shown(self.text)

    @cached_property
    def cut(self) -> Cut:  # type: ignore[override]
        """The units of each stretch of a source, as a kind that reads a format finds them."""
        firsts = np.flatnonzero(np.diff(self.stretch, prepend=-1)).tolist()
        edges = [*(int(self.starts[t]) for t in firsts), len(self.text)]
        edges[:1] = [0]
        return Cut.joined([(a, self.unit.cut(self.text[a:b])) for a, b in pairwise(edges)])


def documents(batch: TokenBatch, unit: Kind, who: str) -> list[Document]:
    """Every row of a batch as a document.

    Raises:
        Incompatible: a token that is neither protected nor from a text.
    """
    spans, mask, protected = batch.spans().cpu(), batch.mask.cpu(), batch.protected.cpu()
    ids = None if batch.ids is None else batch.ids.cpu()
    sources = batch.origin.sources
    texts = torch.tensor([isinstance(s.data, str) for s in sources] + [False])
    source = torch.where(spans[..., 0] == spans[..., 1], spans[..., 0], -1)
    open_ = mask & ~protected
    strange = open_ & ~texts[source]
    if bool(strange.any()):
        row = int(strange.any(1).nonzero()[0])
        raise Incompatible(
            f"{who}: every token that may be dropped must come from a text; got {int(strange[row].sum())} in row {row} "
            f"that do not; encode the text with its sources, or mark these tokens as protected."
        )
    found = []
    for row in range(batch.shape[0]):
        mine = mask[row] & torch.isin(source[row], source[row][open_[row]])
        columns = mine.nonzero()[:, 0]
        reading = read(sources, spans[row, columns])
        tokens, by_word, by_sentence = partition(reading)
        found.append(
            Document(
                text=reading.text,
                columns=columns,
                ids=None if ids is None else ids[row, columns],
                free=open_[row, columns].numpy(),
                starts=reading.starts,
                ends=reading.ends,
                tokens=tokens,
                words=by_word,
                sentences=by_sentence,
                unit=unit,
                stretch=reading.stretch,
            )
        )
    return found


def partition(reading: Reading) -> tuple[Units, Units, Units]:
    """Group the tokens of a text by themselves, by words and by sentences; each grouping refines the next.

    A token that reaches into the next word joins the two. White space belongs to the word before a line break and
    to the word after anything else, as most tokenizers have it. Every stretch of a source begins a sentence.
    """
    text, t = reading.text, len(reading.starts)
    if not t:
        nothing = Units(np.zeros(0, dtype=np.int64), ())
        return nothing, nothing, nothing
    found = words(text)
    heads = _heads(text, found)
    sentence = np.cumsum(sentence_starts(text, found) or [True])
    visible = [_visible(text, a, b) for a, b in zip(reading.starts.tolist(), reading.ends.tolist(), strict=True)]
    low = np.maximum.accumulate([bisect_right(heads, a) - 1 for a, _ in visible])
    high = np.maximum(low, [bisect_right(heads, b) - 1 for _, b in visible])
    glued = np.zeros(len(heads), dtype=np.int64)
    for a, b in np.stack((low, high), 1)[high > low].tolist():
        glued[a + 1 : b + 1] = 1
    word = (np.arange(len(heads)) - np.cumsum(glued))[low]
    opens = np.diff(word, prepend=-1) > 0
    opens |= np.diff(reading.stretch, prepend=-1) > 0
    of_word = np.cumsum(opens) - 1
    first = np.flatnonzero(opens)
    turns = np.diff(sentence[low[first]], prepend=0) > 0
    turns |= np.diff(reading.stretch[first], prepend=-1) > 0
    by_word = _units(reading, of_word)
    turns |= _cuts(text, by_word, np.cumsum(turns))
    by_sentence = _units(reading, (np.cumsum(turns) - 1)[of_word])
    return _units(reading, np.arange(t)), by_word, by_sentence


def _heads(text: str, found: list[tuple[int, int]]) -> list[int]:
    """Where each word begins once white space belongs to a word; the first also takes what stands before it."""
    heads, end = [], 0
    for start, stop in found:
        heads.append(text.rfind("\n", end, start) + 1 or end)
        end = stop
    return [0, *heads[1:]]


def _visible(text: str, start: int, end: int) -> tuple[int, int]:
    """First and last visible character of a token; its first character twice where there is none."""
    piece = text[start:end]
    if not piece or piece.isspace():
        return start, start
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()) - 1


def _units(reading: Reading, of: Int[np.ndarray, "T"]) -> Units:
    first = np.flatnonzero(np.diff(of, prepend=-1))
    starts = reading.starts[first]
    ends = np.maximum(starts, np.maximum.reduceat(reading.ends, first))
    bounds = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        piece = reading.text[start:end]
        lead = len(piece) - len(piece.lstrip())
        bounds.append((start + lead, max(start + lead, start + len(piece.rstrip()))))
    return Units(of, tuple(bounds))


def _cuts(text: str, by_word: Units, sentence: Int[np.ndarray, "W"]) -> Bool[np.ndarray, "W"]:
    """Words before which a sentence that is too long is cut, so that no piece has more than `LONGEST` tokens."""
    cut = np.zeros(len(by_word), dtype=bool)
    size = np.bincount(by_word.of)
    for s in np.flatnonzero(np.bincount(sentence, weights=size) > LONGEST).tolist():
        inside = list(range(*np.searchsorted(sentence, (s, s + 1)).tolist()))
        low, count = 0, 0
        best: dict[str, int] = {}
        for i, w in enumerate(inside):
            while i > low and count + size[w] > LONGEST:
                at = best.get("line") or best.get("clause") or i
                cut[inside[at]] = True
                low, count, best = at, int(size[inside[at:i]].sum()), {k: v for k, v in best.items() if v > at}
            count += int(size[w])
            if i + 1 < len(inside):
                end, following = by_word.bounds[w][1], by_word.bounds[inside[i + 1]][0]
                if "\n" in text[end:following]:
                    best["line"] = i + 1
                elif text[end - 1 : end] in _CLAUSE:
                    best["clause"] = i + 1
    return cut

"""An online learner of chunks: remember what stands side by side, forget what makes readings no shorter."""

from __future__ import annotations

import random
import re
from collections import Counter, deque
from dataclasses import dataclass, field

from tokenry.core.errors import InvalidValue
from tokenry.segment.lexicon.chunks import Chunks

SENTENCE = re.compile(r"[^\n]{0,400}?(?:[.!?]\s+|\n+|$)|[^\n]{400}")
"""What is read at once; no chunk reaches over two of them."""

MOST = 48
"""Steps after which two readings that have not met are equal; so a text takes time that grows with its length."""

RECENT = 2_000_000
"""Characters of the text read last, by which the lexicon is cleaned in the end."""


@dataclass(slots=True)
class Trial:
    """A chunk on probation.

    Args:
        life: comparisons it may still lose.
        sides: the chunk that was seen on each side, empty before the first; None where there were several.
    """

    life: int
    sides: list[str | None] = field(default_factory=lambda: ["", ""])


@dataclass(slots=True)
class Learner:
    """Reads text and keeps a lexicon of chunks, each with a rank of which 0 is the best.

    Args:
        remember: probability that two chunks side by side become one more chunk.
        forget: share of the last ranks that is put on probation with every sentence.
        shift: share of its rank by which a chunk moves when it wins or loses.
        life: comparisons that a chunk on probation may lose.
        article: sentences after which chunks on probation are judged by what stands beside them.
        longest: characters of a chunk.
        seed: of what is remembered.
    """

    remember: float = 0.25
    forget: float = 1e-4
    shift: float = 0.2
    life: int = 10
    article: int = 200
    longest: int = 32
    seed: int = 0
    rank: dict[str, float] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)
    _trials: dict[str, Trial] = field(default_factory=dict)
    _chunks: Chunks = field(default_factory=Chunks)
    _random: random.Random = field(init=False)
    _recent: deque[str] = field(default_factory=deque)
    _held: int = 0
    _read: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.remember <= 1 and 0 <= self.forget <= 1 and 0 <= self.shift <= 1):
            raise InvalidValue(
                f"less_is_better: remember, forget and shift must be in [0, 1]; got {self.remember}, {self.forget} and "
                f"{self.shift}."
            )
        if min(self.life, self.article, self.longest) < 1:
            raise InvalidValue(
                f"less_is_better: life, article and longest must be at least 1; got {self.life}, {self.article} and "
                f"{self.longest}."
            )
        self._random = random.Random(self.seed)

    def read(self, text: str) -> None:
        """Learn from a text, sentence by sentence."""
        for found in SENTENCE.finditer(text):
            if found[0]:
                self._sentence(found[0])
                self._keep(found[0])
                self._read += 1
                if self._read % self.article == 0:
                    self._judge()

    def known(self, size: int) -> list[str]:
        """Chunks in the order of their ranks: of those that the text read last is cut into, the most useful ones.

        A chunk saves as many tokens as it has parts more than one, each time it is chosen. Of more chunks than asked
        for the least useful fifth goes, and what is left is counted anew.

        Args:
            size: how many there may be.
        """
        found = list(self.rank)
        while True:
            known = Chunks((chunk, i) for i, chunk in enumerate(found))
            counts = [0] * len(found)
            for sentence in self._recent:
                for value in known.greedy(sentence):
                    if value >= 0:
                        counts[value] += 1
            worth = {
                c: n * (known.parts(c) - 1 if len(c) > 1 else size) for c, n in zip(found, counts, strict=True) if n
            }
            if len(worth) <= size:
                return sorted(worth, key=lambda c: (self.rank[c], c))
            keep = max(size, int(0.8 * len(worth)))
            found = sorted(worth, key=lambda c: (-worth[c], c))[:keep]

    def _keep(self, sentence: str) -> None:
        """Remember the text that was read last."""
        self._recent.append(sentence)
        self._held += len(sentence)
        while self._held > RECENT:
            self._held -= len(self._recent.popleft())

    def _sentence(self, text: str) -> None:
        at, before = 0, ""
        while at < len(text):
            first, second = self._chunks.two(text, at)
            if not first:
                self._remember(text[at])
                first = 1
            size = self._compare(text, at, first, second) if second else first
            chunk = text[at : at + size]
            self.uses[chunk] += 1
            if before:
                self._beside(before, 1, chunk)
                self._beside(chunk, 0, before)
                if len(before) + size <= self.longest and self._random.random() < self.remember:
                    self._remember(before + chunk)
            at, before = at + size, chunk

    def _compare(self, text: str, at: int, first: int, second: int) -> int:
        """The length of the chunk that the shorter reading begins with; it moves up, the other one down."""
        one, other = text[at : at + first], text[at : at + second]
        ends, counts, sums = [at + first, at + second], [1, 1], [self.rank[one], self.rank[other]]
        for _ in range(MOST):
            if ends[0] == ends[1]:
                break
            behind = 0 if ends[0] < ends[1] else 1
            begin = ends[behind]
            end = max(self._chunks.longest(text, begin)[0], begin + 1)
            ends[behind] = end
            counts[behind] += 1
            sums[behind] += self.rank.get(text[begin:end], len(self.rank))
        if ends[0] != ends[1]:
            return first
        won, lost = (one, other) if (counts[0], sums[0]) <= (counts[1], sums[1]) else (other, one)
        self.rank[won] = max(0.0, self.rank[won] - int(self.rank[won] * self.shift) - 1)
        self.rank[lost] = min(len(self.rank), self.rank[lost] + int(self.rank[lost] * self.shift) + 1)
        trial = self._trials.get(lost)
        if trial is not None:
            trial.life -= 1
            if trial.life < 1 and len(lost) > 1:
                self._drop(lost)
        return len(won)

    def _remember(self, chunk: str) -> None:
        """Enter a new chunk at the tail, on probation unless it is one character."""
        if chunk not in self.rank:
            self.rank[chunk] = len(self.rank)
            self._chunks.add(chunk)
            if len(chunk) > 1:
                self._trials[chunk] = Trial(self.life)

    def _beside(self, chunk: str, side: int, other: str) -> None:
        trial = self._trials.get(chunk)
        if trial is not None and trial.sides[side] != other:
            trial.sides[side] = other if trial.sides[side] == "" else None

    def _judge(self) -> None:
        """Drop chunks beside which always the same stands, let go those that proved themselves, and doubt the tail."""
        for chunk, trial in list(self._trials.items()):
            if self.uses[chunk] >= 2 and None in trial.sides:
                if trial.sides == [None, None]:
                    del self._trials[chunk]
                elif self.uses[chunk] >= self.life:
                    self._drop(chunk)
            elif self.uses[chunk] >= 2:
                self._drop(chunk)
            else:
                trial.life -= 1
                if trial.life < 1:
                    self._drop(chunk)
        count = round(self.forget * self.article * len(self.rank))
        if count:
            for chunk in sorted(self.rank, key=lambda c: (-self.rank[c], c))[:count]:
                if len(chunk) > 1:
                    self._trials.setdefault(chunk, Trial(self.life))

    def _drop(self, chunk: str) -> None:
        self._chunks.remove(chunk)
        del self.rank[chunk], self._trials[chunk], self.uses[chunk]

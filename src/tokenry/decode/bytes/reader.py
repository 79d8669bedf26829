"""The next byte by a model of tokens: a sum over all tokens that may cover the end of what was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from tokenry.core.errors import InvalidValue
from tokenry.decode.bytes.spelling import Ids, Spelling, text_of, unfinished
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.session import Session
from tokenry.models.text.begin import begin_mark
from tokenry.models.text.end import end_ids

END = 256
"""The symbol behind the bytes: the end of the text."""

ROOM = 64
"""Beginnings whose next tokens are remembered."""


class Cover(NamedTuple):
    """Sequences that differ in the last id alone, and whose text begins with what was read.

    Args:
        before: the ids that spell less than what was read, or just that.
        rest: bytes of what was read that are left for the last id, which spells more than that.
        ids: the last ids; where nothing is left, any next id.
        logs: log-probability of each whole sequence, given what stands before all of them.
    """

    before: Ids
    rest: bytes
    ids: Int[np.ndarray, "C"]
    logs: Float[np.ndarray, "C"]


@dataclass(eq=False)
class ByteReader:
    """A model of tokens that reads and predicts bytes.

    With `cover(x)` the valid sequences of tokens whose text begins with x, and would not without their last token:
    P(x) = sum over s in cover(x) of P(s), and P(c | x) = P(xc) / P(x).

    Args:
        language: the model.
        spelling: how its tokenizer spells.
        exact: ids that no tokenizer would write get no probability at any step; without, they are only left out where
            they cover the end, and the next byte is made to sum to one.
        marks: ids before the text; by itself the mark for a beginning, where the model has one.
        reach: bytes at the end of what was read that one token may cover; by itself as many as the longest piece has.
    """

    language: LanguageModel
    spelling: Spelling
    exact: bool = False
    marks: Ids | None = None
    reach: int | None = None
    read: bytes = b""
    _rows: dict[Ids, Float[np.ndarray, "V"]] = field(default_factory=dict)
    _base: Ids = ()
    _settled: tuple[Ids, int] = ((), 0)
    _session: Session | None = None

    def __post_init__(self) -> None:
        if self.marks is None:
            begin = begin_mark(self.language)
            self.marks = () if begin is None else (begin,)
        if not self.marks:
            raise InvalidValue("bytes: the model must have a mark to stand before a text; it has none; give marks.")

    @classmethod
    def of(cls, language: LanguageModel, text: bytes = b"", *, exact: bool = False) -> ByteReader:
        """A model that has read some text.

        Raises:
            UnsupportedModel: a tokenizer that is not a fast one, or does not spell text exactly.
        """
        return cls(language, Spelling.of(language.tokenizer), exact).push(text)

    def push(self, text: bytes) -> ByteReader:
        """Read on."""
        self.read += text
        return self

    def covers(self) -> Iterator[Cover]:
        """All covers of what was read."""
        befores = list(self._befores())
        if not befores:
            raise InvalidValue(f"bytes: the vocabulary must spell what was read; it cannot; got {self.read[-40:]!r}.")
        self._settle([before for before, _ in befores])
        for before, rest in befores:
            row, log = self._row(before), self.log(before)
            if not rest:
                ids = self.spelling.text_ids
                ids = ids[np.isfinite(row[ids])]
            else:
                # A piece that ends with what was read is no longer cover: it ends the sequence without a rest.
                ids = self.spelling.starting_with(rest)
                ids = ids[[len(self.spelling.vocabulary[i] or b"") > len(rest) for i in ids.tolist()]]
                ids = ids[self.spelling.follows(before, ids)] if len(ids) else ids
            if len(ids):
                yield Cover(before, rest, ids, log + row[ids])

    def next(self) -> Float[np.ndarray, "257"]:
        """Log-probability of each next byte and of the end of the text."""
        parts: list[list[Float[np.ndarray, "C"]]] = [[] for _ in range(END + 1)]
        pieces = self.spelling.vocabulary
        for cover in self.covers():
            size = len(cover.rest)
            first = np.array([(pieces[i] or b"")[size] for i in cover.ids.tolist()], dtype=np.int64)
            for byte in np.unique(first):
                parts[byte].append(cover.logs[first == byte])
            if not size:
                parts[END].append(self.log(cover.before) + self._row(cover.before)[self._ends])
        found = np.array([_log_sum(np.concatenate(p)) if p else -np.inf for p in parts])
        return found - _log_sum(found)

    def score(self, text: bytes) -> Float[np.ndarray, "n"]:
        """Log-probability of each byte of what comes next, in nats; it is read."""
        found = []
        for byte in text:
            found.append(self.next()[byte])
            self.push(bytes([byte]))
        return np.array(found)

    @cached_property
    def _ends(self) -> list[int]:
        """All ids that end a text."""
        return end_ids(self.language)

    @torch.no_grad()
    def after(self, ids: Ids) -> Session:
        """The model behind one of the sequences."""
        assert self._session is not None
        session = self._session.repeat(1)
        if rest := ids[len(self._base) :]:
            session.read(torch.tensor([rest], device=self.language.device))
        return session

    def _befores(self) -> Iterator[tuple[Ids, bytes]]:
        """Valid sequences of a beginning of what was read, with what is left of it for one more id."""
        size = len(self.read)
        seen: dict[int, list[Ids]] = {}
        if not self._settled[1]:
            self._settle_text(self.read[: max(0, size - self.spelling.longest)])
        reach = min(self.spelling.longest - 1, size if self.reach is None else self.reach)
        for cut in range(size, max(-1, size - reach - 1), -1):
            rest = self.read[cut:]
            if rest and not len(self.spelling.starting_with(rest)):
                continue
            for before in self._spelled(cut, seen):
                yield before, rest

    def _spelled(self, end: int, seen: dict[int, list[Ids]]) -> list[Ids]:
        """The valid sequences of what was read up to a byte: one, but inside a character perhaps several."""
        if end in seen:
            return seen[end]
        settled, at = self._settled if self._settled[1] <= end else ((), 0)
        if text_of(self.read[at:end]) is not None:
            ids = self.spelling.ids(self.read[at:end], settled)
            found = [] if ids is None else [ids]
        else:
            found = []
            for start in range(end - 1, max(-1, end - 1 - self.spelling.longest), -1):
                piece = self.read[start:end]
                last = np.array([i for i in self.spelling.starting_with(piece) if self.spelling.vocabulary[i] == piece])
                for before in self._spelled(start, seen) if len(last) else []:
                    found += [(*before, int(i)) for i in last[self.spelling.follows(before, last)]]
        seen[end] = found
        return found

    def log(self, ids: Ids) -> float:
        """Log-probability of a sequence, given the ids that all of them begin with."""
        return sum(float(self._row(ids[:n])[ids[n]]) for n in range(len(self._base), len(ids)))

    def _row(self, ids: Ids) -> Float[np.ndarray, "V"]:
        """Log-probability of each next id."""
        if ids not in self._rows:
            self._read([ids])
        return self._rows[ids]

    def _settle(self, befores: list[Ids]) -> None:
        """Keep what all sequences begin with in the model's cache, and read the ends of all of them in one pass."""
        shared = _common(befores)
        if self._session is None or shared[: len(self._base)] != self._base:
            self._session, self._base, self._settled, self._rows = None, (), ((), 0), {}
        if self._session is None:
            self._open(shared)
        elif len(shared) > len(self._base):
            self._go_on(shared)
        while len(self._rows) > ROOM:
            del self._rows[next(iter(self._rows))]
        self._read([ids for ids in befores if ids not in self._rows])
        self._settle_ids(self._base)

    def _settle_text(self, text: bytes) -> None:
        """Spell a long text once, so that only its end is spelled again and again."""
        ids = self.spelling.ids(text[: len(text) - unfinished(text)])
        if ids is not None:
            self._settle_ids(ids)

    def _settle_ids(self, ids: Ids) -> None:
        settled = ids[: len(ids) - len(self.spelling.open(ids))]
        self._settled = settled, len(self.spelling.vocabulary.spell(settled))

    @torch.no_grad()
    def _open(self, ids: Ids) -> None:
        given = torch.tensor([[*(self.marks or ()), *ids]], device=self.language.device)
        self._session = Session.open(self.language.model, given)
        self._base = ids
        self._remember(ids, self._session.logits[0, -1])

    @torch.no_grad()
    def _go_on(self, ids: Ids) -> None:
        assert self._session is not None
        logits = self._session.read(torch.tensor([ids[len(self._base) :]], device=self.language.device))
        self._session.settle()
        self._base = ids
        self._remember(ids, logits[0, -1])

    @torch.no_grad()
    def _read(self, wanted: list[Ids]) -> None:
        """The next ids behind some sequences and behind all their beginnings, in one pass."""
        ends = sorted({ids[len(self._base) :] for ids in wanted if len(ids) > len(self._base)}, key=len)
        ends = [e for n, e in enumerate(ends) if not any(o[: len(e)] == e for o in ends[n + 1 :])]
        if not ends:
            return
        assert self._session is not None
        width = max(map(len, ends))
        given = torch.tensor([[*e, *[e[-1]] * (width - len(e))] for e in ends], device=self.language.device)
        logits = self._session.repeat(len(ends)).read(given)
        for row, end in enumerate(ends):
            for n in range(len(end)):
                self._remember((*self._base, *end[: n + 1]), logits[row, n])

    def _remember(self, ids: Ids, logits: torch.Tensor) -> None:
        row = logits.double().cpu().numpy()
        if self.exact:
            keeps = self._may_follow(ids, len(row))
            row = np.where(keeps, row, -np.inf)
        self._rows[ids] = row - _log_sum(row)

    def _may_follow(self, ids: Ids, size: int) -> Bool[np.ndarray, "V"]:
        keeps = np.zeros(size, dtype=bool)
        known = self.spelling.may_follow(ids)
        keeps[: len(known)] = known
        keeps[self._ends] = True
        return keeps


def _common(sequences: list[Ids]) -> Ids:
    """What all begin with."""
    low, high = min(sequences), max(sequences)
    size = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:size]


def _log_sum(logs: Float[np.ndarray, "C"]) -> float:
    top = float(logs.max(initial=-np.inf))
    return top if not np.isfinite(top) else top + float(np.log(np.exp(logs - top).sum()))

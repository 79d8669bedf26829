"""A text, shortened: kind, units, scores, choice, and the text with its marks; no torch where scores need none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int

from tokenry.compress.kept.choose import Choice, in_turn
from tokenry.compress.kept.writing import Piece, broken, pieces, written
from tokenry.compress.parts.folded import Folded
from tokenry.compress.parts.kind import Kind, Word
from tokenry.compress.units.cut import Cut
from tokenry.compress.units.keepsakes import keepsakes
from tokenry.compress.units.page import Page, TextPage
from tokenry.core.errors import InvalidValue
from tokenry.models.text.counting import Counter

if TYPE_CHECKING:
    from tokenry.compress.base import Compressor
    from tokenry.models.files.load import LanguageModel

BETWEEN = "\n\n"
"""What sets documents apart."""
ROUNDS = 12
"""Times a text is counted again to come nearer to its budget."""
_NEAR = 0.002
"""Share of a budget that is not worth another round."""
_THRIFT = 4.0
"""How many times as many tokens as there are left a round may seem to take."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """What is left of a text.

    Args:
        text: what a model is to read.
        tokens_in: of the whole text, and `tokens_out` of what is left, by the counted vocabulary.
        pieces: slices of the source and marks, in order; the source is the folded text where it was folded.
        notes: what a reader should know, such as that nothing matched the question.
    """

    text: str
    tokens_in: int
    tokens_out: int
    pieces: tuple[Piece, ...]
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[tuple[int, int], ...]:
        """Characters of the source that are missing, from and to."""
        return tuple((p.start, p.end) for p in self.pieces if p.mark and p.end > p.start)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """What notebooks show: the text, with marks set apart."""
        shown = "".join(f"<mark>{escape(p.text)}</mark>" if p.mark else escape(p.text) for p in self.pieces)
        return f"<p>{self.tokens_in:,} → {self.tokens_out:,} tokens</p><pre>{shown}</pre>"


def shorten(
    method: Compressor,
    text: str | Sequence[str],
    tokenizer: Any,
    query: str | None = None,
    *,
    model: LanguageModel | None = None,
    protect: Sequence[tuple[int, int]] = (),
    key: str | None = None,
) -> Compressed:
    """See `Compressor.shorten`.

    Args:
        text: one, or several documents, which share the budget and are set apart by a blank line.
        protect: characters from and to that stay, in the text as a whole.
        key: under which the original is kept, for the marks.

    Raises:
        InvalidValue: no question where one is needed, or a budget that cannot hold what is protected or forced.
    """
    method.check_query(query)
    counter = Counter.of(tokenizer)
    texts = [text] if isinstance(text, str) else list(text)
    whole = counter(BETWEEN.join(texts))
    # What is protected stays byte for byte, so a text that holds some of it is not folded.
    texts = texts if protect else [method.spelled(t, counter) for t in texts]
    text = BETWEEN.join(texts)
    size = counter(text)
    everything = Compressed(text, whole, size, (Piece(text, 0, len(text)),))
    if method.budget.count(whole) >= size:
        return everything
    starts = accumulate((len(t) + len(BETWEEN) for t in texts), initial=0)
    folded = Folded()
    kinds = [folded if folded.is_one(t) else method.units for t in texts]
    cut = Cut.joined([(at, kind.cut(t)) for at, kind, t in zip(starts, kinds, texts, strict=False)])
    if method.guard and isinstance(method.units, Word):
        cut = _guarded(text, cut)
    page = TextPage(text, cut)
    scores = method.scores(page, query, model)
    worth = np.ones(len(cut), dtype=bool) if method.fill else method.worth(scores)
    notes = () if worth.any() or not len(cut) else ("nothing in the text matches the question",)
    guarded = _protected(cut, protect)
    spent = counter(written(pieces(text, cut, guarded, key))) if protect else 0
    count = spent + method.budget.count(max(1, whole - spent))
    must = guarded | _forced(method, page)
    if count >= size:
        return everything
    fitted = _Fitted(text, cut, counter, count, key)
    if fitted.keep(must) > count:
        raise InvalidValue(
            f"{method.name()}: budget must hold what force={'+'.join(method.force)} keeps; got {method.budget}, "
            f"which is {count} of {whole} tokens; raise the budget or force less."
        )
    for order, most in in_turn(cut, scores, cut.strong & method.guard, worth, count):
        fitted.take(order, most)
    left, rest = fitted.settle(must)
    return everything if rest >= size else Compressed(written(left), whole, rest, tuple(left), notes)


class _Fitted:
    """A choice that is counted as it is written until it is as long as its budget and no longer."""

    def __init__(self, text: str, cut: Cut, counter: Counter, count: int, key: str | None) -> None:
        self.text, self.cut, self.counter, self.count, self.key = text, cut, counter, count, key
        sizes = counter.counts(cut.texts(text))
        closed = np.flatnonzero(cut.tail[:, 1] > cut.tail[:, 0])
        sizes[closed] += counter.counts([text[a:b] for a, b in cut.tail[closed].tolist()])
        nothing = pieces(text, cut, np.zeros(len(cut), dtype=bool), key)
        frame = counter.counts([p.text for p in nothing if not p.mark]).sum()
        first, other = (
            counter.counts([p.text for p in written_so if p.mark]).max(initial=0)
            for written_so in (nothing, pieces(text, cut, np.zeros(len(cut), dtype=bool), key, opens=False))
        )
        self.choice = Choice.begin(cut, sizes, int(other), int(frame + first - other))
        self.order: list[int] = []
        self.passed: list[int] = []

    def take(self, order: Int[np.ndarray, "X"], count: int) -> None:
        """Keep units down a ranking as long as they seem to fit into so many tokens."""
        added = self.choice.take(order, count)
        self.order += added
        self.passed += order[~self.choice.kept[order]].tolist()

    def keep(self, units: Bool[np.ndarray, "U"]) -> int:
        """Keep units whatever they take; the tokens of the text that they make."""
        self.choice.take(np.flatnonzero(units), 1 << 62)
        if units.any():
            self.choice.total = self._written()[1]
        return self.choice.total if units.any() else 0

    def settle(self, must: Bool[np.ndarray, "U"]) -> tuple[list[Piece], int]:
        """What is left, as near to the budget as whole units come from below, and its tokens."""
        self.choice.bridge()
        best: tuple[list[Piece], int] | None = None
        before, over, careful = 0, 0, False
        for _ in range(ROUNDS):
            left, size = self._written()
            if size > self.count:
                # A mark may take as much as what it stands for, so each time in vain twice as much goes.
                self.choice.drop(self.order, (size - self.count) << over, ~must)
                over += 1
                continue
            if best is None or size > best[1]:
                best = left, size
            elif careful:
                break
            else:
                careful = True
            room = self.count - size
            if room < _NEAR * self.count:
                break
            # Units take less than it seems where gaps close between them, so more of them fit.
            seemed = (self.choice.total - before) / max(1, size - before)
            thrift = 1.0 if careful else min(_THRIFT, max(1.0, seemed))
            self.choice.total = before = size
            added = self.choice.take(np.array(self.passed, dtype=np.int64), size + int(thrift * room))
            self.order += added
            if not added:
                break
        return best or self._shrunk(must)

    def _written(self) -> tuple[list[Piece], int]:
        left = _sound(self.text, self.cut, self.choice.kept, self.key)
        return left, self.counter(written(left))

    def _shrunk(self, must: Bool[np.ndarray, "U"]) -> tuple[list[Piece], int]:
        """More and more units given up until the text fits; at last a mark alone, or nothing at all."""
        more = 1
        while self.order:
            self.choice.drop(self.order, more, ~must)
            left, size = self._written()
            if size <= self.count:
                return left, size
            more *= 2
        end = len(self.text)
        named = () if self.key is None else (f"[all left out, id {self.key}]",)
        for said in (*named, "[all left out]", "[…]", "…"):
            size = self.counter(said)
            if size <= self.count:
                return [Piece(said, 0, end, mark=True)], size
        return [Piece("", 0, end, mark=True)], 0


def _guarded(text: str, cut: Cut) -> Cut:
    """Words that need the numbers and negations of their sentence, without which they would say something else."""
    page = TextPage(text, cut)
    held = np.flatnonzero(keepsakes(page, ("numbers", "negations")))
    sentence, unit = page.sentences.of[page.words.first], page.units.of[page.words.first]
    guards: dict[int, list[int]] = {}
    for s, u in zip(sentence[held].tolist(), unit[held].tolist(), strict=True):
        guards.setdefault(s, []).append(u)
    # All need the first, which needs the others, so that a word has little to look at.
    needs = {u: (guards[s][0],) for s, u in zip(sentence.tolist(), unit.tolist(), strict=True) if s in guards}
    return replace(cut, needs={**cut.needs, **needs, **{g[0]: tuple(g[1:]) for g in guards.values()}})


def _protected(cut: Cut, protect: Sequence[tuple[int, int]]) -> Bool[np.ndarray, "U"]:
    """Units that hold something protected, with those they stand under."""
    found = np.zeros(len(cut), dtype=bool)
    for low, high in protect:
        found |= (cut.start < high) & (cut.end > low)
    return cut.with_parents(found)


def _forced(method: Compressor, page: Page) -> Bool[np.ndarray, "U"]:
    """Units of forced words, with those they stand under."""
    found = np.zeros(len(page.cut), dtype=bool)
    if method.force and len(page.words):
        found[page.units.of[page.words.first[keepsakes(page, method.force)]]] = True
    return page.cut.with_parents(found)


def _sound(text: str, cut: Cut, kept: Bool[np.ndarray, "U"], key: str | None) -> list[Piece]:
    """What is left, where each part that parsed before still does; one that does not stays as it was."""
    left = pieces(text, cut, kept, key)
    if all(type(kind).valid is Kind.valid for kind in cut.kinds):
        return left
    torn = list(broken(text, cut, left))
    if not torn:
        return left
    return pieces(text, cut, kept | np.isin(cut.kind, torn), key)

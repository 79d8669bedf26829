"""Words of which it is known what they are made of: written with plus signs, or read from a treebank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from tokenry.core.errors import InvalidValue, UnreadableInput

SOFT = {"p": "b", "ç": "c", "t": "d", "k": "ğg"}
"""How the last consonant of a Turkish root may be written before a vowel."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word as its morphs: the lemma first, then suffixes.

    Args:
        morphs: parts that are written side by side.
        kinds: what each is, such as `lemma` or `case`; where nothing is said, all after the first are `suffix`.
    """

    morphs: tuple[str, ...]
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.morphs or not all(self.morphs):
            raise InvalidValue(f"word: morphs must be one or more, none of them empty; got {self.morphs!r}.")
        if self.kinds and len(self.kinds) != len(self.morphs):
            raise InvalidValue(f"word: kinds must be one for each of {len(self.morphs)} morphs; got {self.kinds!r}.")

    @property
    def text(self) -> str:
        """The word."""
        return "".join(self.morphs)

    @property
    def named(self) -> tuple[str, ...]:
        """The kind of each morph."""
        return self.kinds or ("lemma", *["suffix"] * (len(self.morphs) - 1))

    @property
    def ends(self) -> tuple[int, ...]:
        """The characters at which morphs end."""
        return tuple(accumulate(map(len, self.morphs)))


def words_of(sample: Any) -> list[Word]:
    """The words of a sample: a word, several, or a text with a word on each line, as in `ev+ler+imiz+den`.

    Raises:
        InvalidValue: something else, or a word with an empty morph.
    """
    if isinstance(sample, Word):
        return [sample]
    text = getattr(sample, "text", sample)
    if isinstance(text, str):
        return [Word(tuple(line.strip().split("+"))) for line in text.splitlines() if line.strip()]
    if isinstance(sample, Iterable):
        found = list(sample)
        if all(isinstance(word, Word) for word in found):
            return found
    raise InvalidValue(f"morphology: samples must be words or lines such as ev+ler; got {type(sample).__name__}.")


def treebank(file: str | Path) -> list[list[Word]]:
    """The words of each sentence of a Turkish treebank that writes derived words in several rows.

    Words end where the next row has a lemma of its own. Morphs are cut between rows, behind the lemma, and behind the
    plural; what inflection is left is one morph. Signs, numbers and words that do not begin with their lemma, as where
    a vowel is dropped, are left out.

    Raises:
        UnreadableInput: no file of that kind.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UnreadableInput(f"{file}: must be a readable treebank; {error}.") from error
    found: list[list[Word]] = []
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("#"):
            continue
        if line:
            rows.append(line.split("\t"))
            if len(rows[-1]) < 6:
                raise UnreadableInput(f"{file}: must have columns as CoNLL-U has them; got {line[:60]!r}.")
        elif rows:
            found.append([w for group in _grouped(rows) if (w := _word(group)) is not None])
            rows = []
    return found


def _grouped(rows: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    group: list[list[str]] = []
    for row in rows:
        if row[2] != "_" and group:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _word(rows: list[list[str]]) -> Word | None:
    """A word of the treebank; None of what has no lemma to begin with."""
    first = rows[0]
    surface, lemma = lower(first[1]), lower(first[2])
    if first[3] in ("PUNCT", "NUM") or not "".join(lower(r[1]) for r in rows).isalpha():
        return None
    if not (surface.startswith(lemma) or _softened(surface, lemma)):
        return None
    parts = [(surface[: len(lemma)], "lemma"), *_inflected(surface[len(lemma) :], first[5])]
    for row in rows[1:]:
        text = lower(row[1])
        plural = _plural(text[-3:], row[5]) if len(text) > 3 else ""
        parts += [(text.removesuffix(plural), "derivation"), *([(plural, "plural")] if plural else [])]
    parts = [(text, kind) for text, kind in parts if text]
    return Word(tuple(text for text, _ in parts), tuple(kind for _, kind in parts))


def _softened(surface: str, lemma: str) -> bool:
    same = surface[: len(lemma) - 1] == lemma[:-1] and len(surface) >= len(lemma) > 1
    return same and surface[len(lemma) - 1] in SOFT.get(lemma[-1], "")


def _inflected(text: str, features: str) -> Iterator[tuple[str, str]]:
    plural = _plural(text[:3], features)
    if plural:
        yield plural, "plural"
    yield text[len(plural) :], "inflection"


def _plural(text: str, features: str) -> str:
    return text if text in ("lar", "ler") and "PersonNumber=A3pl" in features else ""


def lower(text: str) -> str:
    """Small letters as Turkish has them."""
    return text.replace("İ", "i").replace("I", "ı").lower()

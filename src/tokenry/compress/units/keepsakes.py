"""Words that must survive: numbers, names, negations, code and JSON keys."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Bool

from tokenry.compress.units.lines import code_spans
from tokenry.compress.units.page import Page
from tokenry.compress.units.sentences import CLOSERS, MARKS, OPENERS, STARTERS

Span = tuple[int, int]

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*\.?"
_NUMBER = re.compile(
    rf"""(?:[-+−±]\s?)?(?:[$€£¥₹]\s?)?\d[\d.,:/'’×x%‰°-]*
        (?:\s(?:%|[$€£¥₹]|percent\b|(?:hundred|thousand|million|billion|trillion|dozen)\b|a\.?m\b|p\.?m\b|{_MONTH}))*
      | {_MONTH}\s(?=\d)
      | [$€£¥₹]\s?(?=\d)""",
    re.VERBOSE,
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|except|unless|hardly|scarcely|barely"
    r"|(?:is|are|was|were|do|does|did|ca|wo|could|would|should|must|might|need|has|have|had|sha|ai|mus)n['’]t"
    r"|can['’]t|won['’]t|shan['’]t)\b",
    re.IGNORECASE,
)
_INLINE_CODE = re.compile(r"`[^`\n]+`")
_JSON_KEY = re.compile(r'"(?:[^"\\\n]|\\.)*"\s*:')
_ACRONYM = re.compile(r"(?:[^\W\d_a-z]\.){2,}|[^\W\d_a-z]{2,}[\d-]*s?")


def keepsakes(document: Page, kinds: Collection[str]) -> Bool[np.ndarray, "W"]:
    """Which words of a document hold something of the given kinds.

    - `numbers`: anything with digits, its sign, currency, unit of scale, month and decimals; not numbers in words.
    - `names`: capitalised words that begin no sentence, runs of them anywhere, and acronyms.
    - `negations`: not, no, never, without, n't, … (English).
    - `code`: inside backticks, fenced blocks, and lines that look like code.
    - `json_keys`: a quoted string before a colon.
    """
    words = document.words.bounds
    found = np.zeros(len(words), dtype=bool)
    ends = [end for _, end in words]
    for kind in kinds:
        for start, stop in _FINDERS[kind](document):
            w = bisect_left(ends, start + 1)
            while w < len(words) and words[w][0] < stop:
                found[w] = True
                w += 1
    return found


def _numbers(document: Page) -> Iterator[Span]:
    return (m.span() for m in _NUMBER.finditer(document.text))


def _negations(document: Page) -> Iterator[Span]:
    return (m.span() for m in _NEGATION.finditer(document.text))


def _code(document: Page) -> Iterable[Span]:
    return [*code_spans(document.text), *(m.span() for m in _INLINE_CODE.finditer(document.text))]


def _json_keys(document: Page) -> Iterator[Span]:
    return (m.span() for m in _JSON_KEY.finditer(document.text))


def _names(document: Page) -> Iterator[Span]:
    begins = set(document.words.of[document.sentences.first].tolist())
    texts = document.texts_of(document.words)
    bare = [t.strip(OPENERS + CLOSERS + MARKS + ",;:-—–") for t in texts]
    capital = [b[:1].isupper() and b not in ("I", "I'm", "I've", "I'll", "I'd", "O") for b in bare]
    for w, word in enumerate(bare):
        if not capital[w]:
            continue
        first = w in begins
        leads = w + 1 < len(bare) and capital[w + 1] and w + 1 not in begins and not texts[w].endswith((",", ":"))
        function = word.lower() in STARTERS
        acronym = _ACRONYM.fullmatch(word) is not None and not function
        if acronym or (not function and (not first or leads)):
            yield document.words.bounds[w]


_FINDERS: Mapping[str, Callable[[Page], Iterable[Span]]] = {
    "numbers": _numbers,
    "names": _names,
    "negations": _negations,
    "code": _code,
    "json_keys": _json_keys,
}
KINDS = tuple(_FINDERS)

"""What a longer token may spell: no more than one piece of a text, word or sentence."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from tokenry.core.errors import Incompatible

KINDS = ("pretoken", "word", "word_hyphen", "sentence")

LONGEST = 1024
"""Bytes of the longest token. Without a bound one token could grow over a whole text, in time of its length squared."""

REMEMBERED = 1 << 20
"""Answers that are kept."""

_SENTENCE_END = re.compile(r"""(?:[.!?…]["'”’)\]]*\s|[。！？।؟۔]["'”’」』）]*\s*)(?=.*\S)""", re.DOTALL)
_HYPHENS = "-\u2010\u2011\u2012\u2013\u2014"


class Boundary:
    """One rule for one tokenizer.

    Parts of characters at the edges of a token are not judged, since nobody knows yet what they are parts of.

    Args:
        kind: one of `KINDS`.
        tokenizer: splits text into pretokens; asked by that rule only.

    Raises:
        Incompatible: the tokenizer splits no text.
    """

    def __init__(self, kind: str, tokenizer: Any) -> None:
        self._rule = _pretoken(tokenizer) if kind == "pretoken" else _RULES[kind]
        self._known: dict[bytes, bool] = {}

    def allows(self, spelled: bytes) -> bool:
        """Whether one token may spell these bytes."""
        if len(spelled) > LONGEST:
            return False
        found = self._known.get(spelled)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            text = spelled.decode("utf-8", "ignore")
            found = self._known[spelled] = "\n\n" not in text and (not text or self._rule(text))
        return found


def pretokens(tokenizer: Any) -> Callable[[str], list[str]]:
    """What splits a text into the pieces within which a tokenizer merges.

    Raises:
        Incompatible: the tokenizer splits no text.
    """
    splitter = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    if splitter is None:
        raise Incompatible(
            "dynamic_bpe: boundary 'pretoken' needs a tokenizer that splits text before it merges; this one does not; "
            "use boundary=word."
        )

    def split(text: str) -> list[str]:
        ends = [end for _, (_, end) in splitter.pre_tokenize_str(text)]
        if not ends:
            return [text] if text else []
        # What lies between two pieces, such as a space, belongs to the one behind it.
        bounds = [0, *ends[:-1], len(text)]
        return [text[a:b] for a, b in itertools.pairwise(bounds)]

    return split


def _pretoken(tokenizer: Any) -> Callable[[str], bool]:
    split = pretokens(tokenizer)
    # Some tokenizers only mark spaces and split nowhere.
    return lambda text: _word(text) and len(split(text)) <= 1


def _word(text: str) -> bool:
    return text.isspace() or not any(c.isspace() for c in text[1:])


def _word_hyphen(text: str) -> bool:
    return _word(text) and not any(c in _HYPHENS for c in text[1:])


def _sentence(text: str) -> bool:
    return _SENTENCE_END.search(text) is None


_RULES: dict[str, Callable[[str], bool]] = {"word": _word, "word_hyphen": _word_hyphen, "sentence": _sentence}

"""Documents shortened as text by one compressor after the other, for models behind an API; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenry.compress.base import Compressor
from tokenry.compress.kept.shortening import BETWEEN, Compressed, shorten
from tokenry.compress.kept.writing import Piece
from tokenry.core.errors import Incompatible
from tokenry.core.method import Method
from tokenry.models.text.counting import Counter

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel
    from tokenry.models.text.document import Document


def shorten_all(
    methods: Sequence[Method],
    documents: Sequence[Document],
    tokenizer: Any,
    ask: str | None = None,
    model: LanguageModel | None = None,
) -> Compressed:
    """What several compressors leave of documents, which share their budgets and are set apart by blank lines.

    Spans to protect are protected from the first method; the others see one text, marks included.

    Raises:
        Incompatible: a method that is no compressor, which no text can carry.
    """
    other = next((m for m in methods if not isinstance(m, Compressor)), None)
    if other is not None:
        raise Incompatible(f"compress: text cannot carry {other}; leave it out.")
    counter = Counter.of(tokenizer)
    texts, protect, at = [d.text for d in documents], [], 0
    for document in documents:
        protect += [(at + a, at + b) for a, b in document.protect]
        at += len(document.text) + len(BETWEEN)
    whole = BETWEEN.join(texts)
    size = counter(whole)
    found = Compressed(whole, size, size, (Piece(whole, 0, len(whole)),))
    for i, method in enumerate(methods):
        assert isinstance(method, Compressor)
        given = texts if i == 0 else found.text
        step = shorten(method, given, counter, ask, model=model, protect=protect if i == 0 else ())
        found = Compressed(step.text, size, step.tokens_out, step.pieces, (*found.notes, *step.notes))
    return found

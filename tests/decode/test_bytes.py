"""The next byte by a model of tokens: what is written down in full, and that it is what the lemma gives."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from tests.decode.byte_models import reads
from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.decode.bytes.reader import END, ByteReader
from tokenry.decode.bytes.spelling import Spelling, text_of
from tokenry.decode.bytes.together import Together, sample

KINDS = ("split", "whole", "fallback")
TEXTS = {
    "split": (b"", b"a", b"ab", b"aab", b"ab a", b"aa  ab", b"bb a"),
    "whole": (b"", b"a", b"aab", b"ab a", b"aa  ab"),
    "fallback": (b"", b"a", b"ab", b"b a", b"a\xc3", b"a\xc3\xa9", b"b\xe6"),
}


def written(kind):
    """All that the tokenizer itself would write."""
    spelling = Spelling.of(reads(kind).tokenizer)
    return spelling


@cache
def row(kind, ids):
    """Log-probabilities of the next id over those that make a valid sequence, and the end."""
    language, spelling = reads(kind), written(kind)
    with torch.no_grad():
        logits = language.model(torch.tensor([[0, *ids]])).logits[0, -1].double().numpy()
    keeps = np.zeros(len(logits), dtype=bool)
    keeps[0] = True
    for i in range(1, len(spelling.vocabulary)):
        keeps[i] = valid(spelling, (*ids, i))
    logits = np.where(keeps, logits, -np.inf)
    return logits - np.log(np.exp(logits).sum())


def valid(spelling, ids):
    """What is text is what the tokenizer writes for it; parts of characters stand unmerged."""
    text = spelling.vocabulary.spell(ids)
    if text_of(text) is not None:
        return spelling.ids(text) == ids
    return len(ids) < 2 or spelling.vocabulary.valid_pair(ids[-2], ids[-1])


def marginal(kind, text, ids=()):
    """P(text) by going through all sequences that begin with it, up to the id that covers its end."""
    spelling = written(kind)
    said = spelling.vocabulary.spell(ids)
    if len(said) >= len(text):
        return float(said.startswith(text))
    total = 0.0
    for i, log in enumerate(row(kind, ids)):
        piece = spelling.vocabulary[i]
        if piece and np.isfinite(log) and (text.startswith(said + piece) or (said + piece).startswith(text)):
            total += np.exp(log) * marginal(kind, text, (*ids, i))
    return total


@pytest.mark.parametrize(("kind", "text"), [(k, t) for k in KINDS for t in TEXTS[k]])
def test_the_next_byte_is_the_brute_force_marginal(kind, text):
    found = np.exp(ByteReader.of(reads(kind), text, exact=True).next())
    whole = marginal(kind, text)
    for byte in range(256):
        assert abs(found[byte] - marginal(kind, text + bytes([byte])) / whole) < 1e-6
    assert abs(found.sum() - 1) < 1e-12

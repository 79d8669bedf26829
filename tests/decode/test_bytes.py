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
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

KINDS = ("split", "whole", "characters", "fallback")
TEXTS = {
    "split": (b"", b"a", b"ab", b"aab", b"ab a", b"aa  ab", b"bb a"),
    "whole": (b"", b"a", b"aab", b"ab a", b"aa  ab"),
    "characters": (b"a\xc3\xa9aa", b"\xc3\xa8a", b"aa\xc3"),
    "fallback": (b"", b"a", b"ab", b"b a", b"a\xc3", b"a\xc3\xa9", b"b\xe6"),
}


def written(kind):
    """All that the tokenizer itself would write."""
    return Spelling.of(reads(kind).tokenizer)


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


@pytest.mark.parametrize("kind", KINDS)
def test_the_lemma_to_the_last_digits(kind, monkeypatch):
    """With the same numbers for tokens on both sides: the product of next bytes is P(x)."""
    monkeypatch.setattr(ByteReader, "_row", lambda _, ids: row(kind, ids))
    for text in TEXTS[kind]:
        reader = ByteReader.of(reads(kind), exact=True)
        assert abs(np.exp(reader.score(text).sum()) - marginal(kind, text)) < 1e-10
        assert abs(np.exp(reader.next()).sum() - 1) < 1e-10


def test_where_no_token_straddles_it_is_the_first_byte_of_the_next_token():
    reader = ByteReader.of(reads("split"), b"bb", exact=True)
    [cover] = reader.covers()
    found, first = np.exp(reader.next()), [reader.spelling.vocabulary[i][0] for i in cover.ids]
    for byte in set(first):
        wanted = sum(np.exp(row("split", cover.before)[i]) for i, b in zip(cover.ids, first, strict=True) if b == byte)
        assert abs(found[byte] - wanted) < 1e-6


def test_a_text_ends_with_any_of_the_ids_that_end_it():
    """One that spells nothing is no byte; both together are the end."""
    language = reads("split")
    more = language.tokenizer.get_vocab() | {"<end>": len(language.tokenizer)}
    network = tiny("llama", vocab_size=len(more), eos_token_id=0, bos_token_id=0, pad_token_id=None)
    for exact in (False, True):
        network.generation_config.eos_token_id = 0
        reader = ByteReader.of(LanguageModel(network, language.tokenizer, "two", 512), b"bb", exact=exact)
        one = np.exp(reader.next())
        network.generation_config.eos_token_id = [0, len(more) - 1]
        reader = ByteReader.of(LanguageModel(network, language.tokenizer, "two", 512), b"bb", exact=exact)
        two = np.exp(reader.next())
        assert two[END] > 1.2 * one[END] > 0
        np.testing.assert_allclose(two[:END] / two[:END].sum(), one[:END] / one[:END].sum(), atol=1e-9)
        assert abs(two.sum() - 1) < 1e-12


def test_without_renormalising_it_still_sums_to_one():
    for text in TEXTS["split"]:
        assert abs(np.exp(ByteReader.of(reads("split"), text).next()).sum() - 1) < 1e-12


def test_reading_on_is_reading_at_once():
    for kind in KINDS:
        text = TEXTS[kind][-1]
        step = ByteReader.of(reads(kind))
        for byte in text:
            step.next()
            step.push(bytes([byte]))
        np.testing.assert_allclose(np.exp(step.next()), np.exp(ByteReader.of(reads(kind), text).next()), atol=2e-6)


def test_what_the_vocabulary_cannot_spell_is_refused():
    with pytest.raises(InvalidValue, match="must spell what was read"):
        ByteReader.of(reads("split"), b"abc").next()


def test_several_models_together():
    text = b"ab a"

    def readers():
        return [ByteReader.of(reads(kind), text) for kind in ("split", "other")]

    one, two = (np.exp(r.next()) for r in readers())
    mixed = np.exp(Together(readers()).next())
    np.testing.assert_allclose(mixed, (one + two) / 2, atol=1e-9)
    geometric = np.exp(Together(readers(), mean="geometric").next())
    wanted = np.sqrt(one * two)
    np.testing.assert_allclose(geometric, wanted / wanted.sum(), atol=1e-9)
    np.testing.assert_allclose(np.exp(Together(readers(), (1, 0)).next()), one, atol=1e-9)
    np.testing.assert_allclose(np.exp(Together(readers(), (0, 1), "geometric").next()), two, atol=1e-9)
    assert Together(readers()).score(b"ab").shape == (2,)
    for wrong in ({"weights": (1,)}, {"weights": (0, 0)}, {"mean": "harmonic"}):
        with pytest.raises(InvalidValue, match="together: "):
            Together(readers(), **wrong)


def test_bytes_are_drawn_from_their_distribution():
    reader = ByteReader.of(reads("split"), b"a")
    greedy = sample(reader, 4, temperature=0.0)
    again = ByteReader.of(reads("split"), b"a")
    for byte in greedy:
        assert byte == int(again.next().argmax())
        again.push(bytes([byte]))
    drawn = sample(ByteReader.of(reads("split")), 12, seed=3, stop=b"b")
    assert drawn == sample(ByteReader.of(reads("split")), 12, seed=3, stop=b"b")
    assert set(drawn) <= set(b"ab ")
    assert END == 256


def test_words_without_spaces_are_refused():
    from tests.embed.embed_models import trained

    tokenizer = trained("a b c", 300)
    assert Spelling.of(tokenizer).ids(b"a b") is not None
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UnsupportedModel, match="must spell text exactly"):
        Spelling.of(PreTrainedTokenizerFast(tokenizer_object=words))

"""Vocabularies that write spaces and words in other ways: ids and decoding are those of tokenizers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from tests.contract.test_segment import check_spans
from tokenry.segment.engines.hostile import TEXTS
from tokenry.segment.engines.opening import open_tokenizer

LETTERS = [chr(c) for c in range(33, 127)]
WORDS = ["▁th", "▁the", "er", "in", "▁a", "▁▁", "an"]
FALLBACK = {"<unk>": 0} | {f"<0x{b:02X}>": b + 1 for b in range(256)}
SPM = {p: i for i, p in enumerate([*FALLBACK, "▁", *LETTERS, "▁t", "th", "he", *WORDS])}
MERGES = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("e", "r"), ("i", "n"), ("▁", "a"), ("▁", "▁"), ("a", "n")]


def by_metaspace(scheme):
    made = Tokenizer(models.BPE(SPM, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme), decoders.Fuse()]
    )
    return made


def by_normaliser():
    made = Tokenizer(models.BPE(SPM, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def unigram(scheme, *rules):
    pieces = [("<unk>", 0.0), ("▁", -3.0), *((c, -6.0) for c in LETTERS), *((w, -4.0) for w in WORDS)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0))
    if rules:
        made.normalizer = normalizers.Sequence(list(rules))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return made


def byte_level(prefix, *rules):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    table = {c: i for i, c in enumerate([*letters, "Ġt", "Ġth", "he"])}
    made = Tokenizer(models.BPE(table, [("Ġ", "t"), ("Ġt", "h"), ("h", "e")]))
    if rules:
        made.normalizer = normalizers.Sequence(list(rules))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    return made


def by_suffix():
    table = {c: i for i, c in enumerate(["<unk>", *LETTERS, *(f"{c}</w>" for c in LETTERS), "th", "the</w>"])}
    made = Tokenizer(models.BPE(table, [("t", "h"), ("th", "e</w>")], unk_token="<unk>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    return made


KINDS = {
    "metaspace always": (lambda: by_metaspace("always"), "lossy"),
    "metaspace first": (lambda: by_metaspace("first"), "lossy"),
    "metaspace never": (lambda: by_metaspace("never"), "normalised"),
    # A text with a mark in it is put together from parts, each with a space before it.
    "normaliser": (by_normaliser, "lossy"),
    "unigram": (lambda: unigram("always"), "lossy"),
    "unigram, NFKC": (lambda: unigram("always", normalizers.NFKC(), normalizers.Lowercase()), "lossy"),
    "byte level": (lambda: byte_level(False), "bytes"),
    "byte level, NFC": (lambda: byte_level(False, normalizers.NFC()), "normalised"),
    "byte level, lower case": (lambda: byte_level(False, normalizers.Lowercase()), "normalised"),
    "byte level after a space": (lambda: byte_level(True), "lossy"),
    "suffix": (by_suffix, "lossy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_places_and_decoding(kind, tmp_path):
    make, level = KINDS[kind]
    theirs = make()
    theirs.add_special_tokens(["<m>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = replace(open_tokenizer(str(tmp_path)), special=True)
    for text in (*TEXTS, "the theory", " the", "x<m>the<m> y", "\u00e9\u0301 the"):
        sequence = ours.encode(text)
        right = theirs.encode(text, add_special_tokens=False).ids
        assert sequence.ids.tolist() == right
        check_spans(sequence, text.encode())
        assert ours.decode(right).decode() == theirs.decode(right, skip_special_tokens=False)
    assert ours.lossless.level == level, ours.lossless


def test_a_rule_has_a_name(tmp_path):
    byte_level(False, normalizers.NFC()).save(str(tmp_path / "tokenizer.json"))
    assert str(open_tokenizer(str(tmp_path)).lossless) == "normalised: NFC"


def test_places_after_normalisation(tmp_path):
    """One letter that became two shares out its bytes; what was left out belongs to the next token."""
    unigram("always", normalizers.NFKC()).save(str(tmp_path / "tokenizer.json"))
    text = "ﬁn  an"
    sequence = open_tokenizer(str(tmp_path)).encode(text)
    held = [text.encode()[a:b] for a, b in sequence.spans[:, :2].tolist()]
    assert b"".join(held) == text.encode()
    assert held[-1].endswith(b"an")

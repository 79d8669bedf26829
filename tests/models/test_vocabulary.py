"""The bytes of Hugging Face vocabularies."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tokenry.models.files.load import load_tokenizer
from tokenry.models.text.vocabulary import pieces_of, vocabulary_of

HOSTILE = "naïve 🤷🏽‍♀️ \u200b\tx  y\r\n日本 a\u0301 ﬁ £"


def test_a_byte_level_vocabulary_spells_the_text():
    tokenizer = load_tokenizer("smollm2")
    vocabulary = vocabulary_of(tokenizer)
    assert len(vocabulary) == 49152
    assert vocabulary.spell(tokenizer(HOSTILE)["input_ids"]) == HOSTILE.encode()
    assert vocabulary[1] is None
    assert vocabulary[3482] == b"None"
    assert vocabulary.missing_bytes[:3] == (0x04, 0x06, 0x13)
    assert len(vocabulary.missing_bytes) == 21


def test_wordpiece_spells_words_without_their_mark():
    tokenizer = load_tokenizer("minilm")
    ids = tokenizer("unaffable cat", add_special_tokens=False)["input_ids"]
    assert vocabulary_of(tokenizer).spell(ids) == b"unaffablecat"


@pytest.mark.parametrize("text", ["a b", "é", " a"])
def test_byte_fallback_and_metaspace(text):
    vocab = {"<unk>": 0, **{f"<0x{b:02X}>": b + 1 for b in range(256)}, "▁": 257, "a": 258, "b": 259, "▁a": 260}
    model = models.BPE(vocab=vocab, merges=[("▁", "a")], byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<s>"])
    vocabulary = pieces_of(json.loads(tokenizer.to_str()))
    assert vocabulary.spell(tokenizer.encode(text).ids) == text.encode()
    assert vocabulary[261] is None

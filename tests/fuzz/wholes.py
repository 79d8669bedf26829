"""Small whole files of every format that vocabularies come in, which fuzzing damages."""

from __future__ import annotations

import base64
import io
import json
import struct
from functools import cache
from typing import Any

LETTERS = "abcdehilnorstw"
WORDS = ["th", "the", "in", "an", "and", "Ġt", "Ġth", "Ġthe"]
MERGES = ["t h", "th e", "i n", "a n", "an d", "Ġ t", "Ġt h", "Ġth e"]
SENTENCES = ("the cat and the hat in the sand", "a tin hat and a hen in the shade", "one two three 1975 caf\u00e9") * 4


@cache
def tokenizer_jsons() -> list[bytes]:
    """One of each algorithm, with steps before and after it."""
    from tokenizers.pre_tokenizers import ByteLevel

    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    mark = {
        "id": 300, "content": "<m>", "special": True, "normalized": False, "lstrip": False, "rstrip": False,
        "single_word": False,
    }  # fmt: skip
    pieces = [*sorted(ByteLevel.alphabet()), *WORDS]
    bpe = {
        "type": "BPE", "vocab": {p: i for i, p in enumerate(pieces)}, "merges": MERGES, "unk_token": None,
        "byte_fallback": False, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
    }  # fmt: skip
    few = {**bpe, "vocab": {p: i for i, p in enumerate(["<unk>", *LETTERS, "Ġ", *WORDS])}, "unk_token": "<unk>"}
    unigram = {
        "type": "Unigram", "unk_id": 0, "byte_fallback": False,
        "vocab": [["<unk>", 0.0], ["▁", -2.0], *([c, -3.0] for c in LETTERS), ["▁the", -1.5], ["▁an", -1.5]],
    }  # fmt: skip
    wordpiece = {
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {p: i for i, p in enumerate(["[UNK]", *LETTERS, *(f"##{c}" for c in LETTERS), "the", "##an"])},
    }  # fmt: skip
    bert = {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
        "lowercase": True,
    }  # fmt: skip
    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    words = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\s+"}, "behavior": "Isolated", "invert": False}
    return [
        _file(bpe, None, level, level, [mark]),
        _file(few, {"type": "NFC"}, {"type": "Sequence", "pretokenizers": [split, level]}, level, []),
        _file(unigram, {"type": "Sequence", "normalizers": [{"type": "NFKC"}]}, meta, meta, []),
        _file(wordpiece, bert, {"type": "BertPreTokenizer"}, words, []),
    ]


def _file(model: Any, normalizer: Any, before: Any, decoder: Any, added: Any) -> bytes:
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": before,
            "post_processor": None,
            "decoder": decoder,
            "model": model,
        }
    ).encode()


@cache
def vocab_jsons() -> list[bytes]:
    """The first of the two files of a folder of byte-level pairs."""
    return [json.dumps(json.loads(tokenizer_jsons()[0])["model"]["vocab"] | {"<|endoftext|>": 264}).encode()]


MERGES_TXT = [("#version: 0.2\n" + "\n".join(MERGES) + "\n").encode()]
CONFIGS = [json.dumps({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "unk_token": None}).encode()]


@cache
def tiktokens() -> list[bytes]:
    """All bytes and a few pairs by rank."""
    pieces = [*(bytes([b]) for b in range(256)), *(w.replace("Ġ", " ").encode() for w in WORDS)]
    return [b"".join(base64.b64encode(p) + b" %d\n" % rank for rank, p in enumerate(pieces))]


@cache
def tekkens() -> list[bytes]:
    """The same in the other form."""
    entries = [{"rank": r, "token_bytes": base64.b64encode(bytes([r])).decode()} for r in range(256)]
    config = {"pattern": r"\S+|\s+", "default_vocab_size": 266, "default_num_special_tokens": 10}
    return [json.dumps({"config": config, "vocab": entries}).encode()]


@cache
def ggufs() -> list[bytes]:
    """One of each kind of vocabulary."""
    pieces = [p.encode() for p in json.loads(tokenizer_jsons()[0])["model"]["vocab"]]
    scored = [b"<unk>", b"<s>", *(b"<0x%02X>" % b for b in range(256)), "▁".encode(), *map(str.encode, LETTERS), b"th"]
    kinds = [2, 3, *[6] * 256, *[1] * (len(scored) - 258)]
    scores = [float(-i) for i in range(len(scored))]
    words = [b"[UNK]", *("▁".encode() + c.encode() for c in LETTERS), *map(str.encode, LETTERS), "▁the".encode()]
    return [
        _gguf(b"gpt2", pieces, [1] * len(pieces), pre=b"llama-bpe", merges=[m.encode() for m in MERGES]),
        _gguf(b"llama", scored, kinds, scores=scores),
        _gguf(b"t5", scored, kinds, scores=scores),
        _gguf(b"bert", words, [3] + [1] * (len(words) - 1)),
    ]


def _gguf(
    model: bytes, tokens: list[bytes], kinds: list[int], *, pre: bytes = b"", merges: Any = (), scores: Any = ()
) -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def listed(kind: int, count: int, body: bytes) -> bytes:
        return struct.pack("<IIQ", 9, kind, count) + body

    pairs = {
        b"model": struct.pack("<I", 8) + text(model),
        b"tokens": listed(8, len(tokens), b"".join(map(text, tokens))),
        b"token_type": listed(5, len(kinds), struct.pack(f"<{len(kinds)}i", *kinds)),
        b"pre": struct.pack("<I", 8) + text(pre) if pre else b"",
        b"merges": listed(8, len(merges), b"".join(map(text, merges))) if merges else b"",
        b"scores": listed(6, len(scores), struct.pack(f"<{len(scores)}f", *scores)) if scores else b"",
    }  # fmt: skip
    body = b"".join(text(b"tokenizer.ggml." + name) + value for name, value in pairs.items() if value)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, sum(map(bool, pairs.values()))) + body


@cache
def sentencepieces() -> list[bytes]:
    """A unigram model and one of byte pairs with a piece for each byte."""
    import sentencepiece

    found = []
    for kind, size, more in (("unigram", 48, {}), ("bpe", 320, {"byte_fallback": True})):
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES), model_writer=out, vocab_size=size, model_type=kind, minloglevel=2,
            hard_vocab_limit=False, **more,
        )  # fmt: skip
        found.append(out.getvalue())
    return found

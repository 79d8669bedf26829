"""Open the vocabulary of a GGUF file, as the `tokenizer.json` it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenry.core.errors import StorageError, UnsupportedModel
from tokenry.models.files.gguf_header import gguf_header
from tokenry.models.files.vocabularies.gguf_encoders import of_scores, of_words
from tokenry.models.files.vocabularies.opened import Opened
from tokenry.models.files.vocabularies.ranks import O200K, QWEN
from tokenry.models.files.vocabularies.tokenizer_json import describe

_UNKNOWN, _CONTROL, _USER = 2, 3, 4

LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
TEKKEN = O200K.replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace(r"\p{N}{1,3}", r"\p{N}")
DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)

SPLITS: Mapping[str, tuple[str, ...]] = (
    dict.fromkeys(("gpt-2", "mpt", "olmo", "jais"), ("gpt2",))
    | dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"), ("digits", "gpt2"))
    | dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "dbrx", "smaug-bpe", "glm4"), (LLAMA3,))
    | dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen"), (QWEN,))
    | dict.fromkeys(("gpt-4o", "llama4"), (O200K,))
    | {"tekken": (TEKKEN,), "deepseek-v3": DEEPSEEK3}
)
"""How byte-level vocabularies split text, by the name that the file gives its way."""

_WHOLE_FIRST = ("llama3", "llama-v3", "llama-bpe", "falcon3", "tekken")
"""Ways in which a split that is a piece stays one, whatever the merges say."""


def read_gguf(name: str, file: Path) -> Opened:
    """The tokenizer of a GGUF file; its tensors are not read.

    Raises:
        StorageError: the file is damaged or has no vocabulary.
        UnsupportedModel: a kind of vocabulary or a way to split text that is not known here.
    """
    return describe(name, gguf_description(file), "gguf", file)


def gguf_description(file: Path) -> dict[str, Any]:
    """What `tokenizer.json` would hold."""
    found = gguf_header(file, "tokenizer.")
    tokens, kinds = found.get("tokenizer.ggml.tokens"), found.get("tokenizer.ggml.token_type")
    if not tokens or not kinds or len(tokens) != len(kinds):
        raise StorageError(f"{file}: must hold a vocabulary with the kind of every token; it does not.")
    model = found.get("tokenizer.ggml.model")
    if model == "gpt2":
        way = found.get("tokenizer.ggml.pre", "gpt-2")
        if way not in SPLITS:
            raise UnsupportedModel(
                f"{file}: splits text in the way {way!r}, which is not known; use its tokenizer.json."
            )
        steps = _byte_level(tokens, found.get("tokenizer.ggml.merges") or [], way)
    elif model == "llama":
        steps = _by_score(tokens, found.get("tokenizer.ggml.scores") or [], kinds, found)
    elif model == "bert":
        steps = of_words(tokens, kinds)
    elif model == "t5":
        steps = of_scores(tokens, found.get("tokenizer.ggml.scores") or [], kinds, found)
    else:
        raise UnsupportedModel(
            f"{file}: has a vocabulary of the kind {model!r}, which is not known; use its tokenizer.json."
        )
    return steps | {"version": "1.0", "added_tokens": _added(tokens, kinds), "truncation": None, "padding": None}


def _byte_level(tokens: Sequence[str], merges: Sequence[str], way: str) -> dict[str, Any]:
    last = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": SPLITS[way][-1] == "gpt2",
    }
    before = [_split(pattern) for pattern in SPLITS[way] if pattern != "gpt2"]
    pairs = [tuple(m.split(" ", 1)) for m in merges]
    return {
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*before, last]},
        "model": _bpe(tokens, pairs, ignore_merges=way in _WHOLE_FIRST, byte_fallback=False, unknown=None),
        "decoder": {**last, "use_regex": True},
        "post_processor": None,
    }


def _by_score(
    tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int], found: Mapping[str, Any]
) -> dict[str, Any]:
    """SentencePiece's BPE: a pair merges where its whole is a piece, the best score first."""
    if len(scores) != len(tokens):
        raise StorageError(f"GGUF: must hold a score for each of its {len(tokens)} tokens; got {len(scores)}.")
    ids = {token: i for i, token in enumerate(tokens) if kinds[i] not in (_UNKNOWN, _CONTROL)}
    found_pairs = []
    for token, i in ids.items():
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs = [(left, right) for left, right in halves if left in ids and right in ids]
        found_pairs += [(-scores[i], i, ids[left], ids[right], (left, right)) for left, right in pairs]
    unknown = next((t for t, kind in zip(tokens, kinds, strict=True) if kind == _UNKNOWN), None)
    prefix = bool(found.get("tokenizer.ggml.add_space_prefix", True))
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    ends = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*([{"type": "Prepend", "prepend": "▁"}] * prefix), spaces]},
        "pre_tokenizer": None,
        "model": _bpe(
            tokens, [p[-1] for p in sorted(found_pairs)], ignore_merges=False, byte_fallback=True, unknown=unknown
        ),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *ends,
            ],
        },
        "post_processor": None,
    }


def _bpe(
    tokens: Sequence[str],
    merges: Sequence[tuple[str, ...]],
    *,
    ignore_merges: bool,
    byte_fallback: bool,
    unknown: str | None,
) -> dict[str, Any]:
    vocabulary: dict[str, int] = {}
    for i, token in enumerate(tokens):
        vocabulary.setdefault(token, i)
    return {
        "type": "BPE", "vocab": vocabulary, "merges": [list(m) for m in merges], "unk_token": unknown,
        "fuse_unk": byte_fallback, "byte_fallback": byte_fallback, "ignore_merges": ignore_merges, "dropout": None,
        "continuing_subword_prefix": None, "end_of_word_suffix": None,
    }  # fmt: skip


def _split(pattern: str) -> dict[str, Any]:
    if pattern == "digits":
        return {"type": "Digits", "individual_digits": True}
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _added(tokens: Sequence[str], kinds: Sequence[int]) -> list[dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": i, "content": token, "special": kind == _CONTROL, **flags}
        for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_CONTROL, _USER) and token
    ]

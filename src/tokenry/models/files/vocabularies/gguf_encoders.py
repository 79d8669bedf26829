"""Vocabularies that GGUF files of encoders hold: WordPiece, called bert, and unigram, called t5."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from tokenry.core.errors import StorageError

_UNKNOWN, _CONTROL = 2, 3
_START = "▁"


def of_words(tokens: Sequence[str], kinds: Sequence[int]) -> dict[str, Any]:
    """WordPiece. The file marks pieces that begin a word, `tokenizer.json` those that do not."""
    vocabulary: dict[str, int] = {}
    for i, token in enumerate(tokens):
        mark = kinds[i] in (_UNKNOWN, _CONTROL) or (token.startswith("[") and token.endswith("]"))
        vocabulary.setdefault(token if mark else token[1:] if token.startswith(_START) else f"##{token}", i)
    unknown = next((t for t, kind in zip(tokens, kinds, strict=True) if kind == _UNKNOWN), "[UNK]")
    if unknown not in vocabulary:
        raise StorageError("GGUF: a vocabulary of words must hold [UNK]; it does not.")
    # The file does not say whether case stays; a vocabulary that has no capitals knows none.
    plain = not any(token != token.lower() for token, kind in zip(tokens, kinds, strict=True) if kind == 1)
    return {
        "normalizer": {
            "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
            "lowercase": plain,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "post_processor": None,
    }  # fmt: skip


def of_scores(
    tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int], found: Mapping[str, Any]
) -> dict[str, Any]:
    """Unigram, as it is made from a SentencePiece model."""
    if len(scores) != len(tokens):
        raise StorageError(f"GGUF: must hold a score for each of its {len(tokens)} tokens; got {len(scores)}.")
    unknown = next((i for i, kind in enumerate(kinds) if kind == _UNKNOWN), None)
    prefix = bool(found.get("tokenizer.ggml.add_space_prefix", True))
    rules = bytes(b % 256 for b in found.get("tokenizer.ggml.precompiled_charsmap") or [])
    steps: list[dict[str, Any]] = []
    if rules:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(rules).decode()})
    if found.get("tokenizer.ggml.remove_extra_whitespaces", True):
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    space = {
        "type": "Metaspace", "replacement": _START, "prepend_scheme": "always" if prefix else "never", "split": True,
    }  # fmt: skip
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": space,
        "model": {
            "type": "Unigram", "unk_id": unknown, "vocab": [[t, s] for t, s in zip(tokens, scores, strict=True)],
            "byte_fallback": False,
        },
        "decoder": space,
        "post_processor": None,
    }  # fmt: skip

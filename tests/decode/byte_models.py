"""Tiny vocabularies and models, whose sequences can all be written down."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

MERGES = [("a", "b"), ("a", "a"), ("ab", "a"), ("Ġ", "a"), ("Ġa", "b"), ("b", "b")]


def pairs(merges=MERGES, letters="abĠ", split=True, fallback=False):
    """Byte pairs of a few letters, with the mark <s>, which also ends a text."""
    vocab = {"<s>": 0}
    for piece in (*letters, *(left + right for left, right in merges)):
        vocab.setdefault(piece, len(vocab))
    if fallback:
        vocab |= {f"<0x{b:02X}>": len(vocab) + b for b in range(256)}
        made = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<s>"))
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
        made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<s>")


@cache
def reads(kind: str) -> LanguageModel:
    """A model with one of the vocabularies."""
    tokenizer = {
        "split": lambda: pairs(),
        "whole": lambda: pairs(split=False),
        "characters": lambda: pairs([("Ã", "©"), ("a", "Ã"), ("a", "a")], letters="aÃ©¨Ġ"),
        "fallback": lambda: pairs([("a", "b"), ("▁", "a"), ("b", "▁")], letters="ab▁é", fallback=True),
        "other": lambda: pairs([("b", "a"), ("Ġ", "b")]),
    }[kind]()
    model = tiny("llama", vocab_size=len(tokenizer), eos_token_id=0, bos_token_id=0, pad_token_id=None)
    model.generation_config.eos_token_id = model.generation_config.bos_token_id = 0
    for p in model.parameters():
        p.data *= 3.0
    return LanguageModel(model, tokenizer, kind, 512)

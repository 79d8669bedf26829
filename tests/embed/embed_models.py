"""Models and vocabularies for tests of the embed room, small enough to exchange in a moment."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny

OLD_TEXT = "The keeper climbed the old lighthouse. The lamp was broken and the harbour dark; nobody knew why. " * 3
NEW_TEXT = "A broken lighthouse lamp helps nobody: the keeper knows. Lights climb, lamps darken, harbours wait. " * 3
HOSTILE = "naïve 🤷🏽‍♀️ \u200b\tx  y\r\n日本 a\u0301 ﬁ £ The lamp<s>"
CHAT = "{% for m in messages %}<|turn|>{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"


@cache
def trained(text: str, pieces: int = 310, **marks: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE of a text; marks are by role, such as `bos_token="<s>"`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [text], trainers.BpeTrainer(vocab_size=pieces, show_progress=False, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)


def described(pieces: dict[str, int], merges: list[tuple[str, str]] = [], **marks: str) -> PreTrainedTokenizerFast:  # noqa: B006
    """A vocabulary with a piece for each byte beside those of characters, as SentencePiece makes them."""
    vocab = {"<unk>": 0, **{f"<0x{b:02X}>": b + 1 for b in range(256)}}
    vocab |= {piece: i + 257 for piece, i in pieces.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **marks)


def model(family: str, tokenizer: PreTrainedTokenizerFast, spare: int = 0, **changes: Any) -> LanguageModel:
    """A tiny model with as many rows as the tokenizer has ids, and some to spare."""
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    built = tiny(family, vocab_size=len(tokenizer) + spare, **ids, **changes)
    for name, value in ids.items():
        setattr(built.generation_config, name, value)
    return LanguageModel(built, tokenizer, f"tiny {family}", 512)

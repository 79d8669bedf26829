"""One trainer in a process of its own: `… LIBRARY SIZE TEXTS.json FOLDER` learns, encodes, and prints what it took."""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers.tokenizers_child import Encode, peak_mb


class Learnt(NamedTuple):
    """What a library learned, how it encodes, and whether a text is encoded rightly."""

    pieces: int
    encode: Encode
    right: Callable[[str], bool]


def tokenry(texts: Sequence[str], size: int) -> Learnt:
    from tokenizers import Tokenizer

    from tokenry.segment.bpe import Bpe

    folder = Path(tempfile.mkdtemp(), "made")
    found = Bpe.train(texts, vocab_size=size, out=folder)
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Learnt(found.vocab_size, found.ids, lambda text: found.ids(text) == theirs.encode(text).ids)


def own_loops(texts: Sequence[str], size: int) -> Learnt:
    """The trainer whose filters and scores are parts; what it learned is encoded by tiktoken."""
    from tiktoken import Encoding

    from tokenry.segment.training.pretokens import counted, words
    from tokenry.segment.training.trained import SPLIT
    from tokenry.segment.training.trainer import learn

    pieces = learn(counted(texts, words), size).pieces
    ranks = {piece: rank for rank, piece in enumerate(pieces) if piece is not None}
    found = Encoding("m", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={})
    return Learnt(
        len(pieces), found.encode_ordinary, lambda text: found.decode(found.encode_ordinary(text)) == text
    )  # fmt: skip


def tokenizers(texts: Sequence[str], size: int) -> Learnt:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    found.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    )

    def encode(text: str) -> list[int]:
        return list(found.encode(text, add_special_tokens=False).ids)

    return Learnt(found.get_vocab_size(), encode, lambda text: found.decode(encode(text)) == text)


def rustbpe(texts: Sequence[str], size: int) -> Learnt:
    import rustbpe as library
    from tiktoken import Encoding

    found = library.Tokenizer()
    found.train_from_iterator(iter(texts), size)
    ranks = {bytes(piece): rank for piece, rank in found.get_mergeable_ranks()}
    theirs = Encoding("m", pat_str=found.get_pattern(), mergeable_ranks=ranks, special_tokens={})
    return Learnt(found.vocab_size, found.encode, lambda text: found.encode(text) == theirs.encode_ordinary(text))


def gigatoken(texts: Sequence[str], size: int) -> Learnt:
    """It learns from one buffer and reads what it learned from a file of tokenizers."""
    import gigatoken as library
    from tokenizers import Tokenizer

    pieces, merges = library.train_bpe("\n".join(texts).encode(), size, [])
    file = Path(tempfile.mkdtemp(), "tokenizer.json")
    file.write_text(json.dumps(_described(pieces, merges)), encoding="utf-8")
    found, theirs = library.Tokenizer(str(file)), Tokenizer.from_file(str(file))
    return Learnt(len(pieces), found.encode, lambda text: list(found.encode(text)) == theirs.encode(text).ids)


def sentencepiece(texts: Sequence[str], size: int) -> Learnt:
    """Byte pairs without rules for the text; lines are what it learns from."""
    import sentencepiece as library

    out = io.BytesIO()
    lines = (line for text in texts for line in text.splitlines() if line)
    library.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=out, vocab_size=size, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False, minloglevel=2,
        num_threads=1, character_coverage=1.0,
    )  # fmt: skip
    found = library.SentencePieceProcessor(model_proto=out.getvalue())
    return Learnt(found.get_piece_size(), found.encode, lambda text: found.decode(found.encode(text)) == text)


def _described(pieces: Mapping[int, bytes], merges: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
    from tokenry.models.text.vocabulary import byte_characters

    shown = byte_characters()

    def written(piece: bytes) -> str:
        return "".join(shown[b] for b in piece)

    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "vocab": {written(p): i for i, p in pieces.items()}, "dropout": None, "unk_token": None,
        "merges": [[written(a), written(b)] for a, b in merges], "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model,
    }  # fmt: skip


TRAINERS = {"tokenry": tokenry, "tokenry, own loops": own_loops} | {
    f.__name__: f for f in (tokenizers, rustbpe, gigatoken, sentencepiece)
}


def main() -> None:
    """Learn, encode twice, check."""
    name, size, source = sys.argv[1:]
    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    before = peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    learnt = TRAINERS[name](texts["train"], int(size))
    found: dict[str, Any] = {
        "train_s": time.process_time() - cpu, "train_wall_s": time.perf_counter() - wall, "peak_mb": peak_mb(),
        "before_mb": before, "pieces": learnt.pieces,
    }  # fmt: skip
    for run in ("cold", "warm"):
        cpu, wall = time.process_time(), time.perf_counter()
        for text in texts["documents"]:
            learnt.encode(text)
        found[f"{run}_s"], found[f"{run}_wall_s"] = time.process_time() - cpu, time.perf_counter() - wall
    found["wrong"] = sum(not learnt.right(text) for text in texts["documents"])
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    main()

"""One tokenizer in a process of its own: `… LIBRARY VOCABULARY TEXTS.json` prints what it measured."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import sys
import time
import warnings
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Encode = Callable[[str], Sequence[int]]

CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""As first published; the later form of tiktoken splits the same, in signs that other engines read otherwise."""


def tokenizers(file: str) -> Encode:
    from tokenizers import Tokenizer

    if file.endswith(".json"):
        found = Tokenizer.from_file(file)
    else:
        from transformers.convert_slow_tokenizer import TikTokenConverter

        found = TikTokenConverter(vocab_file=file, pattern=CL100K).converted()
    return lambda text: found.encode(text, add_special_tokens=False).ids


def tiktoken(file: str) -> Encode:
    import base64

    from tiktoken import Encoding
    from tiktoken_ext import openai_public

    lines = (line.split() for line in Path(file).read_bytes().splitlines())
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in lines}
    openai_public.load_tiktoken_bpe = lambda *_, **__: ranks
    return Encoding(**openai_public.cl100k_base()).encode_ordinary


def fastokens(file: str) -> Encode:
    from fastokens import Tokenizer

    if file.endswith(".json"):
        found = Tokenizer.from_file(file)
    else:
        from tiktoken_ext import openai_public

        openai_public.load_tiktoken_bpe = lambda *_, **__: {}
        found = Tokenizer.from_tiktoken(file, pattern=openai_public.cl100k_base()["pat_str"])
    return lambda text: found.encode(text).ids


def splintr(file: str) -> Encode:
    import splintr

    if file.endswith(".json"):
        return splintr.from_json(file).encode_with_special
    return splintr.Tokenizer(file, splintr.CL100K_BASE_PATTERN).encode_ordinary


def kitoken(file: str) -> Encode:
    from kitoken import Kitoken

    found = Kitoken.from_file(file)
    return lambda text: found.encode(text, file.endswith(".json"))


def tokie(file: str) -> Encode:
    from tokie import Tokenizer

    found = Tokenizer.from_json(file)
    return lambda text: found.encode(text, False).ids


def iree(file: str) -> Encode:
    from iree.tokenizer import Tokenizer

    found = Tokenizer.from_file(file) if file.endswith(".json") else Tokenizer.from_tiktoken(file, "cl100k_base")
    return found.encode


def gigatoken(file: str) -> Encode:
    from gigatoken import Tokenizer

    found = Tokenizer(file) if file.endswith(".json") else Tokenizer.from_tiktoken(file)
    return found.encode


def quicktok(file: str) -> Encode:
    import quicktok

    return quicktok.get_encoding("cl100k_base").encode_ordinary


def rs_bpe(file: str) -> Encode:
    import rs_bpe

    return rs_bpe.openai.cl100k_base().encode


def bpe_openai(file: str) -> Encode:
    import bpe_openai

    return bpe_openai.get_encoding("cl100k_base").encode_ordinary


def tokenry(file: str, *, places: bool = False, fast: bool = True) -> Encode:
    from tokenry.segment.engines import encoding
    from tokenry.segment.engines.opening import open_tokenizer

    if not fast:
        encoding.candidates = lambda *_: iter(())
    found: Any = open_tokenizer(f"bpe:special={file.endswith('.json')},source={file}")
    return (lambda text: found.encode(text).ids) if places else found.ids


ARMS: dict[str, Callable[[str], Encode]] = {
    "tokenry, ids": tokenry,
    "tokenry, ids and places": lambda file: tokenry(file, places=True),
    "tokenry without fast libraries": lambda file: tokenry(file, fast=False),
    **{f.__name__: f for f in (tokenizers, tiktoken, fastokens, splintr, kitoken, tokie, iree, gigatoken)},
    **{f.__name__: f for f in (quicktok, rs_bpe, bpe_openai)},
}


def main() -> None:
    """Load, check, time."""
    warnings.simplefilter("ignore")
    name, file, source = sys.argv[1:]
    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    start = time.process_time()
    encode = ARMS[name](file)
    encode("x")
    found: dict[str, Any] = {"load_s": time.process_time() - start}
    start, wall = time.process_time(), time.perf_counter()
    ids = [_try(encode, text) for text in texts["documents"]]
    found["cold_s"], found["cold_wall_s"] = time.process_time() - start, time.perf_counter() - wall
    warm = []
    for _ in range(2):
        start, wall = time.process_time(), time.perf_counter()
        for text in texts["documents"]:
            _try(encode, text)
        warm.append((time.process_time() - start, time.perf_counter() - wall))
    found["warm_s"], found["warm_wall_s"] = map(min, zip(*warm, strict=True))
    found["documents"] = [_mark(i) for i in ids]
    found["hostile"] = [_mark(_try(encode, text)) for text in texts["hostile"]]
    found["peak_mb"] = peak_mb()
    found["runs_ms"] = {}
    for run, (short, long) in texts["runs"].items():
        times = []
        for text in (short, long):
            start = time.process_time()
            _try(encode, text)
            times.append(1000 * (time.process_time() - start))
        found["runs_ms"][run] = times
    sys.stdout.write(json.dumps(found))


def peak_mb() -> float:
    """Most megabytes this program held; a child's `ru_maxrss` begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _try(encode: Encode, text: str) -> Sequence[int] | None:
    try:
        return encode(text)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def _mark(ids: Sequence[int] | None) -> str | None:
    return None if ids is None else hashlib.blake2b(array("q", map(int, ids)).tobytes(), digest_size=8).hexdigest()


if __name__ == "__main__":
    main()

"""Train byte pairs with one library in a process that holds nothing else, and print what it took."""

from __future__ import annotations

import json
import resource
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any


def code(megabytes: int) -> list[str]:
    """Modules of Python's library, so many MB at most."""
    found, size = [], 0
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if size < megabytes * 1_000_000 and "site-packages" not in file.parts:
            found.append(file.read_text(encoding="utf-8", errors="ignore"))
            size += len(found[-1])
    return found


def train(name: str, texts: list[str], size: int) -> None:
    """The vocabulary of so many ids, by one library."""
    if name == "rustbpe":
        import rustbpe

        rustbpe.Tokenizer().train_from_iterator(iter(texts), size)
    elif name == "tokenizers":
        from tokenizers import Tokenizer, models, trainers

        from tokenry.segment.training.trained import byte_level_words

        library = Tokenizer(models.BPE())
        library.pre_tokenizer = byte_level_words()
        library.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, show_progress=False))
    else:
        from tokenry.segment.training.pretokens import counted, words
        from tokenry.segment.training.trainer import learn

        learn(counted(texts, words), size)


def main(name: str, size: int, megabytes: int) -> dict[str, Any]:
    """Seconds of the processor, libraries and compiled loops included, and memory."""
    texts = code(megabytes)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    train(name, texts, size)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds, "megabytes": peak / 1024, "before": before / 1024, "text": sum(map(len, texts)) / 1e6,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

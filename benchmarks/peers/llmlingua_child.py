"""LLMLingua's own package, in an environment of its own: texts come in on standard input, compressed ones go out."""

from __future__ import annotations

import json
import sys
import time

import tiktoken


class Words:
    """In place of an encoding that the package downloads when it is made, only to count tokens in its summary."""

    def encode(self, text: str, **_: object) -> list[str]:
        return text.split()


tiktoken.encoding_for_model = lambda _: Words()

from llmlingua import PromptCompressor  # noqa: E402

out, sys.stdout = sys.stdout, sys.stderr
compressor = PromptCompressor(sys.argv[1], device_map="cpu")
out.write(json.dumps("ready") + "\n")
out.flush()
for line in sys.stdin:
    job = json.loads(line)
    start = time.perf_counter()
    done = compressor.compress_prompt([job["text"]], rate=job["rate"])
    out.write(json.dumps({"text": done["compressed_prompt"], "seconds": time.perf_counter() - start}) + "\n")
    out.flush()

"""One context compressor in a process of its own: requests come in on standard input, shorter ones go out.

What is imported is only what the compressor needs, since the time until the first answer is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Messages = list[dict[str, Any]]
Compress = Callable[[Messages, float], Any]
"""Gives messages, or messages and tools, for messages and the share of tokens that may stay."""

TOKENIZER = "o200k_base"


def headroom(mode: str) -> Compress:
    from headroom import compress

    more = {} if mode == "default" else {"mode": mode}
    return lambda messages, share: (
        compress(messages, model="gpt-4o", protect_recent=0, target_ratio=share, **more).messages
    )


def kompact(_: str) -> Compress:
    from kompact.config import KompactConfig
    from kompact.parser.messages import parse_request, serialize_request
    from kompact.transforms.pipeline import run
    from kompact.types import Provider

    def compress(messages: Messages, share: float) -> Messages:
        # A configuration remembers a short request, so each request gets one of its own.
        parsed = parse_request({"model": "gpt-4o", "messages": messages}, Provider.OPENAI)
        return list(serialize_request(run(parsed, KompactConfig()).request)["messages"])

    return compress


def litellm(_: str) -> Compress:
    import litellm as library

    def compress(messages: Messages, share: float) -> tuple[Messages, list[Any]]:
        target = round(share * library.token_counter(model="gpt-4o", messages=messages))
        found = library.compress(messages, model="gpt-4o", compression_trigger=1, compression_target=target)
        return found["messages"], found["tools"]

    return compress


def llmtrim(preset: str) -> Compress:
    import llmtrim as library

    def compress(messages: Messages, share: float) -> tuple[Messages, list[Any]]:
        request = json.dumps({"model": "gpt-4o", "messages": messages})
        found = json.loads(library.compress(request, library.Provider.OPEN_AI, preset).request_json)
        return found["messages"], found.get("tools", [])

    return compress


def tokenry(use: str) -> Compress:
    from tokenry import compress_messages

    def compress(messages: Messages, share: float) -> Messages:
        methods = [method.format(share=round(min(1.0, max(share, 1e-4)), 5)) for method in use.split(" ")]
        return compress_messages(messages, use=methods, tokenizer=TOKENIZER, floor=0).messages

    return compress


def truncation(_: str) -> Compress:
    from tokenry.models.text.counting import Counter

    counter = Counter.of(TOKENIZER)

    def head(text: str, share: float) -> str:
        low, high, count = 0, len(text), share * counter(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if counter(text[:middle]) <= count else (low, middle - 1)
        return text[:low]

    return lambda messages, share: [
        m | {"content": head(m["content"], share)} if m["role"] == "tool" else m for m in messages
    ]


COMPRESSORS = {f.__name__: f for f in (headroom, kompact, litellm, llmtrim, tokenry, truncation)}

if __name__ == "__main__":
    # Libraries print what they like to standard output.
    out, sys.stdout = sys.stdout, sys.stderr
    run = COMPRESSORS[sys.argv[1]](sys.argv[2])
    for line in sys.stdin:
        job = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            found = run(job["messages"], job["share"])
            said: dict[str, Any] = (
                {"messages": found} if isinstance(found, list) else dict(zip(("messages", "tools"), found, strict=True))
            )
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"[:200]}
        said |= {"ms": 1000 * (time.perf_counter() - wall), "cpu_ms": 1000 * (time.process_time() - cpu)}
        out.write(json.dumps(said | {"since_start_s": time.process_time()}) + "\n")
        out.flush()

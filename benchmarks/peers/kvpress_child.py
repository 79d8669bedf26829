"""One arm in a process of its own: `… WHO ARM FOLDER BUDGET`; it reads prompts and feeds tokens as it is told."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DENSE, SNAP, NORM, STREAM, HEADS = "dense", "snapkv", "key norm", "streaming", "head-wise snapkv"
WINDOW, KERNEL, SINK, FLOOR = 64, 5, 4, 0.2
"""Their defaults, which ours get as well."""


def theirs(folder: str, arm: str, budget: int) -> Generator[Any, Tensor, None]:
    """A press acts while a prompt is read; positions go on as their own pipeline has them go on."""
    import kvpress
    from transformers import AutoModelForCausalLM, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    presses: dict[str, Callable[[float], Any]] = {
        SNAP: lambda ratio: kvpress.SnapKVPress(ratio, window_size=WINDOW, kernel_size=KERNEL),
        NORM: lambda ratio: kvpress.KnormPress(ratio),
        STREAM: lambda ratio: kvpress.StreamingLLMPress(ratio, n_sink=SINK),
        HEADS: lambda ratio: kvpress.AdaKVPress(
            kvpress.SnapKVPress(ratio, window_size=WINDOW, kernel_size=KERNEL), alpha_safeguard=FLOOR
        ),
    }
    prompt = yield
    while True:
        # Half a row more, since what is kept is the whole part of a product.
        ratio, cache = max(0.0, 1 - (budget + 0.5) / len(prompt)), DynamicCache()
        with presses[arm](ratio)(model) if arm in presses else nullcontext():
            model(input_ids=prompt[None], past_key_values=cache, logits_to_keep=1)
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        at, given = len(prompt), (yield held)
        while given.ndim == 0:
            out = model(input_ids=given.view(1, 1), past_key_values=cache, position_ids=torch.tensor([[at]]))
            at, given = at + 1, (yield out.logits[0, -1])
        prompt = given


def ours(folder: str, arm: str, budget: int) -> Generator[Any, Tensor, None]:
    """The method that does the same. A window goes on forgetting, so it gets the rows that theirs has on average."""
    from benchmarks.forced import dense, read, using
    from tokenry.attend.running.run import held_bytes
    from tokenry.models.cache.name import with_cache
    from tokenry.models.files.load import load

    language = load(folder, dtype="float32")
    snap = f"budget={budget},window={WINDOW},kernel={KERNEL}"
    specs = {
        SNAP: f"snapkv:{snap}", NORM: f"key_norm:budget={budget},dense_layers=0",
        STREAM: f"window:budget={budget + FED // 2}:sink={SINK}",
        HEADS: f"adaptive_heads:inside=snapkv[{snap}],floor={FLOOR}",
    }  # fmt: skip
    attach = using(language, specs[arm]) if arm in specs else dense(language)
    prompt = yield
    while True:
        with attach(len(prompt)):
            cache, _ = read(language, prompt)
            given = yield held_bytes(cache)
            while given.ndim == 0:
                out = language.model(input_ids=given.view(1, 1), **with_cache(cache))
                given = yield out.logits[0, -1]
        prompt = given


FED = 32
"""Tokens that are fed after every prompt."""
ARMS = {"tokenry": ours, "kvpress": theirs}


@torch.inference_mode()
def main() -> None:
    """Do what standard input asks for, line by line, and tell what it took of the processor."""
    who, arm, folder, budget = sys.argv[1:]
    torch.set_num_threads(1)
    run = ARMS[who](folder, arm, int(budget))
    next(run)
    run.send(torch.arange(2 * WINDOW))
    run.send(torch.tensor(0))
    _say({"resident": _memory("VmRSS")})
    for line in sys.stdin:
        told = json.loads(line)
        _anew()
        ids = torch.tensor(told["ids"])
        if told["task"] == "read":
            start = time.process_time()
            held = run.send(ids)
            _say({"seconds": time.process_time() - start, "held": held, "peak": _memory("VmHWM")})
            continue
        rows, seconds = [], []
        for token in ids:
            start = time.process_time()
            rows.append(run.send(token))
            seconds.append(time.process_time() - start)
        if told["file"]:
            torch.save(torch.stack(rows).float(), told["file"])
        _say({"seconds": seconds, "peak": _memory("VmHWM")})


def _anew() -> None:
    """Count the peak of memory from here on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""One layer, one decoding step: append a token and attend, with caches filled to several lengths."""

from __future__ import annotations

import argparse
import time
from itertools import product
from statistics import median
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function

from benchmarks.record import Record, Row, claim, take_turns
from benchmarks.tables import Result, Table, by, fixed, fold, show
from tokenry import parse
from tokenry.attend.running.run import Run
from tokenry.models.attention.mask import MaskFacts, Rule, note_facts
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer

TITLE = "One decoding step in one layer"
SUBJECTS = ("the cache",)
ABOUT = (
    "Attention in the geometry of SmolLM2-135M (9 query heads, 3 KV heads of width 64) over random keys. A step "
    "appends one token and attends. `transformers` is its default cache, which concatenates, with the SDPA call "
    "it makes itself; all other arms write in place. The weights of a layer are read between two steps, so no "
    "arm finds its keys in the processor's cache. The arms take turns; shown is the best round, which nobody "
    "else on the machine disturbed. `token_select` scores all keys when it chooses anew; a reused choice costs "
    "what its 256 rows cost, and how often it is reused depends on the text (see fidelity)."
)

HEADS, GROUPS, WIDTH = 9, 3, 64
"""Query heads, KV heads and head width of SmolLM2-135M."""

BASE = "transformers"
DENSE = "tokenry dense"
METHODS = {
    "token_select, new choice": "token_select:budget=256,reuse=1.01",
    "token_select, reused choice": "token_select:budget=256,reuse=0.9",
    "window": "window:budget=256",
}
LENGTHS = (2048, 8192, 32768)
REPEATS = 21
DTYPES = {"float32": (torch.float32, 1e-4), "bfloat16": (torch.bfloat16, 2e-2)}
LAYER_BYTES, LAYERS = 14 << 20, 30
"""Weights of one layer in 32 bits, read before its step is timed, and layers of a model: caches are met cold."""
STACK_BYTES = 192 << 20
"""Fewer layers are taken where the caches of so many would hold more than this."""


class Arm(Protocol):
    """One layer's way to hold keys and values and to read them."""

    def prepare(self) -> None:
        """What a model does once per step for all layers; it is not timed."""

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the new token; give what attention may read."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention output (B, Q, H, D)."""


class Transformers:
    """The cache and the attention function that transformers itself takes by default."""

    def __init__(self, k: Tensor, v: Tensor, heads: int = HEADS) -> None:
        self.layer = DynamicLayer()
        self.layer.update(k, v)
        self.module: Any = SimpleNamespace(num_key_value_groups=heads // k.shape[1], is_causal=True)

    def prepare(self) -> None:
        """Its mask is None for one query without padding."""

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.update(k, v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa_attention_forward(self.module, q, k, v, None, scaling=q.shape[-1] ** -0.5)[0]


class Tokenry:
    """The in-place cache, read densely or through a method, by the path that an attached model takes."""

    def __init__(self, k: Tensor, v: Tensor, spec: str | None = None) -> None:
        self.buffer = KVBuffer()
        self.buffer.update(k, v)
        self.run = None if spec is None else Run(parse(spec))
        self.handler = Site.dense if self.run is None else self.run.handler(None)
        self.facts: MaskFacts | None = None

    def prepare(self) -> None:
        seen, rule = self.buffer.seen, cast("Rule", causal_mask_function)
        self.facts = note_facts(1, 1, seen + 1, seen, mask_function=rule)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.buffer.update(k, v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        buffer = self.buffer
        site = Site(
            layer=0, q=q, k=k, v=v, scale=q.shape[-1] ** -0.5, facts=self.facts, columns=buffer.columns,
            holes=buffer.ragged, buffer=buffer, decoding=True,
        )  # fmt: skip
        return self.handler(site).transpose(1, 2).contiguous()


def main() -> None:
    """Measure every length in both dtypes, or quickly, which is printed and not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="the shortest cache and few rounds, not recorded")
    options.add_argument("--threads", type=int, default=1, help="threads of torch; one is disturbed least")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    lengths, repeats = (LENGTHS[:1], 5) if given.quick else (LENGTHS, REPEATS)
    record = Record(
        "attend/decode_layer", options=f"--threads {given.threads}" if given.threads != 1 else "",
        dtype="float32 and bfloat16", settings={"lengths": lengths, "repeats": repeats, "methods": METHODS},
        save=not given.quick,
    )  # fmt: skip
    for (dtype, (kind, tolerance)), length in product(DTYPES.items(), lengths):
        if record.find(dtype=dtype, length=length) is None:
            prove(length, kind, tolerance)
            record.add(*measure(length, dtype, kind, repeats))
    show(record.finish(claims(record)), tables)


@torch.inference_mode()
def prove(length: int, kind: torch.dtype, tolerance: float) -> None:
    """Every arm that is exact must give what transformers gives; without this no time is printed."""
    k, v, step = _tensors(length, kind)
    base = Transformers(k, v)
    arms = {DENSE: Tokenry(k, v)} | {
        name: Tokenry(k, v, f"{spec.partition(':')[0]}:budget=1000000") for name, spec in METHODS.items()
    }
    for _ in range(3):
        expected = step_of(base, *step)[0]
        for name, arm in arms.items():
            error = (step_of(arm, *step)[0] - expected).abs().max().item()
            if not error <= tolerance:
                raise SystemExit(f"decode_layer: {name} must equal transformers within {tolerance:g}; got {error:.2g}.")


@torch.inference_mode()
def measure(length: int, dtype: str, kind: torch.dtype, repeats: int) -> list[Row]:
    """Milliseconds of append and attention in one layer for every arm at one length."""
    k, v, step = _tensors(length, kind)
    count = min(LAYERS, max(4, STACK_BYTES // (k.nbytes + v.nbytes)))
    arms: dict[str, list[Arm]] = {BASE: [Transformers(k, v) for _ in range(count)]}
    for name, spec in {DENSE: None, **METHODS}.items():
        arms[name] = [Tokenry(k, v, spec) for _ in range(count)]
    weights = torch.zeros(LAYERS, LAYER_BYTES // 4)

    def timed(layers: list[Arm]) -> tuple[float, float]:
        parts = []
        for layer, passing in zip(layers, weights, strict=False):
            passing.sum()
            parts.append(step_of(layer, *step)[1])
        return sum(a for a, _ in parts) / count, sum(b for _, b in parts) / count

    turns = {name: (lambda layers=layers: timed(layers)) for name, layers in arms.items()}
    take_turns(turns, 3)
    times = take_turns(turns, repeats)
    # The best round is the one that nobody else on the machine disturbed; append and attention are those of it.
    best = {name: min(pairs, key=sum) for name, pairs in times.items()}
    return [
        {
            "dtype": dtype, "length": length, "arm": name,
            "append_ms": ms_of(append), "attention_ms": ms_of(attention), "step_ms": ms_of(append + attention),
            "median_step_ms": ms_of(median(map(sum, times[name]))),
            "times_faster": round(sum(best[BASE]) / (append + attention), 2),
            "grow_ms": _grow(k, v, step) if name == DENSE else None,
        }
        for name, (append, attention) in best.items()
    ]  # fmt: skip


def claims(record: Record) -> list[dict[str, Any]]:
    """The in-place cache wins clearly at the longest length and does not lose at the shortest."""
    found = []
    for dtype in DTYPES:
        for length, needed in ((2048, 0.95), (32768, 2.0)):
            row = record.find(dtype=dtype, length=length, arm=DENSE)
            if row:
                text = f"{dtype}, {length:,} tokens: step of the in-place cache, times faster than transformers' cache"
                found.append(claim(text, row["times_faster"], at_least=needed))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    heads = ("cached tokens", "arm", "append ms", "attention ms", "step ms", "times faster")
    return [
        Table(
            f"{dtype}, one layer, best of {document['settings']['repeats']} rounds",
            heads,
            [
                (f"{r['length']:,}", r["arm"], *(fixed(r[ms], 3) for ms in ("append_ms", "attention_ms", "step_ms")),
                 fold(r["times_faster"]))
                for r in rows
            ],
            words=2,
        )
        for dtype, rows in by(document["rows"], "dtype")
    ]  # fmt: skip


def step_of(arm: Arm, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The output of one step, and the seconds of its append and of its attention."""
    arm.prepare()
    start = time.perf_counter()
    keys, values = arm.append(k, v)
    middle = time.perf_counter()
    out = arm.attend(q, keys, values)
    return out, (middle - start, time.perf_counter() - middle)


def _grow(k: Tensor, v: Tensor, step: tuple[Tensor, Tensor, Tensor]) -> float:
    """Milliseconds of the rare append for which the buffer must move to a larger one."""
    times = []
    for _ in range(3):
        buffer = KVBuffer()
        buffer.update(k, v)
        room = buffer.allocated_bytes // (k[:, :, :1].nbytes + v[:, :, :1].nbytes) - buffer.held
        buffer.update(k[:, :, :room], v[:, :, :room])
        start = time.perf_counter()
        buffer.update(step[1], step[2])
        times.append(time.perf_counter() - start)
    return ms_of(min(times))


def _tensors(length: int, kind: torch.dtype) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    dice = torch.Generator().manual_seed(length)

    def draw(heads: int, tokens: int) -> Tensor:
        return torch.randn(1, heads, tokens, WIDTH, generator=dice).to(kind)

    return draw(GROUPS, length), draw(GROUPS, length), (draw(HEADS, 1), draw(GROUPS, 1), draw(GROUPS, 1))


def ms_of(seconds: float) -> float:
    """Milliseconds for a result."""
    return round(seconds * 1000, 4)


if __name__ == "__main__":
    main()

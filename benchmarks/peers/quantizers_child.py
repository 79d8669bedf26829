"""One quantizer in a process of its own: `… lookup ARM CODES WIDTH VECTORS FILE` or `… learn ARM STEPS`."""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.autoencoder import HELD_OUT, PHOTOGRAPHS, Middle, Passed, Quantized, looks, photographs, psnr, trained

PAIRS = 1 << 24
"""Pairs of vectors and codes that arms which hold all of them get at a time."""
ENOUGH = 20.0
"""Seconds of measuring after which no further round begins."""
ROUNDS = 3
CODES, WIDTH, SEED, TILES = 512, 16, 0, 512

Find = Callable[[Tensor], Tensor]


def plain(table: Tensor) -> Find:
    half, turned = -0.5 * table.square().sum(1), table.T.contiguous()
    return lambda rows: _sliced(lambda part: torch.addmm(half, part, turned).argmax(1), rows, 1024)


def nearest(table: Tensor) -> Find:
    from tokenry.quantize.search.nearest import nearest_code

    return lambda rows: nearest_code(rows, table)


def ours(table: Tensor) -> Find:
    from tokenry.quantize.vq import VQ

    quantizer = VQ(codes=len(table)).build(width=table.shape[1]).eval()
    quantizer.book.begin(table)
    return lambda rows: quantizer.quantize(rows).codes[:, 0]


def faiss(table: Tensor) -> Find:
    import faiss as library

    library.omp_set_num_threads(1)
    index = library.IndexFlatL2(table.shape[1])
    index.add(table.numpy())
    return lambda rows: torch.from_numpy(index.search(rows.numpy(), 1)[1][:, 0])


def theirs(table: Tensor) -> Find:
    from vector_quantize_pytorch import VectorQuantize

    quantizer = VectorQuantize(dim=table.shape[1], codebook_size=len(table)).eval()
    quantizer._codebook.embed.data.copy_(table)
    return lambda rows: _sliced(lambda part: quantizer(part)[1], rows, max(1, PAIRS // len(table)))


def _sliced(find: Find, rows: Tensor, size: int) -> Tensor:
    """The codes of some rows at a time."""
    found = torch.empty(len(rows), dtype=torch.long)
    for at in range(0, len(rows), size):
        found[at : at + size] = find(rows[at : at + size])
    return found


LOOKUP: dict[str, Callable[[Tensor], Find]] = {f.__name__: f for f in (plain, nearest, ours, faiss, theirs)}


class Theirs(Middle):
    """Their quantizer in the middle."""

    def __init__(self, **settings: Any) -> None:
        from vector_quantize_pytorch import VectorQuantize

        super().__init__()
        self.quantizer = VectorQuantize(dim=WIDTH, codebook_size=CODES, **settings)

    def forward(self, z: Tensor) -> Passed:
        values, codes, loss = self.quantizer(z)
        return Passed(values, codes.unsqueeze(-1), loss.sum())


def tokenry(spec: str) -> Middle:
    from tokenry.core.registry import parse

    return Quantized(parse(spec).build(width=WIDTH, generator=torch.Generator().manual_seed(SEED)))


EQUAL = {
    "decay": 0.99, "kmeans_init": True, "kmeans_iters": 10, "threshold_ema_dead_code": 1, "commitment_weight": 0.25,
    "rotation_trick": False,
}  # fmt: skip
LEARN: dict[str, Callable[[], Middle]] = {
    "theirs": Theirs,
    "theirs as ours": lambda: Theirs(**EQUAL),
    "ours": lambda: tokenry("vq"),
}


def lookup(arm: str, codes: int, width: int, vectors: int, file: str) -> dict[str, float]:
    """Seconds of the best round and the memory of the worst one; the codes go to the file."""
    generator = torch.Generator().manual_seed(SEED)
    table = torch.randn(codes, width, generator=generator)
    rows = torch.randn(vectors, width, generator=generator)
    find = LOOKUP[arm](table)
    find(rows[:2048])
    before, seconds = _memory("VmRSS", fresh=True), []
    while len(seconds) < ROUNDS and sum(seconds) < ENOUGH:
        start = time.process_time()
        found = find(rows)
        seconds.append(time.process_time() - start)
    extra = _memory("VmHWM") - before
    Path(file).write_bytes(found.int().numpy().tobytes())
    return {"seconds": min(seconds), "rounds": len(seconds), "extra_mib": extra / 1024}


def learn(arm: str, steps: int) -> dict[str, float]:
    """An autoencoder with this quantizer in its middle."""
    from tokenry.quantize.usage.tally import Tally

    training = photographs(PHOTOGRAPHS, 16)
    torch.manual_seed(SEED)
    model, seconds = trained(LEARN[arm](), WIDTH, training, steps=steps, seed=SEED)
    tally = Tally(CODES)
    with torch.no_grad():
        for tiles in looks(training, TILES):
            tally.add(model(tiles)[1].codes.flatten())
    quality = psnr(model, photographs(HELD_OUT, 32))
    return {"psnr": quality, "usage": tally.used / CODES, "perplexity": tally.perplexity, "seconds": seconds}


def _memory(which: str, *, fresh: bool = False) -> int:
    """Kilobytes this process holds, or held at most since the last `fresh`."""
    if fresh:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(rf"{which}:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def main() -> None:
    """Do what the arguments say."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    task, arm, *rest = sys.argv[1:]
    if task == "lookup":
        codes, width, vectors = map(int, rest[:3])
        with torch.no_grad():
            found = lookup(arm, codes, width, vectors, rest[3])
    else:
        found = learn(arm, int(rest[0]))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

"""One transfer in a process of its own: `… ARM MODEL DONOR OUT ATOMS` writes a folder and prints what it took."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

THEIRS = {
    "tokensurgeon, omp": ("omp",),
    "tokensurgeon, common interpolation": ("common_interpolation",),
    "tokensurgeon, subword": ("subword",),
    "tokensurgeon, landmark pca": ("landmark_pca",),
    "tokensurgeon, sparse token basis": ("stb",),
}
OURS = {
    "matching_pursuit": "matching_pursuit:model={donor},atoms={atoms}",
    "mean_of_pieces": "mean_of_pieces",
    "length_weighted": "length_weighted",
    "token_adapt": "token_adapt",
}
ARMS = (*THEIRS, *OURS)
PURSUIT = "pursuit"
"""Only the pursuit, over vectors of a file, so that choices and weights can be compared."""


def theirs(arm: str, model: str, donor: str, out: str, atoms: int) -> None:
    """The command of mergekit in this process."""
    from mergekit.scripts.tokensurgeon import main

    [method] = THEIRS[arm]
    arguments = [model, donor, out, "--approximation-method", method, "-k", str(atoms)]
    main(arguments, standalone_mode=False)


def ours(arm: str, model: str, donor: str, out: str, atoms: int) -> None:
    """The same transfer by a method of this project, written as `tokenry adapt` writes it."""
    from tokenry.core.registry import parse
    from tokenry.embed.base import EmbeddingTable
    from tokenry.models.files.load import load, load_tokenizer

    method = parse(OURS[arm].format(donor=donor, atoms=atoms))
    assert isinstance(method, EmbeddingTable)
    made = method.transfer(load(model, dtype="float32"), load_tokenizer(donor))
    made.model.save_pretrained(out)
    made.tokenizer.save_pretrained(out)


def pursuit(source: str, out: str, atoms: int) -> None:
    """Atoms and weights by mergekit for the vectors of a file."""
    from mergekit.tokensurgeon.omp import batch_omp
    from safetensors.torch import load_file, save_file

    found = load_file(source)
    chosen, weights = batch_omp(found["wanted"], found["atoms"], atoms)
    save_file({"chosen": chosen, "weights": weights.contiguous()}, out)


def main() -> None:
    """Do it, and tell seconds of the processor and the most that was held, libraries included."""
    arm, *places, atoms = sys.argv[1:]
    start = time.process_time()
    if arm == PURSUIT:
        pursuit(places[0], places[1], int(atoms))
    else:
        (theirs if arm in THEIRS else ours)(arm, *places, int(atoms))  # type: ignore[call-arg]
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
    sys.stdout.write("\n" + json.dumps({"seconds": round(time.process_time() - start, 2), "peak_mb": round(peak)}))


if __name__ == "__main__":
    main()

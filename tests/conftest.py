"""Shapes written in signatures are checked while tests run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import install_import_hook

from tests.progress import Meter, Progress, workers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Also for the processes that tests start: workers that compute in several threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Methods take text and numbers for their fields, which a check of types would refuse; their rooms are checked.
SHAPED = (
    *(f"core.{name}" for name in ("fate", "origin")),
    *(f"models.attention.{name}" for name in ("mask", "site")),
    *(f"models.cache.{name}" for name in ("kv", "packed", "ragged", "reads", "prefix")),
    *(f"models.text.{name}" for name in ("embeddings", "lookup", "marks")),
    *(f"models.generate.{name}" for name in ("answer", "session", "step")),
    *("models.signals.vision_language", "data.collages", "recipes.collage_lessons"),
    *("embed.base", *(f"embed.transfer.{name}" for name in ("bits", "donor", "mixture", "neighbours", "surfaces"))),
    *("embed.transfer.transplant", "soft.training.answer_loss", "soft.training.examples"),
    *(f"soft.prompts.{name}" for name in ("beginnings", "mixed", "rows")),
    *("decode.sampling", "segment.engines.encoding", "segment.engines.spans"),
    *(f"segment.spelling.{name}" for name in ("respeller", "respelling", "splits")),
    *("learn.base", "learn.selection.labels", "learn.selection.selective"),
    *(f"probe.views.{name}" for name in ("losses", "rows", "sight")),
    *("quantize.codebooks.codebook", "quantize.search.means", "quantize.search.nearest"),
    *(f"signal.streams.{name}" for name in ("new_rows", "stream", "vocabulary", "grammar", "layout", "packing")),
    *(f"signal.sounds.{name}" for name in ("sample_grid", "code_order", "frame_stream")),
    *(f"signal.pictures.{name}" for name in ("patch_grid", "tiles", "pixel_unshuffle")),
    *("attend.base", "attend.rows.choose"),
    *("compress.base", "compress.kept.fit", "compress.kept.recover", "compress.kept.text", "compress.units.document"),
)
install_import_hook([f"tokenry.{name}" for name in SHAPED], "beartype.beartype")
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Meter(), "meter")
    if not hasattr(config, "workerinput") and config.get_verbosity() < 0:
        config.pluginmanager.register(Progress(config), "progress")


def pytest_xdist_auto_num_workers() -> int:
    return workers()


@dataclass(frozen=True)
class Outcome:
    """What a command gave back."""

    status: int
    out: str
    err: str


@pytest.fixture
def tokenry(monkeypatch, capfd):
    """Call `tokenry …` in this process, which has loaded everything already."""
    from tokenry.apps.cli.main import main

    def call(*arguments):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["tokenry", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(end.value.code or 0), out, err)

    return call


@pytest.fixture
def arms_here(monkeypatch):
    """Arms of a comparison run in this process; some tests leave them their own, to see that they have one."""
    from tokenry.pipeline import arm, compare

    monkeypatch.setattr(compare, "spawn", arm.run)


@pytest.fixture(scope="session")
def smollm2():
    """The default model in 32-bit floats, or a skip with the command that fetches it."""
    from tokenry.core.errors import UnknownModel
    from tokenry.models.files.load import load

    try:
        return load("smollm2", dtype="float32", device="cpu")
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def minilm():
    """The small encoder in 32-bit floats, or a skip with the command that fetches it."""
    from tokenry.core.errors import UnknownModel
    from tokenry.models.files.load import load_encoder

    try:
        return load_encoder("minilm", dtype="float32")
    except UnknownModel as error:
        pytest.skip(str(error))

"""Shapes written in signatures are checked while tests run."""

from __future__ import annotations

import os
import subprocess

import pytest
import torch
from jaxtyping import install_import_hook

from tests import browser

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Methods take text and numbers for their fields, which a check of types would refuse; their rooms are checked.
SHAPED = (
    *(f"core.{name}" for name in ("fate", "origin")),
    *(f"models.attention.{name}" for name in ("mask", "site")),
    *(f"models.cache.{name}" for name in ("kv", "ragged", "reads", "prefix")),
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
def small(tmp_path_factory, smollm2):
    """A folder with random weights, and the default model's tokenizer and a context of 2,048 tokens."""
    from tokenry.models.files.tiny import tiny

    folder = tmp_path_factory.mktemp("small") / "model"
    model = tiny("llama", vocab_size=len(smollm2.tokenizer), max_position_embeddings=2048)
    model.save_pretrained(folder)
    smollm2.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def minilm():
    """The small encoder in 32-bit floats, or a skip with the command that fetches it."""
    from tokenry.core.errors import UnknownModel
    from tokenry.models.files.load import load_encoder

    try:
        return load_encoder("minilm", dtype="float32")
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.fixture
def chromium(tmp_path):
    """Open a page in a browser without a window and give its document back as it stands after its scripts ran."""
    program = browser.find()
    if program is None:
        pytest.skip("needs chromium")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    still = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet, "--virtual-time-budget=4000"]

    def open_page(file, state="", *options):
        command = [program, *still, f"--user-data-dir={tmp_path / 'profile'}", *options, file.as_uri() + state]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return open_page

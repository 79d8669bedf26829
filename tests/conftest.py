"""Shapes written in signatures are checked while tests run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

import tokenry
from tests import browser
from tests.progress import Meter, Progress, workers

# Processes that tests start find what this one found.
HERE = (os.environ.get("PYTHONPATH"), str(Path(tokenry.__file__).parents[1]), str(Path(__file__).parents[1]))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, HERE))

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


@pytest.fixture(scope="session", autouse=True)
def the_same_everywhere(tmp_path_factory):
    """`auto` is the processor and 32-bit floats on every machine, and nothing that another run kept is read.

    Models that were converted as they are converted now are shared, since that takes long.
    """
    from tokenry.models.files import store
    from tokenry.models.files.catalog import ALIASES

    own = tmp_path_factory.mktemp("cache")
    (own / "models").mkdir()
    for name, alias in ALIASES.items():
        if alias.module and store.place(name) == store.folder() / name:
            (own / "models" / name).symlink_to((store.folder() / name).resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENRY_CACHE", str(own))
        patch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            patch.setattr(torch.cpu, name, lambda: False)
        yield


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell starts what runs in the background so, and the processes that tests start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
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

"""Every promise over bytes that hypothesis draws, and in the slow lane over bytes that atheris looks for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.cases import cases
from tests.fuzz.targets import all_targets
from tests.growth import growth
from tokenry.core.errors import UnknownModel
from tokenry.segment.base import Tokenizer

SECONDS = 20
TOKENIZERS = [case for case in cases("segment") if issubclass(case.method, Tokenizer)]
RUNS = ("a", "\u0301", "1.", "evlerimizdekilerden", "\0", "\u200b", "עברית ")
pytestmark = pytest.mark.filterwarnings("ignore::tokenry.segment.engines.encoding.LostBytes")

NEEDS = {"sentencepiece": "sentencepiece", "tiktoken": "tiktoken", "tekken": "tiktoken"}
"""Libraries without which a format is not read."""


@pytest.mark.parametrize("name", all_targets())
@settings(max_examples=25, deadline=None, database=None)
@given(data=st.binary(max_size=80))
def test_promises_over_any_bytes(name, data):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    try:
        all_targets()[name](data)
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("case", TOKENIZERS, ids=[c.entry.name for c in TOKENIZERS])
@pytest.mark.parametrize("piece", RUNS, ids=range(len(RUNS)))
def test_time_is_linear(case, piece):
    """Runs of one kind, for which merging or looking back could take time with the square of their length."""
    tokenizer = case.trial()
    try:
        tokenizer.encode("x")
    except UnknownModel as error:
        pytest.skip(str(error))
    assert growth(lambda size: tokenizer.encode(piece * (size // len(piece))), 24_000) < 4


@pytest.mark.slow
@pytest.mark.parametrize("name", all_targets())
def test_promises_over_bytes_that_reach_far(name, tmp_path):
    """A bounded run that is guided by what the code does; what it finds is printed."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris must be installed to look for bytes that reach far; pip install 'tokenry[fuzz]'")
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS), "--corpus", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + 200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

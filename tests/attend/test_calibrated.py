"""What is found or learned for one model: bad samples have their sentence, and another model is refused."""

from __future__ import annotations

import pytest
import torch

from tests.attend.feeding import tokens
from tests.tinies import shared
from tokenry.attend.calibrated.boundaries import Boundaries
from tokenry.attend.calibrated.frequencies import Frequencies
from tokenry.attend.calibrated.heads import Heads
from tokenry.attend.dhsa import Dhsa
from tokenry.attend.fasa import Fasa
from tokenry.attend.sink_calibration import SinkCalibration
from tokenry.attend.still import Still
from tokenry.core.errors import Incompatible, InvalidValue, StorageError
from tokenry.models.files.tiny import tiny

TEXT = [tokens(1, 64)[0]]


def begin(model, kind, samples=TEXT):
    if kind is Fasa:
        return Frequencies.calibrate(model, samples)
    if kind is Dhsa:
        return Boundaries.fit(model, samples, chunk=4, steps=1)
    if kind is SinkCalibration:
        return Heads.calibrate(model, samples, method=SinkCalibration(heads=(1,)))
    return Still.begun(model, (1,), chunk=8)


def using(kind, folder):
    """The method with what a folder holds."""
    if kind is Still:
        return Still.load(folder)
    return kind(**{"predictor" if kind is Dhsa else "calibration": str(folder)})


KINDS = [Fasa, Dhsa, SinkCalibration, Still]


@pytest.mark.parametrize("kind", KINDS)
def test_it_serves_its_own_model_and_no_other(tmp_path, kind):
    """Also none of the same sizes; in half precision the model is the same."""
    model = shared("llama")
    begin(model, kind).save(tmp_path / "found")
    for same in (model, tiny("llama").bfloat16()):
        with using(kind, tmp_path / "found")(same):
            same(tokens(1, 9), use_cache=True)
    other = tiny("llama")
    other.get_input_embeddings().weight.data.mul_(1.5)
    for another in (other, shared("qwen3"), shared("gpt_oss")):
        with pytest.raises(Incompatible, match="must be of this model"):
            using(kind, tmp_path / "found")(another).__enter__()


@pytest.mark.parametrize("kind", [Fasa, Dhsa, SinkCalibration])
def test_a_folder_that_is_none_has_its_sentence(tmp_path, kind):
    field = "predictor" if kind is Dhsa else "calibration"
    for value, sentence in ((3, f"{field} must be text; got 3"), ("", f"{field} must be the path of a folder")):
        with pytest.raises(InvalidValue, match=sentence):
            kind(**{field: value})
    with pytest.raises(StorageError, match="must be a readable JSON file"):
        kind(**{field: tmp_path / "nowhere"})(shared("llama")).__enter__()
    begin(shared("llama"), Still).save(tmp_path / "other")
    with pytest.raises(StorageError, match="got 'attend/still'"):
        kind(**{field: tmp_path / "other"})(shared("llama")).__enter__()


@pytest.mark.parametrize("kind", [Fasa, Dhsa, SinkCalibration])
@pytest.mark.parametrize(
    "samples", [[], [tokens(1, 5)[0]], [tokens(2, 64)], [torch.rand(64)], ["text"], [*TEXT, tokens(1, 7)[0]]]
)
def test_samples_that_are_none_have_their_sentence(kind, samples):
    with pytest.raises(InvalidValue, match="samples must be at least one text, each a row of 8 "):
        begin(shared("llama"), kind, samples)


@pytest.mark.parametrize("kind", [Fasa, Dhsa, SinkCalibration])
def test_rows_of_one_tensor_are_samples(kind):
    made = [begin(shared("llama"), kind, samples) for samples in (tokens(2, 64), list(tokens(2, 64)))]
    assert made[0].digest() == made[1].digest()


@pytest.mark.parametrize(
    "setting", [{"chunk": 0}, {"chunk": -3}, {"chunk": 4096}, {"steps": 0}, {"ratio": 0.5}, {"rate": 0}]
)
def test_settings_of_learning_are_bounded(setting):
    with pytest.raises(InvalidValue, match="chunk must be in "):
        Boundaries.fit(shared("llama"), TEXT, **setting)

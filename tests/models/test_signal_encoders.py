"""Encoders of pictures and sounds: read from what packages carry, in full, and refused where damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from difflib import SequenceMatcher

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, interpolate
from transformers import AutoTokenizer, Dinov2Model, ViTConfig, ViTModel, WhisperForConditionalGeneration

from tests.models.exported import (
    field,
    multiplication,
    packed,
    published,
    tensor,
    tiny_dinov2,
    tiny_whisper,
    write_ctranslate2,
    write_onnx,
)
from tokenry import data
from tokenry.core.errors import InvalidValue, StorageError, UnknownModel, UnsupportedModel
from tokenry.models.files import store
from tokenry.models.files.catalog import ALIASES
from tokenry.models.files.load import load
from tokenry.models.files.onnx_vit import PREPROCESSOR
from tokenry.models.signals.encoders import load_speech, load_vision


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1


def bytes_of(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vision():
    return ready(load_vision)


@pytest.fixture(scope="module")
def speech():
    return ready(load_speech)


def ready(loading):
    try:
        return loading(dtype="float32", device="cpu")
    except UnknownModel as error:
        pytest.skip(str(error))


# Files of packages


def test_a_vit_in_an_onnx_file_is_the_model_that_was_exported(tmp_path):
    model = tiny_dinov2()
    write_onnx(published(model, tmp_path / "hub"), tmp_path / "vit.onnx")
    made = store.convert(tmp_path / "vit.onnx", tmp_path / "made")
    again, report = Dinov2Model.from_pretrained(made, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    pixels = noise(2, 3, 42, 70)
    with torch.no_grad():
        assert torch.equal(again(pixels).last_hidden_state, model(pixels).last_hidden_state)
    assert load_vision(str(made), dtype="float32", device="cpu").patch == 14


def test_a_whisper_in_a_ctranslate2_folder_is_the_model_that_was_exported(tmp_path):
    model = tiny_whisper()
    write_ctranslate2(published(model, tmp_path / "hub"), {"encoder": 2, "decoder": 4}, tmp_path / "bin")
    made = store.convert(tmp_path / "bin", tmp_path / "made")
    again, report = WhisperForConditionalGeneration.from_pretrained(made, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    inputs = {"input_features": noise(1, 80, 3000), "decoder_input_ids": torch.tensor([[50257, 50362, 7]])}
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    encoder = load_speech(str(made), dtype="float32", device="cpu")
    assert encoder.features(noise(16_000)).shape == (50, 32)
    assert sum(p.numel() for p in encoder.model.parameters()) < 100_000, "the decoder's vocabulary is held"


UNNAMED = field(5, tensor("onnx::Concat_1", np.zeros((1, 1, 8)))) + field(5, tensor("onnx::R", np.zeros((1, 4, 8))))
DAMAGED_ONNX = {
    "nothing": b"",
    "zeros": bytes(64),
    "no graph": field(1, 8),
    "no tensor": field(7, b""),
    "a graph that is a number": field(7, 5),
    "a number that does not end": b"\xff" * 8,
    "behind the end": field(7, b"")[:-1] + b"\x7f",
    "fewer numbers than its shape": field(7, field(5, tensor("w", np.zeros((2, 2)))[:-20] + field(9, bytes(4)))),
    "a name that is a number": field(7, field(5, field(1, 1) + field(2, 1) + field(8, 1 << 50) + field(9, bytes(4)))),
    "a name that is no text": field(7, field(5, field(1, 1) + field(2, 1) + field(8, b"\xff") + field(9, bytes(4)))),
    "too many tensors": field(7, b"".join(field(5, tensor(f"w{n}", np.zeros(1))) for n in range(5000))),
    "positions alone": field(7, UNNAMED),
    "another model": field(
        7, UNNAMED + field(5, tensor("onnx::w", np.zeros((8, 8)))) + field(1, multiplication("head", "onnx::w"))
    ),
}


@pytest.mark.parametrize("data", DAMAGED_ONNX.values(), ids=DAMAGED_ONNX)
def test_damaged_onnx_files_are_refused(tmp_path, data):
    (tmp_path / "vit.onnx").write_bytes(data)
    with pytest.raises(StorageError, match=r"vit\.onnx: must be a whole ONNX file"):
        store.convert(tmp_path / "vit.onnx", tmp_path / "models" / "made")
    assert os.listdir(tmp_path / "models") == [".made.lock"]


ONE = {"w": np.zeros(4, np.float32)}
EMBEDDINGS = {"decoder/embeddings/weight": np.zeros((51_864, 2), np.float16)}
DAMAGED_BIN = {
    "nothing": b"",
    "zeros": bytes(64),
    "another layout": packed(ONE, {}, "TransformerSpec"),
    "another version": b"\x09" + packed(ONE, {})[1:],
    "truncated": packed(ONE, {})[:-8],
    "too many arrays": packed(ONE, {})[:22] + b"\xff" * 4,
    "more dimensions than any": packed({"w": np.zeros((1,) * 5, np.float32)}, {}),
    "fewer bytes than its shape": packed(ONE, {}).replace(b"\x04\0\0\0\0\x10\0\0\0", b"\x05\0\0\0\0\x10\0\0\0"),
    "a second name of nothing": packed(ONE, {"v": "u"}),
    "no weights of a Whisper": packed(ONE, {}),
    "a multilingual vocabulary": packed({"decoder/embeddings/weight": np.zeros((51_865, 2), np.float16)}, {}),
    "a vocabulary alone": packed(EMBEDDINGS, {}),
}


@pytest.mark.parametrize("data", DAMAGED_BIN.values(), ids=DAMAGED_BIN)
def test_damaged_ctranslate2_files_are_refused(tmp_path, data):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "model.bin").write_bytes(data)
    with pytest.raises(StorageError, match="must hold a whole English Whisper"):
        store.convert(tmp_path / "bin", tmp_path / "models" / "made")
    assert os.listdir(tmp_path / "models") == [".made.lock"]


def test_weights_of_another_shape_are_refused(tmp_path):
    model = tiny_dinov2()
    weights = published(model, tmp_path / "hub")
    for name, wrong in (
        ("layernorm.weight", np.zeros(4, np.float32)),
        ("encoder.layer.1.mlp.fc1.weight", np.zeros((8, 8), np.float32)),
        ("embeddings.other", np.zeros(3, np.float32)),
    ):
        write_onnx({**weights, name: wrong}, tmp_path / "vit.onnx")
        with pytest.raises(StorageError, match="must be a whole ONNX file"):
            store.convert(tmp_path / "vit.onnx", tmp_path / "made")


def test_quantised_weights_and_lost_files_are_refused(tmp_path):
    weights = published(tiny_whisper(), tmp_path / "hub")
    heads = {"encoder": 2, "decoder": 4}
    write_ctranslate2({**weights, "model.encoder.conv1.bias": np.zeros(32, np.int8)}, heads, tmp_path / "bin")
    with pytest.raises(StorageError, match="must be floats; got int8"):
        store.convert(tmp_path / "bin", tmp_path / "made")
    for name in ("tokenizer.json", "config.json"):
        write_ctranslate2(weights, heads, tmp_path / name.replace(".", "_"))
        (tmp_path / name.replace(".", "_") / name).unlink()
        with pytest.raises(StorageError, match=name):
            store.convert(tmp_path / name.replace(".", "_"), tmp_path / "made")


@pytest.mark.parametrize("name", ["dinov2", "whisper"])
def test_half_of_a_packages_file_is_refused(tmp_path, name):
    inside = store._installed(ALIASES[name])
    if inside is None:
        pytest.skip(f"{ALIASES[name].package} is not installed")
    file = inside if inside.is_file() else inside / "model.bin"
    half = tmp_path / file.name
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StorageError, match="fetch it again"):
        store.convert(half if inside.is_file() else tmp_path, tmp_path / "made")


# The models themselves


@pytest.mark.parametrize(("name", "kind"), [("dinov2", Dinov2Model), ("whisper", WhisperForConditionalGeneration)])
def test_plain_transformers_loads_all_of_it(vision, speech, name, kind):
    _, report = kind.from_pretrained(store.ensure(name), output_loading_info=True)
    assert not any(report[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("loading", [load_vision, load_speech])
def test_what_was_converted_loads_at_once(vision, speech, loading):
    begun = time.process_time()
    loading.__wrapped__(dtype="float32", device="cpu")
    assert time.process_time() - begun < 5


def test_an_encoder_is_loaded_once_and_alone(vision, speech):
    assert load_vision(dtype="float32", device="cpu") is vision
    assert load_speech(dtype="float32", device="cpu") is speech
    assert sum(p.numel() for p in vision.model.parameters()) == 22_056_576
    assert sum(p.numel() for p in speech.model.parameters()) == 8_208_384
    assert not vision.model.training
    assert not speech.model.training


def test_pixels_are_normalised_as_the_folder_says(vision):
    said = json.loads((store.ensure("dinov2") / "preprocessor_config.json").read_text())
    pixels = bytes_of(2, 14, 28, 3)
    expected = (pixels.double() / 255 - torch.tensor(said["image_mean"])) / torch.tensor(said["image_std"])
    torch.testing.assert_close(vision.prepare(pixels), expected.movedim(3, 1).float())


@pytest.mark.parametrize(("height", "width"), [(14, 14), (14, 56), (70, 42), (154, 28)])
def test_pictures_of_any_size_in_patches(vision, height, width):
    pixels = bytes_of(2, height, width, 3)
    states, grid = vision.features(pixels)
    assert grid == (height // 14, width // 14)
    assert states.shape == (2, grid[0] * grid[1], 384)
    torch.testing.assert_close(vision.features(vision.prepare(pixels))[0], states)
    whole = vision.model(vision.prepare(pixels)).last_hidden_state
    torch.testing.assert_close(states, whole[:, 1:])
    torch.testing.assert_close(vision.features(pixels[1:])[0], states[1:], atol=1e-4, rtol=1e-4)


def test_states_stand_row_by_row(vision):
    """What changes in one corner changes the states of that corner most."""
    pixels = bytes_of(1, 70, 98, 3)
    other = pixels.clone()
    other[:, 56:, :14] = 0
    (states, (_, columns)), (changed, _) = vision.features(pixels), vision.features(other)
    assert (states - changed).norm(dim=-1)[0].argmax() == 4 * columns


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(1, 14, 15, 3, dtype=torch.uint8),
        torch.zeros(1, 0, 14, 3, dtype=torch.uint8),
        torch.zeros(1, 14, 14, 4, dtype=torch.uint8),
        torch.zeros(14, 14, 3, dtype=torch.uint8),
        torch.zeros(1, 14, 14, 3, dtype=torch.int64),
        torch.zeros(1, 14, 14, 3),
    ],
    ids=lambda p: f"{p.dtype} {tuple(p.shape)}",
)
def test_other_pixels_are_refused(vision, pixels):
    with pytest.raises(InvalidValue, match="pixels: "):
        vision.features(pixels)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (320, 1), (321, 2), (8000, 25)])
def test_frames_are_as_many_as_the_sound_has_begun(speech, samples, frames):
    states = speech.features(noise(samples))
    assert states.shape == (frames, 384)
    assert states.isfinite().all()


def test_long_sounds_are_read_in_windows(speech):
    sound = noise(31 * speech.rate)
    states = speech.features(sound)
    assert len(states) == 31 * 50
    torch.testing.assert_close(states[1500:], speech.features(sound[30 * speech.rate :]))


@pytest.mark.parametrize(
    "samples",
    [torch.zeros(0), torch.zeros(1, 320), torch.zeros(320, dtype=torch.int16), torch.full((9,), float("nan"))],
    ids=["empty", "two axes", "integers", "nan"],
)
def test_other_samples_are_refused(speech, samples):
    with pytest.raises(InvalidValue, match="samples: "):
        speech.features(samples)


def test_both_compute_in_bfloat16(vision, speech):
    for loading, exact, given in ((load_vision, vision, bytes_of(1, 56, 56, 3)), (load_speech, speech, noise(16_000))):
        encoder = loading.__wrapped__(dtype="bfloat16", device="cpu")
        states, expected = (e.features(given) for e in (encoder, exact))
        if loading is load_vision:
            states, expected = states[0], expected[0]
        assert states.dtype == torch.bfloat16
        assert cosine_similarity(states.float(), expected, dim=-1).mean() > 0.99


def test_the_tokenizer_of_whisper_spells_and_marks(speech):
    tokenizer = AutoTokenizer.from_pretrained(store.ensure("whisper"))
    ids = tokenizer("It was the best of times.")["input_ids"]
    assert ids[:2] == [50257, 50362]
    assert ids[-1] == 50256
    assert tokenizer.decode(ids, skip_special_tokens=True) == "It was the best of times."


def test_from_the_hub_comes_how_pixels_are_prepared(tmp_path, monkeypatch):
    """The hub's folder is used as it is; of its files, those that the patterns name are fetched."""
    tiny_dinov2().save_pretrained(tmp_path / "hub")
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    (tmp_path / "hub" / "pytorch_model.bin").write_bytes(b"never fetched")

    def snapshot(name, allow_patterns):
        assert name == "facebook/dinov2-small"
        fetched = tmp_path / "fetched"
        fetched.mkdir()
        for file in (tmp_path / "hub").iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                shutil.copy(file, fetched)
        return str(fetched)

    def no_index(alias, scratch):
        raise OSError("no index")

    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "_installed", lambda alias: None)
    monkeypatch.setattr(store, "_from_index", no_index)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    made = store.get("dinov2")
    assert not (made / "pytorch_model.bin").exists()
    encoder = load_vision(str(made), dtype="float32", device="cpu")
    assert encoder.mean == tuple(PREPROCESSOR["image_mean"])


# Other models


def test_another_vision_transformer_is_read_by_its_own_settings(tmp_path):
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, image_size=32,
                       patch_size=8)  # fmt: skip
    ViTModel(config).save_pretrained(tmp_path)
    settings = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    encoder = load_vision(str(tmp_path), dtype="float32", device="cpu")
    assert (encoder.patch, encoder.mean, encoder.std) == (8, (0.1, 0.2, 0.3), (0.5, 0.5, 1.0))
    states, grid = encoder.features(bytes_of(1, 24, 48, 3))
    assert grid == (3, 6)
    assert states.shape == (1, 18, 32)


def test_models_of_another_kind_are_refused(tmp_path):
    for loading, name in ((load_vision, "smollm2"), (load_vision, "whisper"), (load_speech, "dinov2")):
        with pytest.raises(UnsupportedModel, match=f"model '{name}': must be of the kind"):
            loading(name)
    with pytest.raises(UnsupportedModel, match="model 'whisper': must be of the kind causal; it is speech"):
        load("whisper")
    with pytest.raises(UnknownModel, match="model "):
        load_vision(str(tmp_path))
    ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match="three colours"):
        load_vision(str(tmp_path), device="cpu")
    with pytest.raises((UnsupportedModel, UnknownModel), match="model "):
        load_speech(str(tmp_path), device="cpu")


def test_a_packages_folder_is_not_taken_for_a_plain_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENRY_CACHE", str(tmp_path))
    assert store.place("whisper") is None
    assert store.place("dinov2") is None


# What they know


@pytest.mark.claim
def test_a_picture_is_closer_to_its_mirror_image_than_to_another(vision):
    """Cosine of mean states: above 0.95 to the mirror image, below 0.9 to any other picture."""
    pictures = [square(data.picture(name).pixels) for name in data.pictures()]
    means, mirrored = (torch.stack([vision.features(p)[0][0].mean(0) for p in shown])
                       for shown in (pictures, [p.flip(2) for p in pictures]))  # fmt: skip
    others = cosine_similarity(means[:, None], means[None], dim=-1)[~torch.eye(len(pictures), dtype=torch.bool)]
    assert cosine_similarity(means, mirrored).min() > 0.95
    assert others.max() < 0.9
    assert others.mean() < 0.6


def square(pixels):
    return interpolate(pixels.movedim(2, 0)[None].float(), (224, 224), mode="area").byte().movedim(1, 3)


@pytest.mark.claim
@pytest.mark.parametrize("name", data.sounds())
def test_whisper_writes_what_is_said(speech, name):
    """At most one word in ten is another, missing or too much."""
    said, written = (re.findall(r"[a-z]+", t.lower()) for t in (data.transcript(name), heard(speech, name)))
    matched = sum(block.size for block in SequenceMatcher(None, said, written, autojunk=False).get_matching_blocks())
    assert max(len(said), len(written)) - matched <= len(said) / 10


def heard(speech, name):
    sound = data.clip(name)
    assert sound.rate == speech.rate
    return speech.transcribe(sound.samples)


@pytest.mark.parametrize(
    ("said", "expected"),
    [({"do_rescale": False}, 1018.0), ({"do_normalize": False}, 1.0), ({"rescale_factor": 1 / 51}, 18.0)],
)
def test_what_a_folder_leaves_out_is_left_out(tmp_path, said, expected):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes, image_size=8, patch_size=4)).save_pretrained(tmp_path)
    settings = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | said))
    white = load_vision(str(tmp_path)).prepare(torch.full((1, 4, 4, 3), 255, dtype=torch.uint8))
    torch.testing.assert_close(white, torch.full((1, 3, 4, 4), expected))

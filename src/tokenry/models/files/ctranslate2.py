"""Whisper out of a CTranslate2 folder: `model.bin`, `config.json` and `tokenizer.json`.

`model.bin` is a version, the name and revision of a layout, named arrays, and second names of some of them.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from tokenry.core.saving import read_json
from tokenry.models.files.checkpoint import reading, write_checkpoint

LARGEST_FILE = 8 << 30
LARGEST_TOKENIZER = 64 << 20
MOST_ARRAYS = 1 << 13
MOST_DIMENSIONS = 4
VERSIONS = range(5, 7)

_NUMBERS = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_LAYOUT = "WhisperSpec"
_ENGLISH = 51_864
"""Entries of a vocabulary without languages; the multilingual ones have more."""

Arrays = Mapping[str, np.ndarray]


def write_whisper(source: Path, draft: Path) -> None:
    """Write model, tokenizer and feature extractor of an English Whisper to a folder that plain transformers loads.

    Raises:
        StorageError: a file is damaged or holds another model, or the folder cannot be written.
    """
    with reading(source, "hold a whole English Whisper"):
        arrays = read_arrays(source / "model.bin")
        config = _config(arrays)
        generation = _generation(config, _marks(source / "tokenizer.json"), read_json(source / "config.json"))
        write_checkpoint(WhisperForConditionalGeneration, config, dict(_weights(arrays, config)), draft)
    generation.save_pretrained(draft)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(draft)
    _write_tokenizer(source / "tokenizer.json", draft, config)


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a `model.bin`; they stay on disk until they are used.

    Raises:
        ValueError: truncated, another layout, or sizes that no real file has.
    """
    if file.stat().st_size > LARGEST_FILE:
        raise ValueError(f"{file.name} is larger than {LARGEST_FILE} bytes")
    cursor = _Cursor(np.memmap(file, np.uint8, "r").data)
    version, layout, _ = cursor.number("I"), cursor.text(), cursor.number("I")
    if version not in VERSIONS or layout != _LAYOUT:
        raise ValueError(f"{file.name} says {layout[:40]!r}, version {version}")
    arrays = dict(cursor.array() for _ in range(cursor.count()))
    for _ in range(cursor.count()):
        second, first = cursor.text(), cursor.text()
        arrays[second] = arrays[first]
    return arrays


class _Cursor:
    """A place in the bytes of a file; it never reads behind their end."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def array(self) -> tuple[str, np.ndarray]:
        name, rank = self.text(), self.number("B")
        if rank > MOST_DIMENSIONS:
            raise ValueError(f"{name} has {rank} dimensions")
        shape = [self.number("I") for _ in range(rank)]
        kind = np.dtype(_NUMBERS[self.number("B")])
        size = self.number("I")
        if math.prod(shape) * kind.itemsize != size:
            raise ValueError(f"{name} of shape {shape} cannot be {size} bytes")
        return name, np.frombuffer(self.bytes(size), kind).reshape(shape)

    def count(self) -> int:
        count = self.number("I")
        if count > MOST_ARRAYS:
            raise ValueError(f"it holds {count} arrays")
        return count

    def text(self) -> str:
        return bytes(self.bytes(self.number("H"))).decode("utf-8").removesuffix("\0")

    def number(self, code: str) -> int:
        return int(struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))[0])

    def bytes(self, count: int) -> memoryview:
        if self.at + count > len(self.data):
            raise ValueError("it ends in the middle of its arrays")
        self.at += count
        return self.data[self.at - count : self.at]


def _config(arrays: Arrays) -> WhisperConfig:
    vocabulary, width = arrays["decoder/embeddings/weight"].shape
    if vocabulary != _ENGLISH:
        raise ValueError(f"it must have {_ENGLISH} ids, as English models have; got {vocabulary}")
    sizes: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sizes[f"{side}_layers"] = sum(f"{side}/layer_{n}/ffn/linear_0/weight" in arrays for n in range(len(arrays)))
        sizes[f"{side}_ffn_dim"] = len(arrays[f"{side}/layer_0/ffn/linear_0/weight"])
        sizes[f"{side}_attention_heads"] = int(arrays[f"{side}/num_heads"])
    return WhisperConfig(
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=arrays["encoder/conv1/weight"].shape[1],
        max_source_positions=len(arrays["encoder/position_encodings/encodings"]),
        max_target_positions=len(arrays["decoder/position_encodings/encodings"]),
        **sizes,
    )


def _weights(arrays: Arrays, config: WhisperConfig) -> Iterator[tuple[str, Tensor]]:
    for n in (1, 2):
        yield from _pair(f"model.encoder.conv{n}", arrays, f"encoder/conv{n}", "weight", "bias")
    yield "model.decoder.embed_tokens.weight", _tensor(arrays["decoder/embeddings/weight"])
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        yield f"model.{side}.embed_positions.weight", _tensor(arrays[f"{side}/position_encodings/encodings"])
        yield from _norm(f"model.{side}.layer_norm", arrays, f"{side}/layer_norm")
        for n in range(layers):
            yield from _layer(f"model.{side}.layers.{n}", arrays, f"{side}/layer_{n}")


def _layer(to: str, arrays: Arrays, of: str) -> Iterator[tuple[str, Tensor]]:
    yield from _norm(f"{to}.self_attn_layer_norm", arrays, f"{of}/self_attention/layer_norm")
    yield from _attention(f"{to}.self_attn", arrays, f"{of}/self_attention")
    if of.startswith("decoder"):
        yield from _norm(f"{to}.encoder_attn_layer_norm", arrays, f"{of}/attention/layer_norm")
        yield from _attention(f"{to}.encoder_attn", arrays, f"{of}/attention")
    yield from _norm(f"{to}.final_layer_norm", arrays, f"{of}/ffn/layer_norm")
    for n in (1, 2):
        yield from _pair(f"{to}.fc{n}", arrays, f"{of}/ffn/linear_{n - 1}", "weight", "bias")


def _attention(to: str, arrays: Arrays, of: str) -> Iterator[tuple[str, Tensor]]:
    """Queries, keys and values lie below each other: in one array, or the queries in an array of their own."""
    fused = [f"{of}/linear_{n}" for n in range(2 if f"{of}/linear_2/weight" in arrays else 1)]
    weights, biases = (torch.cat([_tensor(arrays[f"{part}/{what}"]) for part in fused]) for what in ("weight", "bias"))
    names = (f"{to}.q_proj", f"{to}.k_proj", f"{to}.v_proj")
    for name, weight, bias in zip(names, weights.chunk(3), biases.chunk(3), strict=True):
        yield f"{name}.weight", weight
        if name.endswith("k_proj"):  # Whisper's keys have no bias; CTranslate2 writes one of zeros.
            if bias.any():
                raise ValueError(f"{of} has a bias of keys")
        else:
            yield f"{name}.bias", bias
    yield from _pair(f"{to}.out_proj", arrays, f"{of}/linear_{len(fused)}", "weight", "bias")


def _norm(to: str, arrays: Arrays, of: str) -> Iterator[tuple[str, Tensor]]:
    return _pair(to, arrays, of, "gamma", "beta")


def _pair(to: str, arrays: Arrays, of: str, weight: str, bias: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{to}.weight", _tensor(arrays[f"{of}/{weight}"])
    yield f"{to}.bias", _tensor(arrays[f"{of}/{bias}"])


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind != "f":
        raise ValueError(f"weights must be floats; got {array.dtype}")
    return torch.from_numpy(array.astype(np.float32))


def _marks(file: Path) -> dict[str, int]:
    """Ids of the marks that a tokenizer adds to its pieces."""
    if file.stat().st_size > LARGEST_TOKENIZER:
        raise ValueError(f"{file.name} is larger than {LARGEST_TOKENIZER} bytes")
    return {str(mark["content"]): int(mark["id"]) for mark in read_json(file)["added_tokens"]}


def _generation(config: WhisperConfig, marks: Mapping[str, int], said: Mapping[str, Any]) -> GenerationConfig:
    end = marks["<|endoftext|>"]
    return GenerationConfig(
        decoder_start_token_id=marks["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        no_timestamps_token_id=marks["<|notimestamps|>"],
        prev_sot_token_id=marks["<|startofprev|>"],
        suppress_tokens=[int(token) for token in said["suppress_ids"]],
        begin_suppress_tokens=[int(token) for token in said["suppress_ids_begin"]],
        alignment_heads=[[int(layer), int(head)] for layer, head in said["alignment_heads"]],
        max_initial_timestamp_index=50,
        max_length=config.max_target_positions,
        is_multilingual=False,
        return_timestamps=False,
    )


def _write_tokenizer(file: Path, draft: Path, config: WhisperConfig) -> None:
    shutil.copy(file, draft / "tokenizer.json")
    end = "<|endoftext|>"
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "pad_token": end,
        "model_max_length": config.max_target_positions,
    }
    (draft / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

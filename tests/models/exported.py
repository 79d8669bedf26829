"""Tiny models written as other programs export them: an ONNX file, a CTranslate2 folder."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from transformers import Dinov2Config, Dinov2Model, WhisperConfig, WhisperForConditionalGeneration

MARKS = {"<|endoftext|>": 50256, "<|startoftranscript|>": 50257, "<|startofprev|>": 50360, "<|notimestamps|>": 50362}


def tiny_dinov2() -> Dinov2Model:
    config = Dinov2Config(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, layerscale_value=0.5
    )  # fmt: skip
    return Dinov2Model(config).eval()


def tiny_whisper() -> WhisperForConditionalGeneration:
    config = WhisperConfig(
        vocab_size=51_864, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=64, max_target_positions=20,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config).eval()


def published(model, folder: Path) -> dict[str, np.ndarray]:
    """Weights by the names of published checkpoints."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


# ONNX


def write_onnx(weights: Mapping[str, np.ndarray], file: Path) -> None:
    """Weights of linear layers lose their names, as exports fold them."""
    graph = b""
    for name, array in weights.items():
        layer = name.removesuffix(".weight")
        if name == "embeddings.position_embeddings":
            graph += field(5, tensor("onnx::Concat_1", array[:, :1])) + field(
                5, tensor("onnx::Reshape_2", array[:, 1:])
            )
        elif array.ndim == 2 and name != "embeddings.mask_token":
            unnamed = f"onnx::MatMul_{layer}"
            graph += field(5, tensor(unnamed, array.T)) + field(1, multiplication(layer, unnamed))
        elif name != "embeddings.mask_token":
            graph += field(5, tensor(f"backbone.{name}", array))
    file.write_bytes(field(1, 8) + field(7, graph))


def multiplication(layer: str, weight: str) -> bytes:
    node = f"/backbone/{layer.replace('.', '/').replace('layer/', 'layer.')}/MatMul"
    return field(1, b"/before") + field(1, weight.encode()) + field(3, node.encode()) + field(4, b"MatMul")


def tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(field(1, size) for size in array.shape)
    return dims + field(2, 1) + field(8, name.encode()) + field(9, np.ascontiguousarray(array, "<f4").tobytes())


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    low = value & 127
    return bytes([low]) if value < 128 else bytes([low | 128]) + varint(value >> 7)


# CTranslate2


def write_ctranslate2(weights: Mapping[str, np.ndarray], heads: Mapping[str, int], folder: Path) -> None:
    folder.mkdir()
    arrays = dict(_arrays(weights))
    arrays |= {f"{side}/num_heads": np.array(number, np.int16) for side, number in heads.items()}
    (folder / "model.bin").write_bytes(packed(arrays, {"decoder/projection/weight": "decoder/embeddings/weight"}))
    config = {"suppress_ids": [1], "suppress_ids_begin": [220], "alignment_heads": [[0, 0]]}
    (folder / "config.json").write_text(json.dumps(config))
    marks = [{"content": content, "id": number} for content, number in MARKS.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": marks}))


def packed(arrays: Mapping[str, np.ndarray], again: Mapping[str, str], layout: str = "WhisperSpec") -> bytes:
    codes = {"f4": 0, "i1": 1, "i2": 2, "f2": 4}
    data = struct.pack("<I", 6) + text(layout) + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        data += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        data += struct.pack("<BI", codes[array.dtype.str[1:]], array.nbytes) + array.tobytes()
    return data + struct.pack("<I", len(again)) + b"".join(text(n) for pair in again.items() for n in pair)


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def _arrays(weights):
    for name, array in weights.items():
        if not any(part in name for part in ("q_proj", "k_proj", "v_proj", "proj_out")):
            yield _renamed(name), array
    for name in weights:
        if name.endswith("q_proj.weight"):
            yield from _fused(weights, name.removesuffix("q_proj.weight"))


def _renamed(name: str) -> str:
    for old, new in (
        ("model.", ""), (".layers.", "/layer_"), ("embed_tokens.", "embeddings/"),
        ("embed_positions.weight", "position_encodings/encodings"),
        ("self_attn_layer_norm.", "self_attention/layer_norm."), ("encoder_attn_layer_norm.", "attention/layer_norm."),
        ("final_layer_norm.", "ffn/layer_norm."), ("self_attn.out_proj", "self_attention/linear_1"),
        ("encoder_attn.out_proj", "attention/linear_2"), ("fc1", "ffn/linear_0"),
        ("fc2", "ffn/linear_1"), ("layer_norm.weight", "layer_norm/gamma"), ("layer_norm.bias", "layer_norm/beta"),
    ):  # fmt: skip
        name = name.replace(old, new)
    return name.replace(".", "/")


def _fused(weights, attention: str):
    cross = "encoder_attn" in attention
    to = (
        _renamed(attention)
        .removesuffix("/")
        .replace("encoder_attn", "attention")
        .replace("self_attn", "self_attention")
    )
    parts = (("q_proj",), ("k_proj", "v_proj")) if cross else (("q_proj", "k_proj", "v_proj"),)
    for number, names in enumerate(parts):
        matrices = [weights[f"{attention}{name}.weight"] for name in names]
        biases = [weights.get(f"{attention}{name}.bias", np.zeros(len(matrices[0]), "<f4")) for name in names]
        yield f"{to}/linear_{number}/weight", np.concatenate(matrices)
        yield f"{to}/linear_{number}/bias", np.concatenate(biases)

"""A DINOv2 encoder out of an ONNX file.

Exports fold the weights of linear layers into unnamed matrices; the node that multiplies by one says whose it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from tokenry.models.files.checkpoint import reading, write_checkpoint
from tokenry.models.files.protobuf import fields

LARGEST_FILE = 2 << 30
"""Bytes; no protobuf message is larger."""

MOST_TENSORS = 1 << 12

HEAD_WIDTH = 64
"""Of DINOv2 in all sizes; the weights do not say it."""

PREPROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_convert_rgb": True,
}
"""Of DINOv2 as published; a graph holds nothing that comes before it."""

# Numbers of the fields in onnx.proto.
_GRAPH = 7
_NODE, _TENSOR = 1, 5
_NODE_INPUT, _NODE_NAME, _NODE_KIND = 1, 3, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOAT32 = 1
_BACKBONE = "backbone"
_UNNAMED = "onnx::"


def write_vit(source: Path, draft: Path) -> None:
    """Write the encoder in an ONNX file to a folder that plain transformers loads.

    Raises:
        StorageError: the file is damaged or holds another model, or the folder cannot be written.
    """
    with reading(source, "be a whole ONNX file of DINOv2"):
        weights = _weights(source)
        write_checkpoint(Dinov2Model, _config(weights), weights, draft)
    (draft / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8")


def _weights(source: Path) -> dict[str, Tensor]:
    if source.stat().st_size > LARGEST_FILE:
        raise ValueError(f"it is larger than {LARGEST_FILE} bytes")
    tensors, multiplied = _read(np.memmap(source, np.uint8, "r").data)
    prefix = f"{_BACKBONE}."
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    for node, inputs in multiplied.items():
        for name in inputs:
            if name in tensors and node.startswith(f"/{_BACKBONE}/"):
                layer = node.removeprefix(f"/{_BACKBONE}/").removesuffix("/MatMul").replace("/", ".")
                weights[f"{layer}.weight"] = tensors[name].T
    # The position of the class token and those of the patches are the only unnamed weights that are no matrix.
    positions = [tensor for name, tensor in tensors.items() if name.startswith(_UNNAMED) and tensor.ndim == 3]
    if len(positions) != 2:
        raise ValueError(f"it must hold two arrays of positions; got {len(positions)}")
    weights["embeddings.position_embeddings"] = torch.cat(sorted(positions, key=lambda t: t.shape[1]), 1)
    # It stands for hidden patches in training; an export does not carry it.
    weights["embeddings.mask_token"] = torch.zeros_like(weights["embeddings.cls_token"][0])
    return weights


def _config(weights: Mapping[str, Tensor]) -> Dinov2Config:
    patch = weights["embeddings.patch_embeddings.projection.weight"].shape[-1]
    width = weights["embeddings.cls_token"].shape[-1]
    layers = sum(name.endswith(".norm1.weight") for name in weights)
    side = math.isqrt(weights["embeddings.position_embeddings"].shape[1] - 1)
    return Dinov2Config(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        mlp_ratio=len(weights["encoder.layer.0.mlp.fc1.bias"]) // width,
        patch_size=patch,
        image_size=side * patch,
    )


def _read(data: memoryview) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Tensors by name, and the inputs of each multiplication of matrices by its name."""
    tensors: dict[str, Tensor] = {}
    multiplied: dict[str, list[str]] = {}
    graph = next((value for number, value in fields(data) if number == _GRAPH), None)
    if graph is None:
        raise ValueError("it holds no graph")
    for number, value in fields(graph):
        if number == _TENSOR:
            tensors.update(_tensor(value))
        elif number == _NODE:
            multiplied.update(_multiplication(value))
        if len(tensors) > MOST_TENSORS:
            raise ValueError(f"it holds more than {MOST_TENSORS} tensors")
    return tensors, multiplied


def _tensor(message: memoryview) -> Iterator[tuple[str, Tensor]]:
    """The tensor of a message; one that holds other values than 32-bit floats is no weight."""
    dims = [int(value) for number, value in fields(message) if number == _TENSOR_DIMS]
    rest = {number: value for number, value in fields(message) if number != _TENSOR_DIMS}
    if rest.get(_TENSOR_TYPE) != _FLOAT32 or not dims:
        return
    name, raw = _text(rest[_TENSOR_NAME]), rest.get(_TENSOR_RAW, b"")
    if math.prod(dims) * 4 != len(raw):
        raise ValueError(f"{name} must hold {math.prod(dims)} numbers; got {len(raw)} bytes")
    yield name, torch.from_numpy(np.frombuffer(raw, "<f4").reshape(dims).copy())


def _multiplication(message: memoryview) -> Iterator[tuple[str, list[str]]]:
    found = list(fields(message))
    once = dict(found)
    if _text(once.get(_NODE_KIND, b"")) == "MatMul":
        yield _text(once[_NODE_NAME]), [_text(value) for number, value in found if number == _NODE_INPUT]


def _text(value: bytes | memoryview) -> str:
    if isinstance(value, int):  # Of which bytes() would make as many zeros.
        raise ValueError("a name is a number")
    return bytes(value).decode("utf-8")

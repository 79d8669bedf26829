"""What pieces mean to a text encoder: unit vectors, kept on disk, since a vocabulary takes minutes to read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

from tokenry.core.saving import whole_file
from tokenry.embed.transfer.donor import Tell, text_of
from tokenry.models.files import store
from tokenry.models.files.load import Encoder

BLOCK = 2048
"""Texts whose vectors are one file; an interrupted run goes on after the last whole one."""

BATCH = 1024
"""Tokens that the encoder reads at once."""

Input = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """Vectors of pieces; those that the encoder cannot tell apart, such as two cases of a word, share one.

    Args:
        vectors: of length one.
        row: which of them each piece has; -1 for parts of characters, for white space, and for what the encoder has no
            pieces for.
    """

    vectors: Float[Tensor, "U G"]
    row: Int[Tensor, "P"]

    def at(self, pieces: Int[Tensor, "W"]) -> Float[Tensor, "W G"]:
        """The vectors of some pieces, zero where there is none."""
        row = self.row[pieces]
        return (
            self.vectors[row.clamp_min(0)] * (row >= 0).unsqueeze(1) if len(self.vectors) else torch.zeros(len(row), 1)
        )


def folder() -> Path:
    """Where vectors are kept; it may be emptied at any time."""
    return store.folder().parent / "surfaces"


@torch.no_grad()
def read(encoder: Encoder, pieces: Sequence[bytes | None], tell: Tell) -> Surfaces:
    """The mean of the encoder's last hidden states over each piece, as a unit vector."""
    texts = [(i, text) for i, piece in enumerate(pieces) if (text := text_of(piece)) is not None]
    given = [text for _, text in texts] or [""]
    ids = encoder.tokenizer(given, truncation=True, max_length=encoder.max_tokens)["input_ids"]
    blind = set(encoder.tokenizer.all_special_ids)
    found = {i: tuple(row) for (i, _), row in zip(texts, ids, strict=False) if not blind.issuperset(row)}
    inputs = sorted(set(found.values()), key=lambda row: (len(row), row))
    number = {row: u for u, row in enumerate(inputs)}
    rows = torch.tensor([number[found[i]] if i in found else -1 for i in range(len(pieces))], dtype=torch.long)
    return Surfaces(_vectors(encoder, inputs, tell), rows)


def _vectors(encoder: Encoder, inputs: list[Input], tell: Tell) -> Float[Tensor, "U G"]:
    kept = folder() / fingerprint(encoder)
    parts = []
    for at in range(0, len(inputs), BLOCK):
        block = inputs[at : at + BLOCK]
        file = kept / f"{hashlib.sha256(repr(block).encode()).hexdigest()[:32]}.safetensors"
        part = _kept(file, len(block), encoder.model.config.hidden_size)
        if part is None:
            tell("reading pieces", at, len(inputs))
            part = torch.cat([_forward(encoder, batch) for batch in _batches(block)])
            with whole_file(file) as draft:
                save_file({"vectors": part}, draft)
        parts.append(part)
    tell("reading pieces", len(inputs), len(inputs))
    return torch.cat(parts) if parts else torch.zeros(0, encoder.model.config.hidden_size)


def fingerprint(encoder: Encoder) -> str:
    """The same for the same weights in the same numbers."""
    hashed = hashlib.sha256(encoder.model.config.to_json_string(use_diff=False).encode())
    for name, weight in sorted(encoder.model.state_dict().items()):
        hashed.update(f"{name}{weight.dtype}{tuple(weight.shape)}".encode())
        hashed.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()[:32]


def _kept(file: Path, size: int, width: int) -> Float[Tensor, "U G"] | None:
    """The vectors of a block, None where they were not kept or are damaged."""
    try:
        found = load_file(file).get("vectors")
    except (OSError, SafetensorError):
        return None
    whole = found is not None and found.shape == (size, width) and found.dtype == torch.float32
    return found if whole and found is not None and bool(found.isfinite().all()) else None


def _forward(encoder: Encoder, batch: list[Input]) -> Float[Tensor, "B G"]:
    ids = torch.tensor(batch, device=encoder.model.device)
    states = encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return normalize(states.float().mean(1), dim=-1).cpu()


def _batches(block: list[Input]) -> Iterator[list[Input]]:
    """Inputs of the same length, so that none is padded."""
    for length, group in groupby(block, key=len):
        rows = list(group)
        size = max(1, BATCH // length)
        yield from (rows[at : at + size] for at in range(0, len(rows), size))

"""Texts as vectors: an encoder's hidden states, read in batches of equal length, a long text in windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from tokenry.models.files.load import Encoder

BATCH = 512
"""Tokens read at once, padding included; more no longer helps a processor and costs it its cache."""

Window = tuple[int, Float[Tensor, "T E"], Int[Tensor, "T 2"]]
"""Number of the text, hidden states of its tokens, and the characters of each; special tokens have none."""


def hidden_states(encoder: Encoder, texts: Sequence[str]) -> Iterator[Window]:
    """The last hidden states of every text, the shortest first; a text longer than the encoder reads comes in parts."""
    encoded = encoder.tokenizer(
        list(texts),
        padding=False,
        truncation=True,
        max_length=encoder.max_tokens,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    ids = [torch.tensor(row) for row in encoded["input_ids"]]
    text, offsets = encoded["overflow_to_sample_mapping"], encoded["offset_mapping"]
    for rows in _batches([len(row) for row in ids]):
        hidden = _read(encoder, [ids[r] for r in rows])
        for r, states in zip(rows, hidden, strict=True):
            yield int(text[r]), states[: len(ids[r])], torch.tensor(offsets[r]).view(-1, 2)


def pooled(total: Float[Tensor, "U E"], count: Float[Tensor, "U"]) -> Float[Tensor, "U E"]:
    """Means of hidden states as unit vectors."""
    return normalize(total / count.clamp_min(1).unsqueeze(-1), dim=-1)


def text_vectors(encoder: Encoder, texts: Sequence[str]) -> Float[Tensor, "U E"]:
    """The mean of each text's hidden states as a unit vector."""
    total = torch.zeros(len(texts), encoder.model.config.hidden_size)
    count = torch.zeros(len(texts))
    for i, states, _ in hidden_states(encoder, texts):
        total[i] += states.sum(0)
        count[i] += len(states)
    return pooled(total, count)


def _read(encoder: Encoder, ids: list[Tensor]) -> Float[Tensor, "B T E"]:
    device = encoder.model.device
    padded = pad_sequence(ids, batch_first=True, padding_value=0).to(device)
    mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True).to(device)
    return encoder.model(input_ids=padded, attention_mask=mask).last_hidden_state.float().cpu()


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Rows in batches of similar length, at most `BATCH` tokens with their padding."""
    rows: list[int] = []
    for r in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[r] > BATCH:
            yield rows
            rows = []
        rows.append(r)
    if rows:
        yield rows

"""Texts as vectors: an encoder's hidden states, read in batches of equal length, a long text in windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from tokenry.core.progress import counted
from tokenry.models.files.load import Encoder
from tokenry.models.text.as_text import text_windows

BATCH = 1024
"""Tokens read at once, padding included; more no longer helps a processor and costs it its cache."""

Window = tuple[int, Float[Tensor, "T E"], Int[Tensor, "T 2"]]
"""Number of the text, hidden states of its tokens, and the characters of each; special tokens have none."""


def hidden_states(encoder: Encoder, texts: Sequence[str]) -> Iterator[Window]:
    """The last hidden states of every text, the shortest first; a text longer than the encoder reads comes in parts."""
    parts = text_windows(encoder.tokenizer, texts, encoder.max_tokens)
    ids = [torch.tensor(part.ids) for _, part in parts]
    batches = list(_batches([len(row) for row in ids]))
    for rows in counted(batches, "reading batch", len(batches)):
        hidden = _read(encoder, [ids[r] for r in rows])
        for r, states in zip(rows, hidden, strict=True):
            text, part = parts[r]
            yield text, states[: len(ids[r])], torch.tensor(part.offsets).view(-1, 2)


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


@torch.no_grad()
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

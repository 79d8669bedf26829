"""Stacks of blocks over the tokens of a row: each sees all tokens before it, the nearest ones, or all of its word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from tokenry.attend.layers.headed import HeadedLayer, rotated
from tokenry.attend.layers.language_model import Block
from tokenry.attend.layers.rows import Rows
from tokenry.core.fields import natural


@dataclass(slots=True)
class Recent:
    """Keys and values of the last tokens of each row, right aligned, and how many tokens it has read."""

    k: Float[Tensor, "B H S D"]
    v: Float[Tensor, "B H S D"]
    lengths: Int[Tensor, "B"]


@dataclass(eq=False, repr=False, kw_only=True)
class Near(HeadedLayer):
    """Softmax attention with rotated positions, to a token itself and the nearest ones before it.

    With a window the work grows with tokens times window, and no more than the window is remembered.
    """

    window: int = natural(0, doc="tokens that a token reads, itself among them; 0 for all before it")

    def whole(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        q, k, v = self._placed(x, torch.arange(x.shape[1], device=x.device))
        if not self.window or x.shape[1] <= self.window:
            return self.joined(scaled_dot_product_attention(q, k, v, is_causal=True), x)
        return self.joined(_banded(q, k, v, self.window), x)

    def both(self, x: Float[Tensor, "B N E"], real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        """Each token reads all real ones of its row, those behind it as well."""
        q, k, v = self._placed(x, torch.arange(x.shape[1], device=x.device))
        return self.joined(scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None]), x)

    def begin(self, sequences: int) -> Any:
        if not self.window:
            return Rows(sequences)
        width = self.project.in_features // self.heads
        none = self.project.weight.new_zeros(sequences, self.heads, self.window - 1, width)
        return Recent(none, none, torch.zeros(sequences, dtype=torch.long, device=none.device))

    def append(self, x: Float[Tensor, "B N E"], memory: Any, real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        if isinstance(memory, Recent):
            return self._append_near(x, memory, real)
        places = memory.next(real)
        q, k, v = self._placed(x, places.unsqueeze(1))
        memory.append(k, v, real=real)
        k, v = memory.all()
        seen = torch.arange(k.shape[2], device=x.device) <= places.unsqueeze(-1)
        # Padding may lie behind all that is held, and reads whatever it finds.
        return self.joined(scaled_dot_product_attention(q, k, v, attn_mask=seen.unsqueeze(1)), x)

    def _append_near(
        self, x: Float[Tensor, "B N E"], memory: Recent, real: Bool[Tensor, "B N"]
    ) -> Float[Tensor, "B N E"]:
        n, held = x.shape[1], self.window - 1
        at = torch.arange(n, device=x.device)
        q, k, v = self._placed(x, (memory.lengths.unsqueeze(1) + at).unsqueeze(1))
        k, v = torch.cat((memory.k, k), 2), torch.cat((memory.v, v), 2)
        key = torch.arange(held + n, device=x.device)
        near = (key <= at.unsqueeze(1) + held) & (key > at.unsqueeze(1) + held - self.window)
        # What is held of a short row begins with nothing.
        there = key >= held - memory.lengths.clamp_max(held).unsqueeze(1)
        out = scaled_dot_product_attention(q, k, v, attn_mask=(near & there.unsqueeze(1)).unsqueeze(1))
        last = (real.sum(1, keepdim=True) + torch.arange(held, device=x.device))[:, None, :, None]
        last = last.expand(-1, k.shape[1], -1, k.shape[3])
        memory.k, memory.v = k.gather(2, last), v.gather(2, last)
        memory.lengths = memory.lengths + real.sum(1)
        return self.joined(out, x)

    def _placed(self, x: Float[Tensor, "B N E"], places: Int[Tensor, "*A N"]) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.split(x)
        return rotated(q, places), rotated(k, places), v


def _banded(
    q: Float[Tensor, "B H N D"], k: Float[Tensor, "B H N D"], v: Float[Tensor, "B H N D"], window: int
) -> Float[Tensor, "B H N D"]:
    """Attention to the last `window` tokens, by pieces of that length that read themselves and the piece before."""
    n = q.shape[2]
    q, k, v = (pad(t, (0, 0, 0, -n % window)).unflatten(2, (-1, window)) for t in (q, k, v))
    k, v = (torch.cat((pad(t[:, :, :-1], (0, 0, 0, 0, 1, 0)), t), 3) for t in (k, v))
    query, key = torch.arange(window, device=q.device).unsqueeze(1), torch.arange(2 * window, device=q.device)
    near = (key > query) & (key <= query + window)
    first = torch.arange(q.shape[2], device=q.device).view(-1, 1, 1) == 0
    out = scaled_dot_product_attention(q, k, v, attn_mask=near & ~(first & (key < window)))
    return out.flatten(2, 3)[:, :, :n]


class Stack(nn.Module):
    """Blocks of such layers, one after another; rows have their real tokens first."""

    def __init__(self, width: int, layers: int, heads: int, hidden: int, window: int = 0) -> None:
        super().__init__()
        self.blocks: Any = nn.ModuleList(
            Block(Near(heads=heads, window=window).build(width=width), width, hidden * width) for _ in range(layers)
        )
        self.last = nn.RMSNorm(width)

    def begin(self, sequences: int) -> list[Any]:
        """Nothing read yet, of so many rows."""
        return [block.layer.begin(sequences) for block in self.blocks]

    def read(
        self, x: Float[Tensor, "B N E"], real: Bool[Tensor, "B N"], memory: list[Any] | None = None,
        added: Float[Tensor, "B N L*E"] | None = None,
    ) -> Float[Tensor, "B N E"]:  # fmt: skip
        """Tokens on top of a memory, or whole rows where there is none.

        Args:
            added: what each block in turn adds to the states it gets.
        """
        if not x.shape[1]:
            return x
        parts = None if added is None else added.chunk(len(self.blocks), -1)
        for i, block in enumerate(self.blocks):
            x = x if parts is None else x + parts[i]
            x = block(x) if memory is None else block.read(x, memory[i], real)
        return self.last(x)

    def both(self, x: Float[Tensor, "B N E"], real: Bool[Tensor, "B N"]) -> Float[Tensor, "B N E"]:
        """Whole rows in which each token reads those behind it as well."""
        for block in self.blocks:
            x = block.after(x + block.layer.both(block.before(x), real))
        return self.last(x)

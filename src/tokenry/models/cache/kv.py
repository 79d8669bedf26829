"""The key-value cache of one layer: written in place, ragged where it must be, never losing count."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from tokenry.core.errors import Incompatible
from tokenry.models.attention.state import STEPS, LayerState
from tokenry.models.cache.evicted import Evicted, ordered
from tokenry.models.cache.packed import gathered, rows_where
from tokenry.models.cache.ragged import RaggedRows

S = TypeVar("S", bound=LayerState)


class _Written(threading.local):
    """The buffer that was written last in this thread, until attention has read it."""

    buffer: KVBuffer | None = None

    def taken(self) -> KVBuffer | None:
        """That buffer, once."""
        buffer, self.buffer = self.buffer, None
        return buffer


written = _Written()


class KVBuffer(DynamicLayer):
    """A cache layer that knows the original column of every key it still holds.

    Keys and values live in buffers with room to grow, so appending a token writes one row per head instead of
    copying everything. After an uneven eviction each sequence and KV head has its own length (`RaggedRows`).
    `get_seq_length()` is the number of tokens *seen*, so positions stay right whatever was evicted.

    Shapes:
        keys (B, G, K, D), values (B, G, K, Dv) as read by attention; columns (B, G, K), -1 marks an empty slot,
        None while every column is held.
    """

    growth = 8
    """Room kept free: one part in `growth` of what is held."""

    def __init__(self) -> None:
        self._ragged: RaggedRows | None = None
        self._k: Tensor | None = None
        self._v: Tensor | None = None
        super().__init__()
        self.seen = 0
        self.held = 0
        self.columns: Int[Tensor, "B G K"] | None = None
        self._ahead: tuple[Tensor, Tensor] | None = None
        """The columns that are held, and the same with those of tokens to come."""
        self.settled = 0
        """Tokens seen when a method last brought this layer to its budget."""
        self.began: int | None = None
        """The first column after the prompt, once that is known."""
        self.unsure = ""
        """Why a crop cannot be made right: the last pass was taken for a part of the prompt."""
        self.final = 0
        """Tokens seen at the last eviction that no crop can undo."""
        self.evicted: list[Evicted] = []
        """What steps left out that may be taken back, the oldest first."""
        self.trying = False
        """Whether the step under way may be taken back."""
        self.record_past = False
        """Whether all steps may be, until the next crop; the name is transformers'."""
        self._cropped = False
        self.states: list[LayerState] = []
        self.incoming: tuple[Int[Tensor, "B T"], int] | None = None
        """Where the tokens of the next update stand (-1 for none) and how many columns that pass has; None for the
        next columns without gap."""

    @classmethod
    def adopt(cls, layer: Any) -> KVBuffer:
        """Take over what a layer of transformers' own cache holds."""
        buffer = cls()
        if layer.is_initialized and layer.keys is not None and layer.values is not None and layer.keys.numel():
            buffer.update(layer.keys, layer.values)
        return buffer

    @property
    def keys(self) -> Tensor | None:
        if self._ragged is not None:
            return self._ragged.keys()
        return None if self._k is None else self._k[:, :, : self.held]

    @keys.setter
    def keys(self, value: Tensor | None) -> None:
        self._k = value

    @property
    def values(self) -> Tensor | None:
        if self._ragged is not None:
            return self._ragged.values()
        return None if self._v is None else self._v[:, :, : self.held]

    @values.setter
    def values(self, value: Tensor | None) -> None:
        self._v = value

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def update(
        self, key_states: Float[Tensor, "B G T D"], value_states: Float[Tensor, "B G T Dv"], *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append T tokens and return all keys and values that attention may read."""
        written.buffer = self
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        if self.incoming is not None:
            return self._update_some(key_states, value_states)
        new = key_states.shape[2]
        if self._ragged is not None:
            self._ragged.append(key_states, value_states, self.seen)
            self.columns = self._ragged.columns()
        else:
            self._append(key_states, value_states)
            if self.columns is not None:
                self._append_columns(self.columns, new)
        self.seen += new
        return self.rows()

    def _update_some(self, k: Float[Tensor, "B G T D"], v: Float[Tensor, "B G T Dv"]) -> tuple[Tensor, Tensor]:
        """Append the tokens that are left of a longer pass, each at its column."""
        assert self.incoming is not None
        (columns, count), self.incoming = self.incoming, None
        b, g, t, _ = k.shape
        at = columns.unsqueeze(1).expand(b, g, t)
        if self._ragged is not None or not self.held:
            before = self.columns if self._ragged is not None else at[..., :0]
            old_k, old_v = self.rows() if self._ragged is not None else (k[:, :, :0], v[:, :, :0])
            self._ragged, self._k, self._v = None, torch.cat((old_k, k), 2), torch.cat((old_v, v), 2)
            self.held = self._k.shape[2]
        else:
            before = self._all_columns()
            self._append(k, v)
        assert before is not None
        self.columns = torch.cat((before, at), -1)
        self.seen += count
        if bool((self.columns < 0).any()):
            self._hold(rows_where(self.columns >= 0))
        return self.rows()

    def fill(self, keys: Float[Tensor, "R D"], values: Float[Tensor, "R Dv"], columns: Int[Tensor, "B G K"]) -> None:
        """Hold exactly these rows, which lie in the order of the columns that are not -1."""
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        there = columns >= 0

        def wide(rows: Tensor) -> Tensor:
            out = rows.new_zeros(*columns.shape, rows.shape[-1])
            out[there] = rows
            return out

        self._ragged, self._k, self._v = None, wide(keys), wide(values)
        self.columns, self.held = columns, columns.shape[-1]
        if not bool(there.all()):
            self._hold(rows_where(there))

    def rows(self) -> tuple[Tensor, Tensor]:
        """All keys and values that are held."""
        keys, values = self.keys, self.values
        assert keys is not None
        assert values is not None
        return keys, values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    def keep(self, rows: Int[Tensor, "B G M"], decided: int | None = None) -> None:
        """Forget all rows but these (ascending, -1 at the end where a head keeps fewer). Memory is freed.

        Args:
            decided: tokens seen when these were chosen; all where None.
        """
        decided = self.seen if decided is None else decided
        if self.trying:
            self.evicted.append(Evicted.without(decided, *self.rows(), self._all_columns(), rows))
            if len(self.evicted) > STEPS:
                self.final = max(self.final, self.evicted.pop(0).decided)
        else:
            self.final = max(self.final, decided)
        self._hold(rows)
        for state in self.states:
            state.forget()

    def _hold(self, rows: Int[Tensor, "B G M"]) -> None:
        keys, values = self.rows()
        counts = (rows >= 0).sum(-1)
        columns = self._all_columns().gather(-1, rows.clamp_min(0))
        if bool((counts == rows.shape[-1]).all()):
            self._ragged = None
            self.held, self.columns = rows.shape[-1], columns
            if keys.shape[2] - self.held <= self.held // self.growth:
                # Few rows go, as at every step of a budget that is full: what comes next gets its room with this copy.
                room = max(64, self.held // self.growth)
                rows = torch.cat((rows, rows[..., -1:].expand(-1, -1, room)), -1)
            self._k, self._v = gathered(keys, rows), gathered(values, rows)
        else:
            self._ragged = RaggedRows.gather(keys, values, rows, columns)
            self._k = self._v = None
            self.columns = self._ragged.columns()
            self.held = self.columns.shape[-1]

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last `-tokens_to_remove` tokens seen; what was evicted since in steps that may be tried returns.

        Raises:
            Incompatible: the last pass was taken for a part of the prompt, and was none.
        """
        if tokens_to_remove > 0:
            raise ValueError(f"KVBuffer: crop takes a count of at most 0; got {tokens_to_remove}.")
        if self.unsure:
            raise Incompatible(self.unsure)
        self._cropped = True
        if tokens_to_remove == 0 or not self.is_initialized:
            return
        seen = max(0, self.seen + tokens_to_remove)
        returning = [e for e in self.evicted if e.decided > seen]
        if returning:
            self._take_in(returning, seen)
        elif self.columns is None:
            self.held = seen
        else:
            self._hold(rows_where((self.columns >= 0) & (self.columns < seen)))
        self.evicted = [e for e in self.evicted if e.decided <= seen]
        self.seen, self.settled = seen, min(self.settled, seen)
        self.began = None if self.began is None or seen < self.began else self.began
        for state in self.states:
            state.crop(seen)

    def _take_in(self, returning: list[Evicted], seen: int) -> None:
        """Hold evicted rows again, but nothing behind the first `seen` columns."""
        keys, values = self.rows()
        columns = torch.cat([self._all_columns(), *(e.columns for e in returning)], -1)
        keys, values, columns = ordered(
            torch.cat([keys, *(e.keys for e in returning)], 2),
            torch.cat([values, *(e.values for e in returning)], 2),
            columns.masked_fill(columns >= seen, -1),
        )
        self.fill(keys[columns >= 0], values[columns >= 0], columns)

    def begin(self) -> None:
        """A pass begins: what was tried before is settled, unless a crop may still come."""
        self.unsure = ""
        if self.record_past and not self._cropped:
            return
        self._cropped = False
        if self.evicted:
            self.final = max([self.final, *(e.decided for e in self.evicted)])
            self.evicted.clear()
        for state in self.states:
            state.settle()

    def activate_past_recording(self) -> None:
        """What comes from now on may be taken back; so the prompt, if there was one, is read."""
        self.record_past, self.unsure = True, ""
        if self.began is None and self.seen:
            self.began = self.seen

    def take_back(self, count: int) -> tuple[Float[Tensor, "B G T D"], Float[Tensor, "B G T Dv"]]:
        """Give back the rows of the newest `count` tokens, as if these had not come yet."""
        keys, values = self.rows()
        at = (self._all_columns() >= 0).sum(-1, keepdim=True) - count + torch.arange(count, device=self.device)
        new = gathered(keys, at), gathered(values, at)
        self._shorten(count)
        self.seen -= count
        return new

    def _shorten(self, count: int) -> None:
        if self._ragged is not None:
            self._ragged.shorten(count)
            self.columns = self._ragged.columns()
            return
        self.held -= count
        if self.columns is not None:
            self.columns = self.columns[..., :-count]

    def reset(self) -> None:
        self._k = self._v = self._ragged = self.columns = self._ahead = self.began = None
        self.seen = self.held = self.settled = self.final = 0
        self.unsure, self.evicted = "", []
        self.is_initialized = False
        for state in self.states:
            state.forget()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        if not self.is_initialized:
            return
        indices = indices.to(self.device)
        if self._ragged is not None:
            self._ragged = self._ragged.select(indices)
        elif self._k is not None and self._v is not None:
            self._k, self._v = self._k.index_select(0, indices), self._v.index_select(0, indices)
        if self.columns is not None:
            self.columns = self.columns.index_select(0, indices)
        self._select_others(indices)

    def _select_others(self, indices: Tensor) -> None:
        self.evicted = [e.select(indices) for e in self.evicted]
        for state in self.states:
            state.select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        keys = self.keys
        if keys is not None:
            rows = torch.arange(keys.shape[0], device=self.device).repeat_interleave(repeats)
            self.batch_select_indices(rows)

    def state(self, kind: type[S]) -> S:
        """The state of this kind that follows the layer; made where there is none."""
        found = next((state for state in self.states if type(state) is kind), None)
        if found is None:
            found = kind()
            self.states.append(found)
        return found

    @property
    def ragged(self) -> bool:
        """Whether sequences or heads hold different numbers of rows."""
        return self._ragged is not None

    @property
    def whole(self) -> bool:
        """Whether every column that was seen is held, and stands in the row of its number."""
        return self.columns is None or bool(((self.columns >= 0).sum(-1) == self.seen).all())

    @property
    def held_bytes(self) -> int:
        """Bytes of keys and values that are held, without the room to grow."""
        if self._ragged is not None:
            return self._ragged.held_bytes
        keys, values = self.keys, self.values
        return 0 if keys is None or values is None else keys.nbytes + values.nbytes

    @property
    def allocated_bytes(self) -> int:
        """Bytes of memory in use, with the room to grow."""
        if self._ragged is not None:
            return self._ragged.allocated_bytes
        return 0 if self._k is None or self._v is None else self._k.nbytes + self._v.nbytes

    def _append(self, k: Tensor, v: Tensor) -> None:
        new = k.shape[2]
        old_k, old_v = self._k, self._v
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (k, v, old_k, old_v)):
            self._k = k if old_k is None else torch.cat((old_k[:, :, : self.held], k), 2)
            self._v = v if old_v is None else torch.cat((old_v[:, :, : self.held], v), 2)
            self.held += new
            return
        if old_k is None or old_v is None or self.held + new > old_k.shape[2]:
            room = self.held + new + max(64, (self.held + new) // self.growth)
            self._k, self._v = _grown(old_k, k, self.held, room), _grown(old_v, v, self.held, room)
        assert self._k is not None
        assert self._v is not None
        self._k[:, :, self.held : self.held + new] = k
        self._v[:, :, self.held : self.held + new] = v
        self.held += new

    def _append_columns(self, held: Int[Tensor, "B G K"], new: int) -> None:
        """The columns of the next tokens are known, so they stand behind those that are held until somebody changes
        these, and a step takes one more of them."""
        b, g, count = held.shape
        if self._ahead is None or self._ahead[0] is not held or count + new > self._ahead[1].shape[-1]:
            room = new + max(64, (count + new) // self.growth)
            coming = torch.arange(self.seen, self.seen + room, device=self.device)
            self._ahead = held, torch.cat((held, coming.expand(b, g, -1)), -1)
        columns = self._ahead[1]
        self.columns = columns[..., : count + new]
        self._ahead = self.columns, columns

    def _all_columns(self) -> Int[Tensor, "B G K"]:
        if self.columns is not None:
            return self.columns
        assert self._k is not None
        b, g = self._k.shape[:2]
        return torch.arange(self.held, device=self.device).expand(b, g, -1)


def _grown(old: Tensor | None, like: Tensor, held: int, room: int) -> Tensor:
    b, g, _, d = like.shape
    buffer = like.new_empty(b, g, room, d)
    if old is not None:
        buffer[:, :, :held] = old[:, :, :held]
    return buffer

"""Change the tokens of a model between its layers: drop, merge, bring back; what was dropped is never computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.core.fate import Fate
from tokenry.models import private
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.axes import facts_of, hooked, learn_axes
from tokenry.models.attention.call import streaming
from tokenry.models.attention.lent import Hook
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import own_part


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """The tokens that go on into the next layer.

    Args:
        hidden: (B, M, E), zeros where a row has fewer tokens.
        columns: (B, M), ascending; the original column each token stands at, -1 in front where a row has fewer.
        moved: how merging moved weight between columns, (B, N0, N0); None where nothing was merged.
    """

    hidden: Float[Tensor, "B M E"]
    columns: Int[Tensor, "B M"]
    moved: Fate | None = None


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a reducer sees before a layer.

    Args:
        layer: the layer about to run, and `layers` how many there are.
        hidden: (B, N, E), the tokens as they would enter it.
        columns: (B, N), the column of the input each one stands at; -1 for none.
        real: (B, N), False for padding.
        first: columns seen before this pass.
        total: columns of this pass.
        parked: (B, N0, E), every column's last state, where the reducer restores; None otherwise.
        later: the tokens of the pass come after the prompt.
    """

    layer: int
    layers: int
    hidden: Float[Tensor, "B N E"]
    columns: Int[Tensor, "B N"]
    real: Bool[Tensor, "B N"]
    first: int
    total: int
    parked: Float[Tensor, "B N0 E"] | None = None
    later: bool = False

    @property
    def decoding(self) -> bool:
        """Whether this pass brings one token on top of those seen before."""
        return self.total == 1 and self.first > 0

    def keep(self, index: Int[Tensor, "B M"]) -> Change:
        """Go on with the tokens `index` (ascending; -1 in front where a row keeps fewer). The last one must stay."""
        at = index.clamp_min(0)
        columns = torch.where(index >= 0, self.columns.gather(1, at), -1)
        hidden = self.hidden.gather(1, at.unsqueeze(-1).expand(-1, -1, self.hidden.shape[-1]))
        return Change(hidden * (columns >= 0).unsqueeze(-1), columns)

    def merge(self, into: Int[Tensor, "B N"], weights: Float[Tensor, "B N"] | None = None) -> Change:
        """Put every token j into token `into[j]` (itself to stay), by the weighted mean of all that go there.

        Args:
            into: index of a token that stays; -1 drops. A token that receives others must go into itself.
            weights: how much each token counts in a mean; ones where None.
        """
        b, n, _ = self.hidden.shape
        share = torch.ones_like(self.hidden[..., 0]) if weights is None else weights.to(self.hidden)
        goes = (into >= 0) & (self.columns >= 0)
        share = share * goes
        target = into.clamp_min(0)
        total = torch.zeros_like(share).scatter_add_(1, target, share)
        wide = target.unsqueeze(-1).expand_as(self.hidden)
        summed = torch.zeros_like(self.hidden).scatter_add_(1, wide, self.hidden * share.unsqueeze(-1))
        own = torch.arange(n, device=into.device).expand(b, -1)
        stays = goes & (into == own)
        if bool((goes & ~stays.gather(1, target)).any()):
            raise InvalidValue("merge: a token that receives others must stay itself; got one that goes elsewhere.")
        merged = replace(self, hidden=summed / total.clamp_min(torch.finfo(total.dtype).tiny).unsqueeze(-1))
        change = merged.keep(front_packed(torch.where(stays, own, -1)))
        return replace(change, moved=self._moved(target, goes))

    def restore(self, columns: Int[Tensor, "B M"]) -> Change:
        """Go on with exactly the tokens of these columns (ascending, -1 in front), each in its last state."""
        if self.parked is None:
            raise InvalidValue("restore: a reducer must declare `restores = True` to bring tokens back.")
        at = torch.where(columns >= 0, columns - self.first, 0)
        hidden = self.parked.gather(1, at.unsqueeze(-1).expand(-1, -1, self.hidden.shape[-1]))
        return Change(hidden * (columns >= 0).unsqueeze(-1), columns)

    def _moved(self, target: Tensor, goes: Tensor) -> Fate:
        b, n0 = len(target), self.total
        row, token = goes.nonzero(as_tuple=True)
        new = self.columns[row, target[row, token]] - self.first
        old = self.columns[row, token] - self.first
        absent = torch.ones(b, n0, dtype=torch.bool, device=target.device)
        here = self.columns >= 0
        absent[here.nonzero(as_tuple=True)[0], self.columns[here] - self.first] = False
        still_row, still = absent.nonzero(as_tuple=True)
        index = torch.stack(
            (torch.cat((row * n0 + new, still_row * n0 + still)), torch.cat((row * n0 + old, still_row * n0 + still)))
        )
        return Fate.summed(index, torch.ones(index.shape[1], device=index.device), (b, n0, n0))


Reduce = Callable[[View], "Change | None"]
"""Before each layer: what goes on into it, or None for everything."""


class Stream:
    """The tokens of one pass through a stack, as they change from layer to layer.

    Args:
        reduce: asked before every layer.
        restores: keep the last state of every token that was dropped.
        whole: give the model one state for every column after the last layer, the last one where it was dropped.
    """

    def __init__(self, reduce: Reduce, *, restores: bool = False, whole: bool = False) -> None:
        self.reduce, self.restores, self.whole = reduce, restores, whole
        self.total = 0
        self.first = 0
        self.columns: Int[Tensor, "B N"] | None = None
        """Where the tokens of now stand; None while all are there."""
        self.slots: Fate | None = None
        self.parked: Float[Tensor, "B N0 E"] | None = None
        self.counts: list[int] = []
        """Tokens that entered each layer, the longest row."""

    def enter(self, layer: int, layers: int, hidden: Float[Tensor, "B N E"], real: Tensor | None, first: int) -> Tensor:
        """The hidden states that go into `layer`."""
        b = hidden.shape[0]
        if layer == 0 or self.total == 0:
            self.total, self.first, self.columns, self.slots, self.parked = hidden.shape[1], first, None, None, None
            self.counts = []
        everything = torch.arange(self.first, self.first + self.total, device=hidden.device).expand(b, -1)
        columns = everything if self.columns is None else self.columns
        if self.restores or self.whole:
            self._park(hidden, columns)
        there = columns >= 0
        if real is not None:
            there = there & real.expand(b, -1).gather(1, columns.clamp_min(0))
        view = View(layer, layers, hidden, columns, there, self.first, self.total, self.parked)
        change = self.reduce(view)
        if change is not None:
            hidden = change.hidden.to(hidden.dtype)
            self.columns = None if torch.equal(change.columns, everything) else change.columns
            if change.moved is not None:
                self.slots = change.moved if self.slots is None else self.slots.then(change.moved)
        self.counts.append(hidden.shape[1])
        return hidden

    @property
    def local(self) -> Int[Tensor, "B N"] | None:
        """Where the tokens of now stand in this pass, -1 for none; None while all are there."""
        return None if self.columns is None else torch.where(self.columns >= 0, self.columns - self.first, -1)

    def leave(self, hidden: Float[Tensor, "B M E"], whole: bool) -> Tensor:
        """What the model goes on with after the last layer: the tokens left, or one state per column."""
        if self.columns is None or not (whole or self.whole):
            return hidden
        self._park(hidden, self.columns)
        assert self.parked is not None
        return self.parked

    def fate(self) -> Fate | None:
        """Which columns of this pass the tokens of now stand for; None while nothing was changed."""
        if self.columns is None and self.slots is None:
            return None
        if self.local is None:
            return self.slots
        taking = Fate.taking(self.local, self.total)
        return taking if self.slots is None else self.slots.then(taking)

    def _park(self, hidden: Tensor, columns: Tensor) -> None:
        if self.parked is None:
            self.parked = hidden.new_zeros(hidden.shape[0], self.total, hidden.shape[-1])
        row, token = (columns >= 0).nonzero(as_tuple=True)
        parked = self.parked.clone() if torch.is_grad_enabled() else self.parked
        parked[row, columns[row, token] - self.first] = hidden[row, token]
        self.parked = parked


class Blocks:
    """The layers of one stack, and which axes of their arguments count tokens, learnt by experiment.

    Args:
        adapter: of the model.
        stack: name of the list of layers.

    Raises:
        UnsupportedModel: the stack does not run with fewer tokens, or not as if the others were masked.
    """

    def __init__(self, adapter: ModelAdapter, stack: str) -> None:
        self.adapter, self.stack = adapter, stack
        layers = adapter.model.get_submodule(stack) if stack else None
        if not isinstance(layers, nn.ModuleList) or len(layers) < 2:
            raise UnsupportedModel(f"{self}: must keep at least two layers in a list to change tokens between them.")
        self.blocks = list(layers)
        self.cached = any(p.kind == "self" and p.cached for p in adapter.sites.values() if p.stack == stack)
        self.first = next(iter(adapter.sites.values())).stack == stack
        """Whether a pass through the model begins here."""
        self.whole = False
        """Whether what follows the stack needs one state for every column, also for those that were dropped."""
        with adapter.experimenting("must run the small inputs that show how its layers take tokens"):
            self.axes = learn_axes(adapter.model, self.blocks)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """While the adapter is attached: every pass through the stack is a stream of its own."""
        hooks = [
            b.register_forward_pre_hook(Hook(self._before(i)), with_kwargs=True) for i, b in enumerate(self.blocks)
        ]
        hooks.append(self.blocks[-1].register_forward_hook(Hook(self._after)))
        with hooked(*hooks):
            try:
                yield
            finally:
                streaming.stream = None

    def __str__(self) -> str:
        return f"{type(self.adapter.model).__name__}{f', {self.stack}' if self.stack else ''}"

    def _before(self, i: int) -> Callable[..., Any]:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            cache = next((v for v in (*args, *kwargs.values()) if isinstance(v, Cache)), None)
            if i == 0:
                if self.first:
                    self.adapter.begin()
                make = getattr(self.adapter.handler(cache), "stream", None)
                streaming.stream, streaming.stack = make(self.stack) if make else None, self.stack
            stream = streaming.stream
            if stream is None:
                return None
            buffer = self._buffer(cache, i)
            facts = facts_of(args, kwargs)
            first = buffer.seen if buffer is not None else 0 if facts is None else facts.first_query
            real = None if facts is None else facts.padding
            hidden = stream.enter(i, len(self.blocks), self.axes.of(args, kwargs), real, first)
            if buffer is not None and stream.columns is not None:
                buffer.incoming = stream.columns, stream.total
            return self.axes.change(args, kwargs, hidden, stream.local, stream.total)

        return before

    def _after(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        stream, streaming.stream = streaming.stream, None
        if stream is None:
            return None
        if isinstance(output, Tensor):
            return stream.leave(output, self.whole)
        return (stream.leave(output[0], self.whole), *output[1:])

    def _buffer(self, cache: Cache | None, i: int) -> KVBuffer | None:
        if cache is None or not self.cached:
            return None
        own = own_part(cache)
        kind = private.layer_kind(own)
        while len(own.layers) <= i and kind is not None:
            own.layers.append(kind())
        layer = own.layers[i]
        return layer if isinstance(layer, KVBuffer) else None


def front_packed(index: Int[Tensor, "B N"]) -> Int[Tensor, "B M"]:
    """Ascending indices with the holes (-1) in front, no wider than the longest row."""
    width = max(1, int((index >= 0).sum(1).max()))
    return index.sort(1).values[:, index.shape[1] - width :]

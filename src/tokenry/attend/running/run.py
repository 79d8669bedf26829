"""What happens while a method is attached: the handlers of its caches, and the account of what they read."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING
from weakref import WeakSet

from torch import Tensor
from transformers.cache_utils import Cache

from tokenry.core.errors import Incompatible, WithoutEffect
from tokenry.core.fields import at_least_one
from tokenry.models.attention.call import Handler
from tokenry.models.attention.passes import attended
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import refuse_foreign
from tokenry.models.cache.reads import Reads

if TYPE_CHECKING:
    import torch

    from tokenry.attend.base import Attention


class Run:
    """What happened while a method was attached.

    Args:
        method: the attached method.
        prompt_tokens: columns of the prompt where known; eviction then happens as soon as these were read,
            layer by layer, and otherwise at the first decoding step, which is exact for prompts read in chunks.
        by_column: count the reads of every column for each layer and KV head.
    """

    def __init__(self, method: Attention, *, prompt_tokens: int | None = None, by_column: bool = False) -> None:
        self.method = method
        self.prompt_tokens = at_least_one(prompt_tokens, method.name(), "prompt_tokens")
        self.reads = Reads(by_column=by_column)
        self.caches: WeakSet[Cache] = WeakSet()
        self.passes = self.acted = False
        """Whether the model read anything, and whether the method acted on any of it."""
        self.most = 0
        """Columns that the longest cache has seen."""

    def handler(self, cache: Cache | None) -> Handler:
        """The handler of one cache: it keeps a state for each layer, which follows that layer's buffer.

        Raises:
            Incompatible: the method cannot act on such a cache.
        """
        states: dict[tuple[str, str, int], LayerState] = {}
        acting: dict[tuple[torch.device, torch.dtype], Attention] = {}
        self.passes = True
        declared = self.method
        if cache is not None:
            if self.method.needs_keys:
                refuse_foreign(cache, self.method.name())
            self.caches.add(cache)

        def attend(site: Site) -> Tensor:
            # The site was made for this call: another one for these two would take longer than all else here.
            site.reads, site.prompt = self.reads, self.prompt_tokens
            if site.kind not in declared.kinds:
                return site.dense()
            where = site.k.device, site.k.dtype
            method = acting.get(where) or acting.setdefault(where, declared.here(site))
            place = (site.stack, site.kind, site.layer)
            if place not in states:
                states[place] = self.state_of(site, method.State())
            self.acted |= site.buffer is not None or not method.needs_keys
            if site.buffer is None:
                return method.attend(site, states[place])
            self.most = max(self.most, site.buffer.seen)
            self.check_padding(site)
            return attended(site, states[place], method.attend, one_by_one=method.one_by_one, unsure=self.unsure_of)

        return attend

    def check_padding(self, site: Site) -> None:
        """Refuse what the method cannot know.

        Raises:
            Incompatible: nobody tells padding from tokens.
        """
        assert site.buffer is not None
        if site.facts is None or site.facts.tells_padding or self.method.covers(site.buffer.seen):
            return
        raise Incompatible(
            f"{self.method.name()}: must know which tokens are padding; got an attention mask of four axes, or of "
            "fewer tokens than there are, which does not tell; give one of two axes over all tokens, or use the model "
            "as it is."
        )

    def unsure_of(self, site: Site) -> str:
        """What is said where a pass is taken back that was read as the prompt; nothing where that changes nothing."""
        assert site.buffer is not None
        if self.method.covers(site.buffer.seen):
            return ""
        return (
            f"{self.method.name()}: must know where the prompt ends before tokens are taken back; got a crop after a "
            f"pass of {site.q.shape[2]} tokens, which may be of the prompt or tried ones; say "
            "method(model, prompt_tokens=n)."
        )

    def state_of(self, site: Site, new: LayerState) -> LayerState:
        """The state that came with a cache, or a new one that follows it from now on."""
        if site.buffer is None:
            return new
        own = next((s for s in site.buffer.states if type(s) is type(new)), new)
        if own is new:
            site.buffer.states.append(new)
        return own

    def say_whether_it_acted(self, model: str) -> None:
        """Warn of a method that was attached for nothing."""
        if self.acted and not 0 < self.most < (self.prompt_tokens or 0):
            return
        got, do = "nothing was read with it", "call the model that the method was given"
        if self.acted:
            got = f"it read {self.most} tokens, all as a part of a prompt of prompt_tokens={self.prompt_tokens}"
            do = "give the length of the prompt"
        elif self.passes:
            got, do = "it read everything densely, without a cache to act on", "give a cache"
        warnings.warn(
            f"{self.method.name()}: must act on what {model} reads while it is attached; {got}; {do}.",
            WithoutEffect,
            stacklevel=4,
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of keys and values that the caches of this run hold now."""
        return sum(held_bytes(cache) for cache in self.caches)


def held_bytes(cache: Cache) -> int:
    """Bytes of keys and values that a cache holds."""
    total = 0
    for layer in cache.layers:
        if isinstance(layer, KVBuffer):
            total += layer.held_bytes
        else:
            total += sum(
                t.nbytes for t in (getattr(layer, "keys", None), getattr(layer, "values", None)) if t is not None
            )
    return total

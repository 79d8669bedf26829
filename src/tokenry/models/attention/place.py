"""Where in a model attention happens: which stack, which layer, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from tokenry.models.attention.copies import Copies, copies_of
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.mask import MaskFacts

Kind = Literal["self", "cross", "encoder"]


@dataclass(frozen=True, slots=True)
class Place:
    """One attention layer.

    Args:
        layer: index among the layers of its stack; where `cached`, of the cache.
        kind: `self` reads what is being decoded, up to the token itself; `cross` reads another input, such as what an
            encoder made; `encoder` reads its own input, all of it or in a model that decodes nothing.
        stack: name of the list of layers it stands in.
        cached: it writes keys and values into the cache that the model is given.
        copies: how attention is given every head that it caches several times.
    """

    layer: int = 0
    kind: Kind = "self"
    stack: str = ""
    cached: bool = True
    copies: Copies = ""


class Search:
    """Watches one experiment and notes the place of every module that calls the attention function."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.places: dict[nn.Module, Place] = {}
        self.latent = self.biased = self.remade = self.shares = False
        self._names = {m: n for n, m in model.named_modules()}
        self._lists = {n for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
        self._decodes = False
        self._own: Any = None
        self._other: Any = None
        self._last: nn.Module | None = None
        self._stepping = False

    def run(self, experiment: Experiment) -> None:
        """Run the input; where the model decodes, with caches that tell which of their layers was written."""
        self._decodes = experiment.decodes
        cache: Any = experiment.new_cache(_Watched)
        together = isinstance(cache, EncoderDecoderCache)
        self._own = cache.self_attention_cache if together else cache
        self._other = cache.cross_attention_cache if together else None
        experiment.run(cache)
        if cache is not None:
            self._last, self._stepping = None, True
            experiment.step(cache)

    def note(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, facts: MaskFacts | None,
        bias: Tensor | None,
    ) -> None:  # fmt: skip
        """One call of the attention function."""
        last, self._last = self._last, module
        self.biased |= bias is not None
        stack, block = self._block(self._names.get(module, ""))
        own = self._own.taken() if self._own is not None else None
        other = self._other.taken() if self._other is not None else None
        if own is None and other is None and (self._stepping or module is last):
            self._compare_again(module, again=module is last)
            return
        if self._stepping:
            return
        if other is not None:
            self.places[module] = Place(other, "cross", stack)
            return
        written = None if own is None else self._own.given[0]
        count = key.shape[2] if written is None else written.shape[2]
        copies = self._compare(key, value) if own is not None else ""
        kind = self._kind(query, count, facts)
        layer = block if own is None else own
        self.places[module] = Place(layer, kind, stack, cached=own is not None, copies=copies)

    def _compare(self, key: Tensor, value: Tensor) -> Copies:
        """What attention gets beside what the cache gave."""
        keys, values = self._own.given
        copies = copies_of(keys, key)
        if keys.shape[1::2] == key.shape[1::2]:
            self.remade |= not (torch.equal(keys, key) and values.shape == value.shape and torch.equal(values, value))
            return ""
        if copies and copies_of(values, value) == copies:
            return copies
        self.latent = True
        return ""

    def _compare_again(self, module: nn.Module, *, again: bool) -> None:
        """A call to which nothing new was written."""
        place = self.places.get(module)
        if place is None or place.kind != "self" or not place.cached:
            return
        # The same tokens are read again, as where values are split in two; or keys that do not grow with the tokens.
        self.remade |= again
        self.shares |= not again

    def _kind(self, query: Tensor, keys: int, facts: MaskFacts | None) -> Kind:
        """Told by what the first token may see: nothing after it, where it is being decoded."""
        if keys != query.shape[2]:
            return "cross"
        if not self._decodes or facts is None:
            return "encoder"
        columns = torch.arange(facts.first_key, facts.first_key + keys, device=query.device).expand(len(query), 1, -1)
        return "encoder" if bool(facts.allowed(columns, slice(0, 1))[..., 1:].any()) else "self"

    def _block(self, name: str) -> tuple[str, int]:
        """The outermost list of layers that the module stands in, and the index there."""
        parts = name.split(".")
        for depth in range(1, len(parts)):
            if ".".join(parts[:depth]) in self._lists:
                return ".".join(parts[:depth]), int(parts[depth])
        return "", 0


class _Watched(DynamicCache):
    """A cache that remembers which layer was written last, and what it gave."""

    last: int | None = None
    given: tuple[Tensor, Tensor]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **more: Any) -> Any:
        self.last = layer_idx
        self.given = super().update(key_states, value_states, layer_idx, *args, **more)
        return self.given

    def taken(self) -> int | None:
        """That layer, once."""
        last, self.last = self.last, None
        return last

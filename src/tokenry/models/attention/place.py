"""Where in a model attention happens: which stack, which layer, and on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from tokenry.models.attention.experiment import Experiment

Kind = Literal["self", "cross", "encoder"]


@dataclass(frozen=True, slots=True)
class Place:
    """One attention layer.

    Args:
        layer: index among the layers of its stack; for `self` and `cross` also of its cache.
        kind: `self` reads a cache of what is being decoded, `cross` reads an encoder's output, `encoder` reads the
            tokens of its own input.
        stack: name of the list of layers it stands in.
    """

    layer: int = 0
    kind: Kind = "self"
    stack: str = ""


class Search:
    """Watches one experiment and notes the place of every module that calls the attention function."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.places: dict[nn.Module, Place] = {}
        self.latent = self.biased = False
        self._names = {m: n for n, m in model.named_modules()}
        self._lists = {n for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
        self._own: _Watched | None = None
        self._other: _Watched | None = None

    def run(self, experiment: Experiment) -> None:
        """Run the input, where the model decodes with caches that tell which of their layers was written."""
        first = experiment.run(**({"use_cache": True} if experiment.caches else {}))
        cache = first.get("past_key_values")
        if cache is None:
            return
        # Found again with the caches; a part that never runs with one, such as an image encoder, is found again too.
        self.places.clear()
        self._own = _Watched(config=experiment.model.config)
        if isinstance(cache, EncoderDecoderCache):
            self._other = _Watched(config=experiment.model.config)
            experiment.run(use_cache=True, past_key_values=EncoderDecoderCache(self._own, self._other))
        else:
            experiment.run(use_cache=True, past_key_values=self._own)

    def note(self, module: nn.Module, key: Tensor, bias: Tensor | None) -> None:
        """One call of the attention function."""
        self.biased |= bias is not None
        stack, block = self._block(self._names.get(module, ""))
        own = self._own.taken() if self._own is not None else None
        other = self._other.taken() if self._other is not None else None
        if own is not None:
            assert self._own is not None
            self.places[module] = Place(own, "self", stack)
            held = getattr(self._own.layers[own], "keys", None)
            self.latent |= isinstance(held, Tensor) and held.shape[1::2] != key.shape[1::2]
        elif other is not None:
            self.places[module] = Place(other, "cross", stack)
        else:
            self.places[module] = Place(block, "encoder", stack)

    def _block(self, name: str) -> tuple[str, int]:
        """The outermost list of layers that the module stands in, and the index there."""
        parts = name.split(".")
        for depth in range(1, len(parts)):
            if ".".join(parts[:depth]) in self._lists:
                return ".".join(parts[:depth]), int(parts[depth])
        return "", 0


class _Watched(DynamicCache):
    """A cache that remembers which layer was written last."""

    last: int | None = None

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **more: Any) -> Any:
        self.last = layer_idx
        return super().update(key_states, value_states, layer_idx, *args, **more)

    def taken(self) -> int | None:
        """That layer, once."""
        last, self.last = self.last, None
        return last

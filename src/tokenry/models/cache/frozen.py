"""A cache as plain tensors: copied, saved to one safetensors file, and gone on with in another process."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicSlidingWindowLayer

from tokenry.core.errors import Incompatible, StorageError
from tokenry.core.saving import whole_file
from tokenry.models import private
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.hybrid import HybridKV
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import own_buffers

SCHEMA = "tokenry.cache/0"


@dataclass(frozen=True, eq=False)
class FrozenCache:
    """What a cache holds, apart from the cache.

    Args:
        facts: of the model, and for each layer what is not a tensor.
        tensors: keys, values, columns and states of the layers, by name.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, cache: Cache, model: PreTrainedModel) -> FrozenCache:
        """A copy of everything that the layers hold.

        Raises:
            Incompatible: a layer is of a kind that cannot be copied.
        """
        layers: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for i, layer in enumerate(cache.layers):
            fact, found = _held(layer)
            layers.append(fact)
            tensors |= {f"{i}.{name}": t.detach().clone().contiguous() for name, t in found.items()}
        return cls({"schema": SCHEMA, "model": _geometry(model), "layers": layers}, tensors)

    def thaw(
        self, model: PreTrainedModel, state: type[LayerState] = LayerState, cache: DynamicCache | None = None
    ) -> DynamicCache:
        """A cache that holds a copy.

        Args:
            model: of the same geometry.
            state: the states of the method that goes on; those of another method are left out.
            cache: empty, to be filled; a new one where None.

        Raises:
            Incompatible: the model is another one.
        """
        if self.facts["model"] != _geometry(model):
            raise Incompatible(
                f"cache: must go on with the model it was made with, {self.facts['model']}; got {_geometry(model)}."
            )
        cache = DynamicCache(config=model.config) if cache is None else cache
        own_buffers(cache)
        device = private.input_device(model)
        for i, fact in enumerate(self.facts["layers"]):
            if len(cache.layers) <= i:
                cache.layers.append(KVBuffer())
            mine = {n.partition(".")[2]: t for n, t in self.tensors.items() if n.startswith(f"{i}.")}
            _fill(cache.layers[i], fact, {n: t.to(device).clone() for n, t in mine.items()}, state)
        return cache

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors.values())

    def save(self, file: str | Path, **more: Any) -> None:
        """Write one safetensors file, whole or not at all.

        Args:
            more: plain values to keep beside, under their names.
        """
        tensors = {name: t.cpu() for name, t in self.tensors.items()}
        with whole_file(Path(file)) as draft:
            save_file(tensors, draft, metadata={"tokenry": json.dumps(self.facts | more)})

    @classmethod
    def load(cls, file: str | Path) -> tuple[FrozenCache, dict[str, Any]]:
        """What `save` wrote, and the values kept beside; nothing in the file is executed.

        Raises:
            StorageError: the file is missing, damaged or holds something else.
        """
        try:
            with safe_open(Path(file), "pt") as content:
                facts = json.loads((content.metadata() or {}).get("tokenry", "null"))
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError) as error:
            raise StorageError(f"{file}: must be a whole file of a saved cache; {error}.") from error
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            raise StorageError(f"{file}: must hold a cache of {SCHEMA}; it holds something else.")
        own = {key: facts.pop(key, None) for key in ("schema", "model", "layers")}
        _check(file, own, tensors)
        return cls(own, tensors), facts


def _held(layer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if isinstance(layer, KVBuffer) and not isinstance(layer, HybridKV):
        fact: dict[str, Any] = {"kind": "rows", "seen": layer.seen, "settled": layer.settled, "states": []}
        fact |= {"final": max([layer.final, *(e.decided for e in layer.evicted)]), "began": layer.began}
        if not layer.is_initialized:
            return fact | {"kind": "empty"}, {}
        keys, values = layer.rows()
        found = {"keys": keys, "values": values}
        if layer.columns is not None:
            # Rows behind the end of a run are not worth a file: keys and values lie flat.
            there = layer.columns >= 0
            found = {"keys": keys[there], "values": values[there], "columns": layer.columns}
        for j, state in enumerate(layer.states):
            plain, tensors = _state(state)
            fact["states"].append(plain)
            found |= {f"state.{j}.{name}": t for name, t in tensors.items()}
        return fact, found
    if type(layer) is DynamicSlidingWindowLayer:
        if not layer.is_initialized:
            return {"kind": "empty"}, {}
        assert layer.keys is not None
        assert layer.values is not None
        return {"kind": "sliding", "seen": private.seen_by(layer)}, {"keys": layer.keys, "values": layer.values}
    raise Incompatible(
        f"cache: layers must be plain or with a sliding window to be copied; got {type(layer).__name__}."
    )


def _state(state: LayerState) -> tuple[dict[str, Any], dict[str, Tensor]]:
    values = {f.name: getattr(state, f.name) for f in fields(state)}
    plain = {n: v for n, v in values.items() if isinstance(v, bool | int | float | str) or v is None}
    return {"of": type(state).__name__, "values": plain}, {n: v for n, v in values.items() if isinstance(v, Tensor)}


def _fill(layer: Any, fact: dict[str, Any], tensors: dict[str, Tensor], state: type[LayerState]) -> None:
    if fact["kind"] == "empty":
        return
    keys, values, columns = tensors["keys"], tensors["values"], tensors.get("columns")
    if not isinstance(layer, KVBuffer):
        layer.update(keys, values)
        private.set_seen_by(layer, fact["seen"])
        return
    if columns is None:
        layer.update(keys, values)
    else:
        layer.fill(keys, values, columns)
    layer.seen, layer.settled = fact["seen"], fact["settled"]
    layer.final, layer.began = fact.get("final", fact["settled"]), fact.get("began")
    for j, plain in enumerate(fact["states"]):
        if plain["of"] == state.__name__:
            names = {f.name for f in fields(state)}
            found = {n.removeprefix(f"state.{j}."): t for n, t in tensors.items() if n.startswith(f"state.{j}.")}
            given = {n: v for n, v in (plain["values"] | found).items() if n in names}
            layer.states.append(state(**given))


def _geometry(model: PreTrainedModel) -> dict[str, Any]:
    config = model.config.get_text_config()
    names = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    return {name: getattr(config, name, None) for name in names} | {"dtype": str(model.dtype).removeprefix("torch.")}


def _check(file: str | Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Shapes that belong together, so that nothing is read beside its end."""
    layers = facts["layers"]
    wrong = not isinstance(layers, list) or not all(isinstance(fact, dict) for fact in layers)
    for i, fact in enumerate([] if wrong else layers):
        if fact.get("kind") == "empty":
            continue
        keys, values, columns = (tensors.get(f"{i}.{n}") for n in ("keys", "values", "columns"))
        wrong |= fact.get("kind") not in ("rows", "sliding") or not isinstance(fact.get("seen"), int)
        wrong |= keys is None or values is None or keys.shape[:-1] != values.shape[:-1]
        if not wrong and columns is not None and keys is not None:
            flat = int((columns >= 0).sum())
            wrong |= columns.dtype != torch.int64 or columns.ndim != 3 or keys.ndim != 2 or len(keys) != flat
            wrong |= bool((columns >= fact["seen"]).any()) or bool((columns < -1).any())
    if wrong:
        raise StorageError(f"{file}: its layers must hold keys and values that belong together; they do not.")

"""Prove on a small input that forgetting cached keys is the same as masking them."""

from __future__ import annotations

from weakref import WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tokenry.core.errors import UnsupportedModel
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import own_part

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
_proven: WeakSet[PreTrainedModel] = WeakSet()


def prove_forgetting(adapter: ModelAdapter) -> None:
    """Let a model go on from a cache that forgot some columns, and from one where they are masked; proven once.

    Raises:
        UnsupportedModel: it says something else, as where positions are counted out from the keys that are held.
    """
    if adapter.model in _proven:
        return
    with adapter.experimenting("must run small inputs"):
        experiment = Experiment(adapter.model)
    masked, forgotten = (_steps(adapter, experiment, forget=forget) for forget in (False, True))
    share = TOLERANCE.get(adapter.model.dtype, 5e-2)
    for a, b in zip(masked, forgotten, strict=True):
        error, allowed = (a - b).abs().max().item(), share * max(1.0, a.abs().max().item())
        if not error <= allowed:
            raise UnsupportedModel(
                f"{type(adapter.model).__name__}: forgetting cached keys must be the same as masking them; what "
                f"follows differs by {error:.2g} where {allowed:.2g} is allowed; use a method that keeps all keys."
            )
    _proven.add(adapter.model)


def _steps(adapter: ModelAdapter, experiment: Experiment, *, forget: bool) -> list[Tensor]:
    """What the model says in two steps after a prompt of which some columns are gone."""
    read: dict[int, int] = {}

    def attend(site: Site) -> Tensor:
        if forget or site.buffer is None or id(site.buffer) not in read:
            return site.dense()
        rows = _left(site.buffer.rows()[0].shape[:2], read[id(site.buffer)], site.k.shape[2])
        return site.narrow(rows.to(site.k.device)).dense()

    with adapter.experimenting("must go on from a cache"), adapter.attached_to(lambda _: attend):
        cache = experiment.new_cache()
        assert cache is not None
        experiment.run(cache)
        for buffer in own_part(cache).layers:
            if isinstance(buffer, KVBuffer) and buffer.is_initialized:
                read[id(buffer)] = buffer.seen
                if forget:
                    keys, _ = buffer.rows()
                    buffer.keep(_left(keys.shape[:2], buffer.seen, buffer.seen).to(keys.device))
        return [v for i in range(2) for v in experiment.step(cache, 1, i).values() if _is_number(v)]


def _left(size: torch.Size, read: int, held: int) -> Tensor:
    """All rows but two of the prompt, others in every sequence and head."""
    b, g = size
    each = [[i for i in range(held) if i not in (1 + (s + h) % 2, read - 2)] for s in range(b) for h in range(g)]
    return torch.tensor(each).view(b, g, -1)


def _is_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()

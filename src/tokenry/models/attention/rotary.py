"""Turn keys from the position they were rotated for to another one, as their model rotates; learnt by experiment."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from tokenry.core.errors import UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.axes import hooked
from tokenry.models.attention.site import Site, wide

Pairing = Callable[[Tensor], Tensor]
_known: WeakKeyDictionary[PreTrainedModel, Rotary] = WeakKeyDictionary()


class Rotary:
    """The rotation of every layer that decodes: its angles a position, and which numbers of a key turn together.

    These are the first numbers of a key or, where keys are made of latents, the last.

    One token alone attends only to itself, so at two positions its keys differ in every layer by a rotation and by
    nothing else. The angles are those that the model gives its layers; which pairing they are for is tried out.

    Args:
        adapter: of the model.

    Raises:
        UnsupportedModel: keys at two positions differ by anything but such a rotation.
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        near, angles = _keys_at(adapter, 1)
        far, _ = _keys_at(adapter, 6)
        self._angles: dict[int, Float[Tensor, "R"]] = {}
        self._pairs: dict[int, Pairing] = {}
        self._starts: dict[int, int] = {}
        """The first number of a key that turns."""
        for layer, key in near.items():
            if torch.allclose(key, far[layer], atol=1e-5, rtol=1e-4):
                continue
            share = 1e-3 if adapter.model.dtype in (torch.float32, torch.float64) else 5e-2
            found = _try(key, far[layer], angles.get(layer), steps=5, share=share)
            if found is None:
                raise UnsupportedModel(
                    f"{type(adapter.model).__name__}: layer {layer} must rotate its keys by position and do nothing "
                    "else with positions; it does not, so tokens cannot be given other ones."
                )
            self._angles[layer], self._pairs[layer], self._starts[layer] = found

    @classmethod
    def of(cls, model: Any) -> Rotary:
        """The rotation of a model, learnt once."""
        adapter = ModelAdapter.of(model)
        if adapter.model not in _known:
            _known[adapter.model] = cls(adapter)
        return _known[adapter.model]

    def turn(self, layer: int, keys: Float[Tensor, "B G K D"], by: Int[Tensor, "B #G K"]) -> Float[Tensor, "B G K D"]:
        """Keys as they would be `by` positions later; negative goes back. Layers without rotation change nothing."""
        if layer not in self._angles:
            return keys
        return _turned(keys, by, self._angles[layer].to(keys.device), self._pairs[layer], self._starts[layer])

    def pairs(self, layer: int, width: int) -> Int[Tensor, "P 2"]:
        """Which numbers of a key turn together; what does not turn is taken in neighbours."""
        start = self._starts.get(layer, 0)
        end = start + 2 * len(self._angles.get(layer, ()))
        together = torch.arange(start, end)
        halves = self._pairs.get(layer) is _halves
        together = together.view(2, -1).T if halves else together.view(-1, 2)
        rest = torch.cat((torch.arange(start), torch.arange(end, width)))
        return torch.cat((together, rest.view(-1, 2)))


def turned(site: Site, x: Float[Tensor, "B X K2 D"], by: Int[Tensor, "B #X K2"]) -> Float[Tensor, "B X K2 D"]:
    """Queries or keys of a site's layer as if their tokens stood `by` positions later."""
    assert site.model is not None
    return Rotary.of(site.model).turn(site.layer, x, by)


def _try(
    near: Tensor, far: Tensor, angles: Tensor | None, steps: int, share: float
) -> tuple[Tensor, Pairing, int] | None:
    """The pairing under which `near` is `far` some steps later, and the first number that turns."""
    if angles is None:
        return None
    by = torch.full(near.shape[:3], steps)
    for start, pair in product((0, near.shape[-1] - 2 * len(angles)), (_halves, _neighbours)):
        if start < 0:
            continue
        found = _turned(near, by, angles, pair, start)
        if torch.allclose(found, far, atol=share * far.abs().max().item(), rtol=0.0):
            return angles, pair, start
    return None


def _turned(keys: Tensor, by: Int[Tensor, "B #G K"], angles: Float[Tensor, "R"], pair: Pairing, start: int) -> Tensor:
    end = start + 2 * len(angles)
    turning = wide(keys[..., start:end])
    angle = by.unsqueeze(-1).double() * angles.double()
    cos, sin = (_spread(part.to(turning.dtype), pair) for part in (angle.cos(), angle.sin()))
    out = turning * cos + pair(turning) * sin
    return torch.cat((keys[..., :start], out.to(keys.dtype), keys[..., end:]), -1)


def _halves(x: Tensor) -> Tensor:
    """Number i turns with number i + R."""
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def _neighbours(x: Tensor) -> Tensor:
    """Number 2i turns with number 2i + 1."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def _spread(angle: Tensor, pair: Pairing) -> Tensor:
    return torch.cat((angle, angle), -1) if pair is _halves else angle.repeat_interleave(2, -1)


@torch.no_grad()
def _keys_at(adapter: ModelAdapter, position: int) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Keys of one token standing alone at a position, and the angles a position that its layers were given."""
    keys: dict[int, Tensor] = {}
    angles: dict[int, Tensor] = {}

    def attend(site: Site) -> Tensor:
        if site.kind == "self":
            keys[site.layer] = site.k.float().cpu()
        return site.dense()

    def listen(layer: int) -> Callable[..., None]:
        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for value in (*args, *kwargs.values()):
                if isinstance(value, tuple | list) and len(value) == 2 and all(map(torch.is_tensor, value)):
                    angles[layer] = _per_position(value[0].float().cpu(), value[1].float().cpu(), position)

        return before

    own = {m: p.layer for m, p in adapter.sites.items() if p.kind == "self"}
    hooks = [m.register_forward_pre_hook(listen(layer), with_kwargs=True) for m, layer in own.items()]
    device = private.input_device(adapter.model)
    ids, at = torch.tensor([[5]], device=device), torch.tensor([[position]], device=device)
    with (
        adapter.experimenting("must take a token at a given position"),
        hooked(*hooks),
        adapter.attached_to(lambda _: attend),
    ):
        adapter.model(input_ids=ids, position_ids=at, use_cache=False)
    return keys, angles


def _per_position(cos: Tensor, sin: Tensor, position: int) -> Tensor:
    """Angles of each pair for one position; the first half of a table that names every angle twice."""
    angle = torch.atan2(sin, cos).reshape(-1, cos.shape[-1])[0] / position
    half = len(angle) // 2
    if torch.equal(angle[:half], angle[half:]):
        return angle[:half]
    return angle[::2] if torch.equal(angle[::2], angle[1::2]) else angle

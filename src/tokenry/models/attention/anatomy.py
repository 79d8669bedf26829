"""Take an encoder apart by experiment: which module plays which role, proven before anything is read from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tokenry.core.errors import UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.encoder_layer import Activation, EncoderLayer, Head, Steps, linear
from tokenry.models.attention.site import Site

PROBE = 7
"""Tokens of the text that the experiment reads."""

_FUNCTIONS: tuple[Activation, ...] = (torch.tanh, functional.gelu, functional.relu, functional.silu)
"""What may stand between two linear layers without being a module."""


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """The layers of an encoder, and its classifier where it has one."""

    layers: tuple[EncoderLayer, ...]
    head: Head | None


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What an encoder computed of one text, layer by layer."""

    steps: tuple[Steps, ...]
    head: Head | None


_found: WeakKeyDictionary[PreTrainedModel, Anatomy] = WeakKeyDictionary()


def anatomy(model: PreTrainedModel) -> Anatomy:
    """The parts of an encoder by role, found and proven once.

    Raises:
        UnsupportedModel: a layer is built in another way than `EncoderLayer`, or computes something else.
    """
    if model not in _found:
        _found[model] = _Dissection(model).anatomy()
    return _found[model]


@torch.no_grad()
def read(model: PreTrainedModel, ids: Int[Tensor, "T"]) -> Reading:
    """Read one text without padding, and keep everything that its layers compute.

    Raises:
        UnsupportedModel: the model cannot be taken apart.
    """
    parts = anatomy(model)
    inputs: list[Tensor] = []
    hook = parts.layers[0].values.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        with _watched(model) as sites:
            model(input_ids=ids.unsqueeze(0).to(private.input_device(model)))
    finally:
        hook.remove()
    # Layers that share their modules call the first of them again.
    return Reading(_through(parts.layers, inputs[0][0], sites), parts.head)


def _through(layers: tuple[EncoderLayer, ...], x: Float[Tensor, "T E"], sites: list[Site]) -> tuple[Steps, ...]:
    found: list[Steps] = []
    for layer, site in zip(layers, sites, strict=True):
        found.append(layer.steps(x.float(), site.probs()[0]))
        x = found[-1].out
    return tuple(found)


@contextmanager
def _watched(model: PreTrainedModel, calls: list[_Call] | None = None) -> Iterator[list[Site]]:
    """Collect the attention sites of a forward, and enter them among the calls of modules."""
    sites: list[Site] = []

    def attend(site: Site) -> Tensor:
        out = site.dense()
        sites.append(site)
        if calls is not None:
            calls.append(_Call(site, site.v, out.transpose(1, 2).flatten(2)))
        return out

    with ModelAdapter.of(model).attached_to(lambda _: attend):
        yield sites


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call of a module without children, or of attention with its values and its mixed vectors."""

    who: nn.Module | Site
    given: Tensor
    made: Tensor


class _Dissection:
    """One forward over a small text. Who plays a role is told by the values that are handed on, never by names."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.calls: list[_Call] = []
        self.states: list[Tensor] = []
        self.at = 0

    @torch.no_grad()
    def anatomy(self) -> Anatomy:
        outputs, sites = self._run()
        found = [self._layer(i) for i in range(len(sites))]
        layers = tuple(layer for layer, _ in found)
        inputs = [x[0] for _, x in found]
        parts = Anatomy(layers, self._head(outputs))
        self._prove(parts, _through(layers, inputs[0], sites), [*inputs[1:], self.states[-1][0]], outputs)
        return parts

    def _run(self) -> tuple[Any, list[Site]]:
        def after(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(out, Tensor):
                self.calls.append(_Call(module, args[0], out))

        def at_the_end(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            self.states.append(out[0])

        vocabulary = getattr(self.model.config.get_text_config(), "vocab_size", 97)
        ids = (torch.arange(PROBE, device=private.input_device(self.model)) * 7 + 3).remainder(min(vocabulary, 97))
        hooks = [m.register_forward_hook(after) for m in self.model.modules() if not list(m.children())]
        hooks.append(self.model.base_model.register_forward_hook(at_the_end))
        try:
            with _watched(self.model, self.calls) as sites:
                outputs = self.model(input_ids=ids.unsqueeze(0))
        except (TypeError, ValueError, AttributeError) as error:
            raise self._refusal("it must read token ids alone") from error
        finally:
            for hook in hooks:
                hook.remove()
        return outputs, sites

    def _layer(self, i: int) -> tuple[EncoderLayer, Tensor]:
        """The next layer, and its input."""
        start, self.at = self.at, next(
            n for n in range(self.at, len(self.calls)) if isinstance(self.calls[n].who, Site)
        )  # fmt: skip
        attention = self.calls[self.at]
        assert isinstance(attention.who, Site)
        if attention.who.q.shape[1] != attention.given.shape[1]:
            raise self._refusal(f"layer {i} must have values for each head")
        values = self._linear(
            i, "make its values in one linear layer", lambda c: _same(_heads(c.made, attention.given), attention.given),
            range(self.at - 1, start - 1, -1),
        )  # fmt: skip
        x = values.given
        output = self._linear(i, "put its heads together in one linear layer", lambda c: _same(c.given, attention.made))
        norm = self._norm(i, "attention", x, output.made)
        up = self._linear(i, "start its MLP with one linear layer", lambda c: _same(c.given, norm.made))
        down, activation = self._after(up, f"layer {i}")
        last = self._norm(i, "MLP", norm.made, down.made)
        layer = EncoderLayer(
            values.who, output.who, norm.who, up.who, activation, down.who, last.who  # type: ignore[arg-type]
        )  # fmt: skip
        return layer, x

    def _after(self, up: _Call, place: str) -> tuple[_Call, Activation]:
        """The linear layer after another one, and the function between them."""
        begin = self.at
        for n in range(begin, len(self.calls)):
            call = self.calls[n]
            if isinstance(call.who, nn.Linear) and call.given.shape == up.made.shape:
                between = [c.who for c in self.calls[begin:n] if isinstance(c.who, nn.Module) and not _learns(c.who)]
                functions: list[Activation] = [*between, *_FUNCTIONS]
                for function in functions:
                    if _close(function(up.made), call.given) and _pointwise(function, up.made):
                        self.at = n + 1
                        return call, function
        raise self._refusal(f"{place} must have one function that is 0 at 0 between two linear layers")

    def _linear(self, i: int, rule: str, fits: Any, among: range | None = None) -> _Call:
        for n in among if among is not None else range(self.at, len(self.calls)):
            call = self.calls[n]
            if isinstance(call.who, nn.Linear) and fits(call):
                self.at = max(self.at, n + 1)
                return call
        raise self._refusal(f"layer {i} must {rule}")

    def _norm(self, i: int, block: str, x: Tensor, made: Tensor) -> _Call:
        for n in range(self.at, len(self.calls)):
            call = self.calls[n]
            if isinstance(call.who, nn.LayerNorm) and call.who.weight is not None and _same(call.given, x + made):
                self.at = n + 1
                return call
        raise self._refusal(f"layer {i} must add its {block} to what went into it and normalise the sum")

    def _head(self, outputs: Any) -> Head | None:
        """The classifier, where the model gives one row of logits for a text."""
        logits = outputs.get("logits")
        if logits is None or logits.dim() != 2:
            return None
        place = "the classifier"
        for n in range(self.at, len(self.calls)):
            call = self.calls[n]
            if isinstance(call.who, nn.Linear) and _same(call.given, self.states[-1][:, 0]):
                self.at = n + 1
                last, activation = self._after(call, place)
                if _same(last.made, logits):
                    return Head(call.who, activation, last.who)  # type: ignore[arg-type]
        raise self._refusal(f"{place} must be two linear layers on the state of the first token")

    def _prove(self, parts: Anatomy, steps: tuple[Steps, ...], own: list[Tensor], outputs: Any) -> None:
        """The parts together must compute every hidden state of the model, and its logits."""
        pairs = [(s.out, state) for s, state in zip(steps, own, strict=True)]
        if parts.head is not None:
            inner = parts.head.activation(linear(parts.head.first, steps[-1].out[0]))
            pairs.append((linear(parts.head.last, inner), outputs.logits[0]))
        share = 1e-4 if self.model.dtype in (torch.float32, torch.float64) else 5e-2
        for ours, theirs in pairs:
            error, allowed = float((ours - theirs.float()).abs().max()), share * max(1.0, float(theirs.abs().max()))
            if not error <= allowed:
                raise self._refusal(
                    f"its parts together must compute its own hidden states; they differ by {error:.2g} where "
                    f"{allowed:.2g} is allowed"
                )

    def _refusal(self, rule: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"{type(self.model).__name__}: {rule}; this encoder is not built so; "
            f"take one of the kind of BERT, such as minilm."
        )


def _heads(made: Tensor, like: Tensor) -> Tensor:
    """What a linear layer made, as values (B, H, T, D), where the sizes allow it."""
    b, h, t, d = like.shape
    return made.reshape(b, t, h, d).transpose(1, 2) if made.shape == (b, t, h * d) else made


def _learns(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def _pointwise(function: Activation, z: Tensor) -> bool:
    """Whether each element goes its own way, and 0 stays 0."""
    return _close(function(z.flip(-1)), function(z).flip(-1)) and not bool(function(torch.zeros_like(z)).any())

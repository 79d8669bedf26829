"""Reach any Hugging Face model through what it does, never through what its parts are called."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer
from transformers.masking_utils import AttentionMaskInterface

from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.models.kv import KVBuffer
from tokenry.models.mask import MaskFacts, given_mask, note_facts
from tokenry.models.site import Site

NAME = "tokenry"

Handler = Callable[[Site], Tensor]
"""Turns a site into its attention output (B, H, Q, Dv)."""

Binder = Callable[["Cache | None"], Handler]
"""Makes the handler of a cache met for the first time; None stands for a forward without cache."""


@dataclass(slots=True)
class _Call:
    module: nn.Module
    layer: int
    cache: Cache | None
    hidden: Tensor | None
    handler: Handler | None


class _Now(threading.local):
    """The attention call under way in this thread: set on entering a layer, read by the attention function."""

    call: _Call | None = None
    found: dict[nn.Module, None] | None = None


_now = _Now()
_handlers: WeakKeyDictionary[Cache, Handler] = WeakKeyDictionary()
_adapters: WeakKeyDictionary[PreTrainedModel, ModelAdapter] = WeakKeyDictionary()


class ModelAdapter:
    """Everything a method may know about a model, found by experiment.

    transformers routes the attention of every modern model through one registry, after projections, positions
    and the cache update. While the adapter is attached, the model calls tokenry's function there; each call is
    handed to the handler bound to the *cache* it came with, so one model may serve many methods at once.

    Args:
        model: any model whose attention goes through `transformers.AttentionInterface`.

    Raises:
        UnsupportedModel: attention cannot be reached, or dense attention does not reproduce the model's own logits.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        # Weak references: the adapters are kept by model, and must not keep the models.
        self._model = weakref.ref(model)
        self.sites: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._attached = 0
        self._default: Binder | None = None
        self._cacheless: Handler | None = None
        self._hooks = ExitStack()
        self._find_sites()
        self._prove()

    @property
    def model(self) -> PreTrainedModel:
        model = self._model()
        assert model is not None
        return model

    @classmethod
    def of(cls, model: Any) -> ModelAdapter:
        """The adapter of a model, made and proven once; wrappers such as PEFT's are looked through."""
        base = unwrap(model)
        if base not in _adapters:
            _adapters[base] = cls(base)
        return _adapters[base]

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Route attention through tokenry; caches that nothing is bound to are attended densely."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def attached_to(self, bind: Binder) -> Iterator[None]:
        """The same, binding every cache that a forward brings and that is not bound yet.

        Raises:
            Incompatible: another attention method is already attached in this way.
        """
        if self._default is not None:
            raise Incompatible(
                "attend: only one attention method may act on a cache; got a second one; "
                "leave the first `with` block, or bind each method to a cache of its own."
            )
        self._enter()
        self._default = bind
        try:
            yield
        finally:
            self._default = self._cacheless = None
            self._leave()

    def bind(self, cache: Cache, handler: Handler) -> None:
        """Let `handler` attend for this cache, whose plain layers become `KVBuffer`s.

        Raises:
            Incompatible: the cache already has a handler.
        """
        if cache in _handlers:
            raise Incompatible("attend: a cache may have only one attention method; got a second one; use a new cache.")
        own_buffers(cache)
        _handlers[cache] = handler

    def _enter(self) -> None:
        self._attached += 1
        if self._attached > 1:
            return
        with ExitStack() as stack:
            stack.enter_context(_implementation(self.model))
            for module, layer in self.sites.items():
                hook = module.register_forward_pre_hook(self._note(layer), with_kwargs=True)
                stack.callback(hook.remove)
            self._hooks = stack.pop_all()

    def _leave(self) -> None:
        self._attached -= 1
        if self._attached == 0:
            self._hooks.close()

    def _note(self, layer: int) -> Callable[..., None]:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = (*args, *kwargs.values())
            cache = next((v for v in values if isinstance(v, Cache)), None)
            hidden = next((v for v in values if isinstance(v, Tensor)), None)
            _now.call = _Call(module, layer, cache, hidden, self._handler(cache, layer))

        return before

    def _handler(self, cache: Cache | None, layer: int) -> Handler | None:
        if cache is None:
            if layer == 0 and self._default is not None:
                self._cacheless = self._default(None)
            return self._cacheless
        if cache not in _handlers and self._default is not None:
            self.bind(cache, self._default(cache))
        return _handlers.get(cache)

    @torch.no_grad()
    def _find_sites(self) -> None:
        """Run two tokens: the modules that call the attention function are the attention layers."""
        found: dict[nn.Module, None] = {}
        with ExitStack() as stack:
            stack.enter_context(_evaluating(self.model))
            stack.enter_context(_implementation(self.model))
            _now.found = found
            try:
                self.model(input_ids=torch.tensor([[0, 1]], device=self.model.device), use_cache=False)
            except (TypeError, AttributeError, RuntimeError, ValueError) as error:
                raise UnsupportedModel(
                    f"{type(self.model).__name__}: must run two tokens through transformers' attention interface; "
                    f"got {type(error).__name__}: {error}."
                ) from error
            finally:
                _now.found = None
        if not found:
            raise UnsupportedModel(
                f"{type(self.model).__name__}: must call transformers' attention interface; its layers never did; "
                "use a model of a family that does."
            )
        self.sites.update({m: i for i, m in enumerate(found)})

    @torch.no_grad()
    def _prove(self) -> None:
        """Dense attention through tokenry must give the model's own logits, padded, cached and one step on."""
        probe = _Probe(self.model)
        with _evaluating(self.model):
            own = probe.logits()
            with self.attached_to(lambda _: Site.dense):
                ours = probe.logits()
        _now.call = None
        error = (own - ours).abs().max().item()
        allowed = probe.tolerance * max(1.0, own.abs().max().item())
        if not error <= allowed:
            raise UnsupportedModel(
                f"{type(self.model).__name__}: dense attention through tokenry must reproduce the model's own logits; "
                f"they differ by {error:.2g} where {allowed:.2g} is allowed; this family is not supported."
            )


class _Probe:
    """Two short rows, one left-padded: a prompt of six columns, then one more token."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        vocabulary = int(model.config.get_text_config().vocab_size)
        self.ids = (torch.arange(2 * 7).view(2, 7) * 7 + 3).remainder(min(vocabulary, 97)).to(model.device)
        self.mask = torch.ones_like(self.ids)
        self.mask[1, :2] = 0
        self.tolerance = {torch.float32: 1e-4, torch.float64: 1e-6}.get(model.dtype, 5e-2)

    def logits(self) -> Tensor:
        prompt = self.model(input_ids=self.ids[:, :6], attention_mask=self.mask[:, :6], use_cache=True)
        step = self.model(
            input_ids=self.ids[:, 6:],
            attention_mask=self.mask,
            past_key_values=prompt.past_key_values,
            position_ids=self.mask.sum(1, keepdim=True) - 1,
            use_cache=True,
        )
        real = self.mask[:, :6].bool()
        return torch.cat((prompt.logits[real], step.logits[:, 0])).float()


def unwrap(model: Any) -> PreTrainedModel:
    """The transformers model inside a wrapper that offers `get_base_model`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(base, PreTrainedModel):
        raise UnsupportedModel(f"model: must be a transformers PreTrainedModel; got {type(model).__name__}.")
    return base


def own_buffers(cache: Cache) -> None:
    """Replace plain growing layers by `KVBuffer`s; sliding and other native layers stay as they are."""
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = KVBuffer
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[i] = KVBuffer.adopt(layer)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: MaskFacts | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """The one attention function that transformers calls."""
    if dropout:
        raise Incompatible("attend: attention dropout must be 0 while tokenry is attached; call model.eval().")
    if _now.found is not None:
        _now.found[module] = None
    call = _now.call
    inside = call is not None and call.module is module
    cache = call.cache if inside and call else None
    layer = call.layer if inside and call else 0
    held = cache.layers[layer] if cache is not None and layer < len(cache.layers) else None
    buffer = held if isinstance(held, KVBuffer) else None
    facts = attention_mask
    if isinstance(facts, Tensor):
        facts = given_mask(facts, query, key)
    site = Site(
        layer=layer,
        q=query,
        k=key,
        v=value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        facts=facts,
        columns=None if buffer is None else buffer.columns,
        first=0 if buffer is not None or facts is None else facts.first_key,
        holes=buffer is not None and buffer.ragged,
        buffer=buffer,
        cache=cache,
        hidden=call.hidden if inside and call else None,
        cap=extra.get("softcap"),
        sinks=extra.get("s_aux"),
        decoding=buffer is not None and query.shape[2] == 1 and buffer.seen > 1,
        extra=extra,
    )
    handler = call.handler if inside and call else None
    out = site.dense() if handler is None else handler(site)
    return out.transpose(1, 2).contiguous(), None


@contextmanager
def _implementation(model: PreTrainedModel) -> Iterator[None]:
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    before = [(c, c._attn_implementation) for c in configs.values()]
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, note_facts)

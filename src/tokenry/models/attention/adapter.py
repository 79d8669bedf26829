"""Reach any Hugging Face model through what it does, never through what its parts are called."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface

from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.experiment import Experiment
from tokenry.models.attention.lent import Hook, lent
from tokenry.models.attention.mask import MaskFacts, everything, given_mask, note_facts
from tokenry.models.attention.place import Place, Search
from tokenry.models.attention.rest import evaluating, proving
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer
from tokenry.models.cache.own import own_buffers, own_part

if TYPE_CHECKING:
    from tokenry.models.attention.between import Blocks

NAME = "tokenry"

Handler = Callable[[Site], Tensor]
"""Turns a site into its attention output (B, H, Q, Dv). One with a method `stream(stack)` may also change the tokens
between the layers of that stack: it gives a `Stream` for each pass, or None."""

Binder = Callable[["Cache | None"], Handler]
"""Makes the handler of a cache met for the first time; None stands for a forward without cache."""


@dataclass(slots=True)
class _Call:
    model: PreTrainedModel
    module: nn.Module
    place: Place
    cache: Cache | None
    hidden: Tensor | None
    handler: Handler | None

    @property
    def buffer(self) -> KVBuffer | None:
        """The cache layer that this call wrote to, where it is ours."""
        if self.cache is None or self.place.kind != "self" or not self.place.cached:
            return None
        layers = own_part(self.cache).layers
        held = layers[self.place.layer] if self.place.layer < len(layers) else None
        return held if isinstance(held, KVBuffer) else None


class _Now(threading.local):
    """The attention call under way in this thread: set on entering a layer, read by the attention function."""

    call: _Call | None = None
    cacheless: tuple[Binder, Handler] | None = None
    begun: bool = False
    search: Search | None = None


class _Streaming(threading.local):
    """The stack whose tokens are being changed in this thread, and where those of now stand (B, M)."""

    stream: Any = None
    stack: str = ""

    def columns(self, stack: str) -> Tensor | None:
        """The columns of the tokens in a stack; None while all are there."""
        return self.stream.columns if self.stream is not None and self.stack == stack else None


_now = _Now()
streaming = _Streaming()
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
        self.sites: WeakKeyDictionary[nn.Module, Place] = WeakKeyDictionary()
        self.latent = False
        """Whether the cache holds latents that keys and values are made of at every step."""
        self.repeats = False
        """Whether attention gets every head that the cache holds several times."""
        self.biased = False
        """Whether logits get a bias by position, which such models count out from the keys that are held."""
        self._lock = threading.Lock()
        self._attached = 0
        self._default: Binder | None = None
        self._hooks = ExitStack()
        self.blocks: dict[str, Blocks] = {}
        """Stacks whose tokens may be changed between layers, by name."""
        experiment = self._make_experiment()
        self._find_sites(experiment)
        self._prove(experiment)

    @property
    def model(self) -> PreTrainedModel:
        model = self._model()
        assert model is not None
        return model

    @classmethod
    def of(cls, model: Any) -> ModelAdapter:
        """The adapter of a model, made and proven once; wrappers such as PEFT's are looked through."""
        base = unwrap(model)
        with proving:
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
        with self.attached():
            with self._lock:
                if self._default is not None:
                    raise Incompatible(
                        "attend: only one attention method may act on a cache; got a second one; "
                        "leave the first `with` block, or bind each method to a cache of its own."
                    )
                self._default = bind
            try:
                yield
            finally:
                self._default = None

    def bind(self, cache: Cache, handler: Handler) -> None:
        """Let `handler` attend for this cache, whose plain layers become `KVBuffer`s.

        Raises:
            Incompatible: the cache already has a handler.
        """
        if cache in _handlers:
            raise Incompatible("attend: a cache may have only one attention method; got a second one; use a new cache.")
        own_buffers(cache, sliding=hasattr(handler, "stream"))
        _handlers[cache] = handler

    def _enter(self) -> None:
        with self._lock:
            if self._attached:
                self._attached += 1
                return
            with ExitStack() as stack:
                stack.enter_context(lent(self.model, NAME))
                stack.callback(self.model.register_forward_pre_hook(Hook(self._whole_pass)).remove)
                for part in self.model.modules():
                    if isinstance(part, PreTrainedModel):
                        stack.callback(part.register_forward_pre_hook(Hook(_refuse_maps), with_kwargs=True).remove)
                for i, (module, place) in enumerate(self.sites.items()):
                    hook = module.register_forward_pre_hook(Hook(self._note(place, first=i == 0)), with_kwargs=True)
                    stack.callback(hook.remove)
                for blocks in self.blocks.values():
                    stack.enter_context(blocks.hooked())
                self._hooks = stack.pop_all()
            self._attached = 1

    def _leave(self) -> None:
        with self._lock:
            self._attached -= 1
            if self._attached == 0:
                self._hooks.close()
                _now.cacheless = None

    def _note(self, place: Place, *, first: bool) -> Callable[..., None]:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = (*args, *kwargs.values())
            cache = next((v for v in values if isinstance(v, Cache)), None)
            hidden = next((v for v in values if isinstance(v, Tensor)), None)
            if first and not _now.begun:
                _now.cacheless = None
            _now.begun = False
            _now.call = _Call(self.model, module, place, cache, hidden, self.handler(cache))

        return before

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _whole_pass(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.begin()

    def begin(self) -> None:
        """A pass begins before its first attention layer: without a cache it gets a handler of its own."""
        _now.begun, _now.cacheless = True, None

    def add_blocks(self, blocks: Blocks) -> None:
        """Let handlers change tokens between these layers from now on."""
        with self._lock:
            self.blocks[blocks.stack] = blocks
            if self._attached:
                self._hooks.enter_context(blocks.hooked())

    def handler(self, cache: Cache | None) -> Handler | None:
        """What attends for a cache; None for dense attention."""
        if cache is None:
            if self._default is None:
                return None
            if _now.cacheless is None or _now.cacheless[0] is not self._default:
                _now.cacheless = self._default, self._default(None)
            return _now.cacheless[1]
        if cache not in _handlers and self._default is not None:
            self.bind(cache, self._default(cache))
        return _handlers.get(cache)

    @torch.no_grad()
    def _make_experiment(self) -> Experiment:
        with evaluating(self.model), self._refusing("must take inputs of the sizes that its configuration names"):
            return Experiment(self.model)

    @torch.no_grad()
    def _find_sites(self, experiment: Experiment) -> None:
        """Run a small input: the modules that call the attention function are the attention layers."""
        rule = "must run a small input through transformers' attention interface"
        with self._refusing(rule), evaluating(self.model), lent(self.model, NAME):
            search = Search(self.model)
            _now.search = search
            try:
                search.run(experiment)
            finally:
                _now.search = None
        if not search.places:
            raise UnsupportedModel(
                f"{type(self.model).__name__}: must call transformers' attention interface; its layers never did; "
                "use a model of a family that does."
            )
        self.sites.update(search.places)
        self.latent, self.repeats, self.biased = search.latent, search.repeats, search.biased

    @torch.no_grad()
    def _prove(self, experiment: Experiment) -> None:
        """Dense attention through tokenry must give the model's own outputs, padded, cached and one step on."""
        with evaluating(self.model), self._refusing("must read a small input, and one token after it from its cache"):
            own = experiment.answers()
            with self.attached_to(lambda _: Site.dense):
                ours = experiment.answers()
        _now.call = _now.cacheless = None
        share = {torch.float32: 1e-4, torch.float64: 1e-6}.get(self.model.dtype, 5e-2)
        for a, b in zip(own, ours, strict=True):
            error, allowed = (a - b).abs().max().item(), share * max(1.0, a.abs().max().item())
            if not error <= allowed:
                raise UnsupportedModel(
                    f"{type(self.model).__name__}: dense attention through tokenry must reproduce the model's own "
                    f"outputs; they differ by {error:.2g} where {allowed:.2g} is allowed; this family is not supported."
                )

    @contextmanager
    def experimenting(self, rule: str) -> Iterator[None]:
        """Run the model on small inputs with attention through tokenry; what it cannot run is refused."""
        with proving, torch.no_grad(), evaluating(self.model), self.attached(), self._refusing(rule):
            yield

    @contextmanager
    def _refusing(self, rule: str) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (TypeError, AttributeError, RuntimeError, ValueError, LookupError) as error:
            # What it said is for those who read the traceback.
            raise UnsupportedModel(
                f"{type(self.model).__name__}: {rule}; it does not; use a model of another family."
            ) from error


def unwrap(model: Any) -> PreTrainedModel:
    """The transformers model inside a wrapper that offers `get_base_model`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(base, PreTrainedModel):
        raise UnsupportedModel(f"model: must be a transformers PreTrainedModel; got {type(model).__name__}.")
    return base


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _refuse_maps(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Attention maps are never made here, and a model that is asked for them would give empty tuples."""
    asked = kwargs.get("output_attentions")
    if getattr(model.config, "output_attentions", False) if asked is None else asked:
        raise Incompatible(
            f"attend: {type(model).__name__} must not be asked for attention maps while a method is attached, which makes "
            "none; got output_attentions=True; ask outside of the block, or look at `site.probs()` in a handler."
        )


@torch.compiler.disable  # type: ignore[untyped-decorator]
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
    call = _now.call if _now.call is not None and _now.call.module is module else None
    # Taken once, so that nothing here holds on to the model.
    _now.call = None
    place = call.place if call is not None else Place()
    buffer = call.buffer if call is not None else None
    facts = attention_mask
    if isinstance(facts, Tensor):
        facts = given_mask(facts, query, key)
    if _now.search is not None:
        _now.search.note(module, query, key, facts, extra.get("position_bias"))
    moved = streaming.columns(place.stack)
    if moved is not None:
        facts = (facts or everything(query, key)).over(moved)
    columns = None if buffer is None else buffer.columns
    if columns is not None and columns.shape[1] != key.shape[1]:
        # Latents have one head, of which the keys of all heads are made.
        columns = columns.expand(-1, key.shape[1], -1)
    if moved is not None and buffer is None and place.kind != "cross":
        columns = moved.unsqueeze(1).expand(-1, key.shape[1], -1)
    site = Site(
        layer=place.layer,
        kind=place.kind,
        stack=place.stack,
        q=query,
        k=key,
        v=value,
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        facts=facts,
        columns=columns,
        first=0 if buffer is not None or facts is None or moved is not None else facts.first_key,
        holes=buffer.ragged if buffer is not None else columns is not None and bool((columns < 0).any()),
        own=moved is not None and place.kind != "cross" and key.shape[2] == query.shape[2],
        buffer=buffer,
        cache=call.cache if call is not None else None,
        model=call.model if call is not None else None,
        hidden=call.hidden if call is not None else None,
        cap=extra.get("softcap"),
        sinks=extra.get("s_aux"),
        bias=_bias(extra.get("position_bias"), columns if moved is not None else None),
        decoding=buffer is not None and query.shape[2] == 1 and buffer.seen > 1,
        extra=extra,
    )
    handler = call.handler if call is not None else None
    out = site.dense() if handler is None else handler(site)
    return out.transpose(1, 2).contiguous(), None


def _bias(bias: Tensor | None, columns: Tensor | None) -> Tensor | None:
    """A position bias by column; where tokens were dropped between layers it comes by what is left."""
    if bias is None or columns is None or bias.shape[-1] != columns.shape[-1]:
        return bias
    b, (_, h, n, k) = len(columns), bias.shape
    width = int(columns.max()) + 1
    at = torch.where(columns >= 0, columns, width)[:, :1].unsqueeze(2).expand(b, h, n, k)
    return bias.new_zeros(b, h, n, width + 1).scatter_(-1, at, bias.expand(b, -1, -1, -1))[..., :width]


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, note_facts)

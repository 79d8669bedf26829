"""Reach any Hugging Face model through what it does, never through what its parts are called."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from tokenry.core.errors import Incompatible, UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.call import NAME, Binder, Call, Handler, now
from tokenry.models.attention.experiment import MISFITS, Experiment
from tokenry.models.attention.lent import Hook, lent
from tokenry.models.attention.place import Place, Search
from tokenry.models.attention.rest import narrowed, proving, trial
from tokenry.models.attention.site import Site
from tokenry.models.cache.kv import KVBuffer, written
from tokenry.models.cache.own import own_buffers

if TYPE_CHECKING:
    from tokenry.models.attention.between import Blocks

TEXT, WINDOW = 11, 4
"""Tokens of the text that proves a model, and of what its windowed layers look at meanwhile."""

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
        """Whether the cache holds latents that keys and values are made of at every step: one row for all heads."""
        self.biased = False
        """Whether logits get a bias by position, which such models count out from the keys that are held."""
        self.remade = False
        """Whether attention gets other keys or values than the cache holds, or several times those of one token."""
        self.shares = False
        """Whether a layer reads cached keys that do not grow with the tokens."""
        self._lock = threading.Lock()
        self._attached = 0
        self._default: Binder | None = None
        self._hooks = ExitStack()
        self._own: str | None = None
        self.blocks: dict[str, Blocks] = {}
        """Stacks whose tokens may be changed between layers, by name."""
        experiment = self._make_experiment()
        self._find_sites(experiment)
        self._prove()

    @property
    def model(self) -> PreTrainedModel:
        model = self._model()
        assert model is not None
        return model

    @property
    def depth(self) -> int:
        """Layers that attend to what is decoded, the first to the last."""
        return 1 + max((place.layer for place in self.sites.values() if place.kind == "self"), default=-1)

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
                self.check_free()
                self._default = bind
            try:
                yield
            finally:
                self._default = None

    def check_free(self) -> None:
        """Refuse a second method, before anything is tried out on the model.

        Raises:
            Incompatible: a method is attached to every cache.
        """
        if self._default is not None:
            raise Incompatible(
                "attend: only one attention method may act on a cache; got a second one; "
                "leave the first `with` block, or bind each method to a cache of its own."
            )

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
            self._own = private.attention_name(self.model.config.get_text_config())
            with ExitStack() as stack:
                stack.enter_context(lent(self.model, NAME, self._untried()))
                stack.callback(self.model.register_forward_pre_hook(Hook(self._whole_pass)).remove)
                for part in self.model.modules():
                    if isinstance(part, PreTrainedModel):
                        stack.callback(part.register_forward_pre_hook(Hook(_refuse_maps), with_kwargs=True).remove)
                for i, (module, place) in enumerate(self.sites.items()):
                    hook = module.register_forward_pre_hook(Hook(self._note(place, first=i == 0)), with_kwargs=True)
                    stack.callback(hook.remove)
                    stack.callback(module.register_forward_hook(Hook(_done)).remove)
                for blocks in self.blocks.values():
                    stack.enter_context(blocks.hooked())
                self._hooks = stack.pop_all()
            self._attached = 1

    def _leave(self) -> None:
        with self._lock:
            self._attached -= 1
            if self._attached == 0:
                self._hooks.close()
                now.call = now.cacheless = None

    def _note(self, place: Place, *, first: bool) -> Callable[..., None]:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            values = (*args, *kwargs.values())
            cache = next((v for v in values if isinstance(v, Cache)), None)
            hidden = next((v for v in values if isinstance(v, Tensor)), None)
            if first and not now.begun:
                now.cacheless = None
            now.begun = False
            now.call = Call(self.model, module, place, cache, hidden, self.handler(cache), self._own)
            written.buffer = None

        return before

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _whole_pass(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.begin()

    def begin(self) -> None:
        """A pass begins before its first attention layer: without a cache it gets a handler of its own."""
        now.begun, now.cacheless = True, None

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
            if now.cacheless is None or now.cacheless[0] is not self._default:
                now.cacheless = self._default, self._default(None)
            return now.cacheless[1]
        if cache not in _handlers and self._default is not None:
            self.bind(cache, self._default(cache))
        return _handlers.get(cache)

    @torch.no_grad()
    def _make_experiment(self, **size: Any) -> Experiment:
        with trial(self.model), self._refusing("must read what its configuration says that it reads"):
            return Experiment(self.model, **size)

    @torch.no_grad()
    def _find_sites(self, experiment: Experiment) -> None:
        """Run a small input: the modules that call the attention function are the attention layers."""
        rule = "must run a small input through transformers' attention interface"
        with self._refusing(rule), trial(self.model), lent(self.model, NAME):
            search = Search(self.model)
            now.search = search
            try:
                search.run(experiment)
            finally:
                now.search = None
        if not search.places:
            raise UnsupportedModel(
                f"{type(self.model).__name__}: must call transformers' attention interface; its layers never did; "
                "use a model of a family that does."
            )
        self.sites.update(search.places)
        self.latent, self.biased = search.latent, search.biased
        self.remade, self.shares = search.remade, search.shares

    def _untried(self) -> list[Any]:
        """Configurations of parts, such as what looks at pictures, whose attention no experiment has met.

        They go on calling their own.
        """
        models = [m for m in self.model.modules() if isinstance(m, PreTrainedModel)]
        tried = {id(m.config) for m in models if any(part in self.sites for part in m.modules())}
        return [m.config for m in models if id(m.config) not in tried]

    @torch.no_grad()
    def _prove(self) -> None:
        """Dense attention through tokenry must give the model's own outputs.

        Rows are padded on the left and between tokens; the text is longer than what windowed layers look at, and goes
        on in single tokens and several at once. What a method acts on must be what the layer wrote and reads.
        """
        experiment = self._make_experiment(rows=3, text=TEXT, gap=True)
        seen: Counter[tuple[KVBuffer, int]] = Counter()

        def watch(site: Site) -> Tensor:
            if site.buffer is not None:
                seen[site.buffer, site.buffer.seen] += 1
                held = site.now()
                self.remade |= not _same((held.k, held.v), (site.k, site.v))
            return site.dense()

        rule = "must read a small input, and go on from its cache"
        with self._refusing(rule), trial(self.model), ExitStack() as stack:
            own = self._own_answers(experiment, stack)
            with self.attached_to(lambda _: watch):
                ours = experiment.answers()
        self.remade |= max(seen.values(), default=1) > 1
        share = {torch.float32: 1e-4, torch.float64: 1e-6}.get(self.model.dtype, 5e-2)
        for a, b in zip(own, ours, strict=True):
            error, allowed = (a - b).abs().max().item(), share * max(1.0, a.abs().max().item())
            if not error <= allowed:
                raise UnsupportedModel(
                    f"{type(self.model).__name__}: dense attention through tokenry must reproduce the model's own "
                    f"outputs; they differ by {error:.2g} where {allowed:.2g} is allowed; this family is not supported."
                )

    def _own_answers(self, experiment: Experiment, stack: ExitStack) -> list[Tensor]:
        """What the model says by itself, with windows that the text exceeds where it can run with such."""
        with ExitStack() as attempt:
            attempt.enter_context(narrowed(self.model, WINDOW))
            try:
                own = experiment.answers()
            except MISFITS:
                attempt.close()
                return experiment.answers()
            stack.push(attempt.pop_all())
            return own

    @contextmanager
    def experimenting(self, rule: str) -> Iterator[None]:
        """Run the model on small inputs with attention through tokenry; what it cannot run is refused."""
        with proving, torch.no_grad(), trial(self.model), self.attached(), self._refusing(rule):
            yield

    @contextmanager
    def _refusing(self, rule: str) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except Incompatible as error:
            raise UnsupportedModel(f"{type(self.model).__name__}: {rule}; {error}") from error
        except MISFITS as error:
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
def _done(*_: Any) -> None:
    """A layer is left: nothing here holds on to its model."""
    now.call = None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _refuse_maps(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Attention maps are never made here, and a model that is asked for them would give empty tuples."""
    asked = kwargs.get("output_attentions")
    if getattr(model.config, "output_attentions", False) if asked is None else asked:
        raise Incompatible(
            f"attend: {type(model).__name__} must not be asked for attention maps while a method is attached, which "
            "makes none; got output_attentions=True; ask outside of the block, or look at `site.probs()` in a handler."
        )


def _same(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(some, others, strict=True))

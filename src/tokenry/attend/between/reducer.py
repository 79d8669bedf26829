"""Tokens that change between layers: dropped, merged or brought back, and never computed while they are gone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache

from tokenry.attend.base import Attention
from tokenry.attend.running.run import Run
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.between import Change, Stream, View
from tokenry.models.attention.place import Kind
from tokenry.models.attention.proof import proven_blocks
from tokenry.models.attention.site import Site
from tokenry.models.cache.own import refuse_foreign


class Reducer(Attention):
    """A method that changes which tokens go on into the next layer.

    `reduce` is asked before every layer; what it leaves out takes no part in attention, feed-forward layers or caches
    from there on. It may drop (`view.keep`), merge (`view.merge`) and bring back (`view.restore`). `attend` sees
    attention as it happens, so that importance can be gathered; both share one state for each stack and cache.

    `with method(model) as run:` acts on the layers that decode, or on those of an encoder; a model with several
    encoders needs `stack=`. `run.streams` tells what happened to every column.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("self", "encoder")
    needs_keys: ClassVar[bool] = False
    restores: ClassVar[bool] = False
    """Whether `reduce` brings tokens back; their last states are then kept."""
    whole: ClassVar[bool] = False
    """Whether the model gets one state for every column after the last layer, the last one where it was dropped."""

    @abstractmethod
    def reduce(self, view: View, state: Any) -> Change | None:
        """What goes on into `view.layer`; None for everything."""

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        return site.dense()

    @contextmanager
    def __call__(
        self, model: Any, *, prompt_tokens: int | None = None, by_column: bool = False, stack: str | None = None
    ) -> Iterator[ReducerRun]:
        """Attach to a model; leaving the block, also by an exception, restores everything.

        Args:
            stack: name of the list of layers; where None, the layers that decode, or the only encoder's.

        Raises:
            UnsupportedModel: the model cannot be reproduced exactly, or not with tokens left out.
            Incompatible: another attention method is attached.
            InvalidValue: no such stack, or several and none named.
        """
        adapter = self._adapter(model)
        where = self._stack(adapter, stack)
        proven_blocks(adapter, where)
        run = ReducerRun(self, where, prompt_tokens=prompt_tokens, by_column=by_column)
        with adapter.attached_to(run.handler):
            yield run
        run.say_whether_it_acted(type(adapter.model).__name__)

    def _run(self, adapter: ModelAdapter, **options: Any) -> ReducerRun:
        where = self._stack(adapter, None)
        proven_blocks(adapter, where)
        return ReducerRun(self, where, **options)

    def _stack(self, adapter: ModelAdapter, wanted: str | None) -> str:
        places = [p for p in adapter.sites.values() if p.kind in self.kinds]
        decoding = [p for p in places if p.kind == "self"]
        stacks = sorted({p.stack for p in (places if wanted is not None else decoding or places)})
        if wanted is not None and wanted not in stacks:
            raise InvalidValue(f"{self.name()}: stack must be one of {', '.join(stacks)}; got {wanted!r}.")
        if wanted is None and len(stacks) > 1:
            raise InvalidValue(f"{self.name()}: stack must be given, one of {', '.join(stacks)}; got none.")
        return wanted or stacks[0]


class ReducerRun(Run):
    """What happened to the tokens of a stack.

    Args:
        method: the attached method.
        stack: name of the list of layers it acts on.
    """

    method: Reducer

    def __init__(self, method: Reducer, stack: str, **options: Any) -> None:
        super().__init__(method, **options)
        self.stack = stack
        self.streams: list[Stream] = []
        """One for each pass that brought more than one token, the oldest first."""

    def handler(self, cache: Cache | None) -> _Reducing:
        """The handler of one cache, which also changes tokens between layers."""
        self.passes = True
        if cache is not None:
            refuse_foreign(cache, self.method.name(), sliding=True)
            self.caches.add(cache)
        return _Reducing(self)


class _Reducing:
    """The handler of one cache: attention with a shared state, and a stream for each pass."""

    def __init__(self, run: ReducerRun) -> None:
        self.run, self.state = run, run.method.State()
        self._follows = False
        self._began: int | None = None
        """The first column after the prompt, as far as is known."""

    def __call__(self, site: Site) -> Tensor:
        site.reads, site.prompt = self.run.reads, self.run.prompt_tokens
        if site.stack != self.run.stack or site.kind == "cross":
            return site.dense()
        buffer, n = site.buffer, site.q.shape[2]
        if buffer is None:
            return self.run.method.attend(site, self.state)
        if not self._follows:
            self.state, self._follows = self.run.state_of(site, self.state), True
        self.run.check_padding(site)
        site.later = self._is_later(buffer.seen - n)
        site.decoding = site.later and n == 1
        buffer.unsure = self.run.unsure_of(site) if n > 1 and site.prompt is None and not site.later else ""
        return self.run.method.attend(site, self.state)

    def _is_later(self, first: int) -> bool:
        """Whether a pass that begins at this column stands behind the prompt."""
        return self._began is not None and first >= self._began

    def _enter(self, view: View) -> View:
        """Note where the prompt ends: where somebody said, or before the first token that comes by itself."""
        end = self.run.prompt_tokens
        if end is None and self._began is not None and self._began <= view.first:
            end = self._began
        elif end is None and view.decoding:
            # Also where a crop went back into the prompt.
            end = view.first
        if end is not None and view.first < end < view.first + view.total:
            raise Incompatible(
                f"{self.run.method.name()}: a pass must not bring the end of the prompt and what comes after it, as "
                f"drafts do; got {view.total} tokens from {view.first} on, prompt_tokens={end}; read the prompt first."
            )
        self._began = end
        return replace(view, later=self._is_later(view.first))

    def stream(self, stack: str) -> Stream | None:
        if stack != self.run.stack:
            return None
        method = self.run.method

        def reduce(view: View) -> Change | None:
            self.run.acted = True
            view = self._enter(view)
            if view.layer == 0 and view.total > 1:
                self.run.streams.append(stream)
            return method.reduce(view, self.state)

        stream = Stream(reduce, restores=method.restores, whole=method.whole)
        return stream

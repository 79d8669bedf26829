"""Room: attend. Which cached tokens attention reads: `attend`, `select` per step, or `score` and evict."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from tokenry.attend.rows.choose import choose
from tokenry.attend.rows.worth import Whole, whole_below
from tokenry.attend.running.run import Run
from tokenry.core.budget import Budget
from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.core.fields import natural_or
from tokenry.core.method import Method
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.forgetting import prove_forgetting
from tokenry.models.attention.place import Kind, Place
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState
from tokenry.models.cache.fixed import fixed_cache
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.own import chooses, grows
from tokenry.models.cache.packed import packed, rows_where


class Attention(Method):
    """A method that acts inside attention, on what a cache holds.

    `with method(model) as run: model.generate(...)` attaches it to every cache that appears inside the block;
    `method.cache(model)` gives a cache of its own, so that one model serves several methods at once.
    """

    room: ClassVar[str] = "attend"
    State: ClassVar[type[LayerState]] = LayerState
    kinds: ClassVar[tuple[Kind, ...]] = ("self",)
    """The kinds of attention the method acts on; all others stay dense."""
    needs_keys: ClassVar[bool] = True
    """Whether the method chooses among cached keys."""
    shares_rows: ClassVar[bool] = True
    """Whether it can act where all heads share the rows of a cache that holds latents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        budget = getattr(self, "budget", None)
        if isinstance(budget, Budget) and budget.per == "sequence":
            raise InvalidValue(f"{type(self).__name__}: budget per must be layer or head; got 'sequence'.")

    @property
    def extends(self) -> bool:
        """Whether prompts may be longer than the model's context."""
        return False

    def covers(self, seen: int) -> bool:
        """Whether the method changes nothing as long as no more than `seen` tokens were seen."""
        budget = getattr(self, "budget", None)
        return isinstance(budget, Budget) and budget.count(seen) == seen

    @property
    def fixed(self) -> int:
        """Tokens of the budget that no choice is about."""
        budget = getattr(self, "budget", None)
        return budget.sink + budget.recent if isinstance(budget, Budget) else 0

    @property
    def grows(self) -> bool:
        """Whether what is generated is read beside the budget, which then is of the prompt."""
        return False

    def reads_all(self, step: int) -> bool:
        """Whether a decoding step may read everything; the budget bounds each step of which this is not said.

        Args:
            step: its number, from 0 after the prompt.
        """
        return False

    def here(self, site: Site) -> Attention:
        """The method as it acts here: one that knows where it runs may be another there."""
        return self

    @property
    def one_by_one(self) -> bool:
        """Whether what a token after the prompt reads depends on those before it in the same pass.

        Then every one of them goes through `attend` by itself, however many a pass brings.
        """
        return True

    @abstractmethod
    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        """Attention output of one layer."""

    def refuse_evicted(self, site: Site) -> None:
        """For methods whose rows must be columns.

        Raises:
            Incompatible: the cache does not hold every token.
        """
        if site.buffer is not None and not site.buffer.whole:
            raise Incompatible(
                f"{self.name()}: must act on a cache that holds every token; got one that something evicted from; "
                "use a new cache."
            )

    @contextmanager
    def __call__(self, model: Any, *, prompt_tokens: int | None = None, by_column: bool = False) -> Iterator[Run]:
        """Attach to a model; leaving the block, also by an exception, restores everything.

        Raises:
            UnsupportedModel: the model cannot be reproduced exactly, or has no attention that the method acts on.
            Incompatible: another attention method is attached.

        Warns:
            WithoutEffect: on leaving, where the method never acted.
        """
        run = Run(self, prompt_tokens=prompt_tokens, by_column=by_column)
        ModelAdapter.of(model).check_free()
        adapter = self._adapter(model)
        with adapter.attached_to(run.handler):
            yield run
        run.say_whether_it_acted(type(adapter.model).__name__)

    def cache(
        self, model: Any, *, prompt_tokens: int | None = None, frozen: FrozenCache | None = None,
        capacity: int | None = None,
    ) -> DynamicCache:  # fmt: skip
        """A cache bound to this method; use it inside `with ModelAdapter.of(model).attached():`.

        Args:
            prompt_tokens: columns of the prompt where known, as for a run.
            frozen: what the cache holds from the start; nothing where None.
            capacity: rows of a cache that never grows, for compiled models; None for one that does.
        """
        return self.bound(model, prompt_tokens=prompt_tokens, frozen=frozen, capacity=capacity)[0]

    def bound(
        self, model: Any, *, prompt_tokens: int | None = None, frozen: FrozenCache | None = None,
        capacity: int | None = None,
    ) -> tuple[DynamicCache, Run]:  # fmt: skip
        """The same cache, and the run that counts what happens to it."""
        adapter = self._adapter(model)
        run = self._run(adapter, prompt_tokens=prompt_tokens)
        cache = DynamicCache(config=adapter.model.config)
        if capacity is not None:
            cache = fixed_cache(adapter.model, capacity)
        if frozen is not None:
            cache = frozen.thaw(adapter.model, self.State, cache)
        adapter.bind(cache, run.handler(cache))
        return cache, run

    def _run(self, adapter: ModelAdapter, **options: Any) -> Run:
        return Run(self, **options)

    def _adapter(self, model: Any) -> ModelAdapter:
        adapter = ModelAdapter.of(model)
        who = f"{self.name()}: {type(adapter.model).__name__}"
        places = [place for place in adapter.sites.values() if place.kind in self.kinds]
        if not places:
            raise UnsupportedModel(
                f"{who} must have attention of the kind {' or '.join(self.kinds)}; "
                f"it has {', '.join(sorted({p.kind for p in adapter.sites.values()}))} only."
            )
        if self.needs_keys:
            self._check_caching(adapter, places, who)
        return adapter

    def _check_caching(self, adapter: ModelAdapter, places: list[Place], who: str) -> None:
        """Refuse a model of whose cache no method, or not this one, can choose."""
        uncached = sum(not place.cached for place in places)
        found: dict[str, bool] = {
            "cache keys and values in every layer that attends to what is decoded; "
            f"{uncached} of {len(places)} do not; use it densely": uncached > 0,
            "cache keys and values, of which each head holds rows of its own; it caches latents that all heads share; "
            "use another method": adapter.latent and not self.shares_rows,
            "attend once to the keys and values that it caches; it makes others of them, or reads them several times "
            "for one token, which methods cannot choose from yet; use it densely": adapter.remade,
            "cache keys that grow with the tokens in every layer that reads a cache; it has layers whose keys do not; "
            "use it densely": adapter.shares,
            "leave the choice of keys to methods; layers that keep every token choose by an index of their own; "
            "use it densely": chooses(adapter.model) and not grows(adapter.model),
            "have a layer that keeps every token; all of them forget by themselves, as those with a sliding window do; "
            "use it densely": not grows(adapter.model),
        }
        for rule, broken in found.items():
            if broken:
                raise UnsupportedModel(f"{who} must {rule}.")


class EvictorWrapper(Protocol):
    """What an evictor asks of a method that it is a field of."""

    def stays(
        self, method: Evictor, site: Site, scores: Float[Tensor, "B #G K"], real: Bool[Tensor, "B #G K"] | None,
        seen: int | Int[Tensor, "B 1 1"],
    ) -> Int[Tensor, "B #G M"]:  # fmt: skip
        """The rows that stay."""

    def placed(self, site: Site) -> Site:
        """Where what is left stands."""


@dataclass(frozen=True, kw_only=True)
class Selector(Attention):
    """Keeps every token and chooses, step by step, which of them attention reads."""

    dense_below: int | str = natural_or(
        "auto",
        default=0,
        doc="read all of fewer cached tokens; auto: of fewer than choosing pays from, by the measured table",
    )
    wrapper: ClassVar[Any] = None
    """A `SelectingWrapper` that the method is a field of, which then has a say in what is read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dense_below and self.extends:
            raise InvalidValue(
                f"{self.name()}: dense_below must be 0 where prompts may be longer than the model's context, which "
                f"nothing reads whole; got {self.dense_below}."
            )

    def reads_all(self, step: int) -> bool:
        return self.dense_below != 0

    def here(self, site: Site) -> Selector:
        """With a budget that holds everything below that length."""
        acting: Selector = whole_below(self, site.k.device, site.k.dtype) if self.dense_below else self
        return acting

    @abstractmethod
    def select(self, site: Site, state: Any) -> Int[Tensor, "B #G M"] | None:
        """Rows of the site to read, ascending, -1 for none; a middle axis of 1 serves all heads. None reads all.

        While nothing else evicts from the cache, a row is a column; `site.key_columns()` says it in any case.
        """

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        rows = self.rows(site, state) if site.decoding else None
        return site.dense() if rows is None else site.narrow(rows).dense()

    def rows(self, site: Site, state: Any) -> Int[Tensor, "B #G M"] | None:
        """The rows to read, as `select` gives them, or as the wrapper says."""
        self._tell_whole(site)
        return self.wrapper.rows(self, site, state) if self.wrapper else self.select(site, state)

    def _tell_whole(self, site: Site) -> None:
        """Say in the account where a sequence is read whole that the budget alone would not cover."""
        budget = getattr(self, "budget", None)
        if isinstance(budget, Whole) and site.reads is not None and site.buffer is not None:
            counts = torch.as_tensor(site.seen(site.buffer.seen)).flatten().tolist()
            if any(budget.adds(n) for n in counts):
                site.reads.note_whole(site.buffer.seen - 1, f"{self.name()}: {budget.why}")


class Evictor(Attention):
    """Reads the prompt densely, then forgets the keys with the lowest scores. Memory is freed.

    The budget applies to the tokens of the prompt; with `every_step` it goes on holding while tokens are generated.
    """

    budget: Budget
    every_step: ClassVar[bool] = False
    wrapper: ClassVar[EvictorWrapper | None] = None
    """What the method is a field of, which then has a say in what stays and where it stands."""

    @abstractmethod
    def score(self, site: Site, state: Any) -> Float[Tensor, "B #G K"]:
        """Importance of the key in every row that is held."""

    def observe(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"] | None:
        """Look at the prompt as it is read, before anything is evicted; the output, where looking has made it."""

    @property
    def one_by_one(self) -> bool:
        """Once it has chosen, what follows is read whole."""
        return self.every_step

    @property
    def grows(self) -> bool:
        return not self.every_step

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        buffer = site.buffer
        if buffer is None:
            return site.dense()
        before = buffer.seen - site.q.shape[2]
        if before < buffer.final:
            raise Incompatible(
                f"{self.name()}: a crop must leave what was seen at the last eviction, since what that took does not "
                f"return; got one to {before} tokens, evicted was at {buffer.final}; use a new cache."
            )
        if not site.later:
            seen = self.observe(site, state)
            out = site.dense() if seen is None else seen
            if site.prompt is not None and buffer.seen == site.prompt:
                self._evict(site, state, site.prompt)
            return out
        if self.every_step:
            site = self._evict(site, state, buffer.seen)
        elif buffer.settled < (before if site.prompt is None else min(site.prompt, before)):
            site = self._evict(site, state, before)
        buffer.settled = buffer.seen
        return self.placed(site).dense()

    def stays(
        self, site: Site, scores: Float[Tensor, "B #G K"], real: Bool[Tensor, "B #G K"] | None,
        seen: int | Int[Tensor, "B 1 1"],
    ) -> Int[Tensor, "B #G M"]:  # fmt: skip
        """The rows that stay, as `choose` gives them, or as the wrapper says."""
        if self.wrapper is not None:
            return self.wrapper.stays(self, site, scores, real, seen)
        return choose(self.budget, scores, real, seen)

    def placed(self, site: Site) -> Site:
        """What is left, at its own positions, or at those that the wrapper gives."""
        return site if self.wrapper is None else self.wrapper.placed(site)

    def _adapter(self, model: Any) -> ModelAdapter:
        adapter = super()._adapter(model)
        if adapter.biased:
            raise UnsupportedModel(
                f"{self.name()}: {type(adapter.model).__name__} must know positions without counting the keys that are "
                "held; its position bias does not; use a method that keeps all keys, such as token_select."
            )
        prove_forgetting(adapter)
        return adapter

    def _evict(self, site: Site, state: Any, end: int) -> Site:
        """Bring the columns before `end` to the budget; newer ones stay. The budget is of all tokens seen."""
        buffer = site.buffer
        assert buffer is not None
        buffer.settled = buffer.seen
        if self._covers(site, end):
            return site
        scores, real, newer = self.score(site, state), site.real(), buffer.seen - end
        columns = site.key_columns()
        if site.expand is not None:
            # A row of latents serves all heads.
            scores, columns = scores.sum(1, keepdim=True), columns[:, :1]
            real = None if real is None else real[:, :1]
        if site.holes:
            assert real is not None
            real = real & (columns < end)
        elif newer:
            scores, real = scores[..., :-newer], None if real is None else real[..., :-newer]
        index = self.stays(site, scores, real, site.seen(end)).expand(*columns.shape[:2], -1)
        if newer:
            index = packed(torch.cat((index, rows_where(columns >= end)), -1))
        if index.shape[-1] < columns.shape[-1] or bool((index < 0).any()):
            buffer.keep(index, decided=end)
            # Keys that were made of latents need not be made again.
            site = site.now() if site.expand is None else site.narrow(index)
        return site

    def _covers(self, site: Site, end: int) -> bool:
        """Whether every sequence may keep all of its first `end` columns."""
        seen = torch.as_tensor(site.seen(end)).flatten().tolist()
        return all(self.budget.count(max(1, n)) >= n for n in seen)

"""A method that takes another method of the room as a field, and keeps what that one promises."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.attend.base import Attention, Evictor, Selector
from tokenry.attend.rows.choose import choose
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.attention.state import LayerState


@dataclass(frozen=True, kw_only=True)
class Wrapper(Attention):
    """A method around another, in the field `inside`: it attends as that one does, but for what a subclass changes."""

    inside: Attention
    takes: ClassVar[tuple[type, ...]] = (Attention,)
    """What may be inside."""
    wants: ClassVar[str] = "chooses among cached keys, layer by layer"
    """What that does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inside, self.takes) or type(self.inside).kinds != ("self",):
            raise InvalidValue(
                f"{self.name()}: inside must be one that {self.wants}; got {self.inside.name()}; "
                "see the column `action` of `tokenry list --room attend`."
            )

    @property
    def State(self) -> type[LayerState]:  # type: ignore[override]  # noqa: N802
        return self.inside.State

    @property
    def budget(self) -> Budget:
        """That of the method inside."""
        return self.inside.budget  # type: ignore[attr-defined]

    @property
    def extends(self) -> bool:
        return self.inside.extends

    @property
    def fixed(self) -> int:
        return self.inside.fixed

    @property
    def grows(self) -> bool:
        return self.inside.grows

    @property
    def one_by_one(self) -> bool:
        return self.inside.one_by_one

    def covers(self, seen: int) -> bool:
        return self.inside.covers(seen)

    def here(self, site: Site) -> Attention:
        inside = self.inside.here(site)
        return self if inside is self.inside else _around(self, inside)

    def reads_all(self, step: int) -> bool:
        return self.inside.reads_all(step)

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        return self.inside.attend(site, state)

    def _adapter(self, model: Any) -> ModelAdapter:
        super()._adapter(model)
        return self.inside._adapter(model)


@dataclass(frozen=True, kw_only=True)
class EvictingWrapper(Wrapper):
    """A wrapper that has a say in what an evictor keeps, and where that stands."""

    wants = "evicts"

    def stays(
        self, method: Evictor, site: Site, scores: Float[Tensor, "B #G K"], real: Bool[Tensor, "B #G K"] | None,
        seen: int | Int[Tensor, "B 1 1"],
    ) -> Int[Tensor, "B #G M"]:  # fmt: skip
        """The rows that stay."""
        if isinstance(self.inside, EvictingWrapper):
            return self.inside.stays(method, site, scores, real, seen)
        return choose(method.budget, scores, real, seen)

    def placed(self, site: Site) -> Site:
        """Where what is left stands."""
        return self.inside.placed(site) if isinstance(self.inside, EvictingWrapper) else site

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        return self.read(self.evictor(self), site, state)

    def evictor(self, asks: EvictingWrapper) -> Evictor:
        """The innermost method, which asks the outermost wrapper."""
        return self.inside.evictor(asks) if isinstance(self.inside, EvictingWrapper) else _asking(self.inside, asks)

    def read(self, evictor: Evictor, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        """Attention of one layer by that method, and what wrappers do beside it."""
        if isinstance(self.inside, EvictingWrapper):
            return self.inside.read(evictor, site, state)
        return evictor.attend(site, state)


EvictingWrapper.takes = (Evictor, EvictingWrapper)


@dataclass(frozen=True, kw_only=True)
class SelectingWrapper(Wrapper):
    """A wrapper that has a say in which rows a selector reads."""

    takes = (Selector,)
    wants = "chooses among cached keys, layer by layer and step by step"

    def rows(self, method: Selector, site: Site, state: Any) -> Int[Tensor, "B #G M"] | None:
        """The rows to read."""
        return method.select(site, state)

    def attend(self, site: Site, state: Any) -> Float[Tensor, "B H Q Dv"]:
        return _asking(self.inside, self).attend(site, state)


@lru_cache(maxsize=512)
def _around(wrapper: Wrapper, inside: Attention) -> Wrapper:
    return replace(wrapper, inside=inside)


def _asking(inside: Any, wrapper: Wrapper) -> Any:
    """The method inside, which asks its wrapper."""
    asking = copy.copy(inside)
    object.__setattr__(asking, "wrapper", wrapper)
    return asking


def with_budget(method: Attention, budget: Budget) -> Attention:
    """The same method with another budget, which a wrapper hands on.

    Raises:
        InvalidValue: a method without a budget, or one that the method refuses.
    """
    if isinstance(method, Wrapper):
        return replace(method, inside=with_budget(method.inside, budget))
    given = {f.name: getattr(method, f.name) for f in fields(method)}  # type: ignore[arg-type]
    if "budget" not in given:
        raise InvalidValue(f"{method.name()}: must have a budget to share out between layers; it has none.")
    return type(method)(**given | {"budget": budget})

"""What is lent to a model for the length of a block, and never given on to a copy of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from transformers import PreTrainedModel

from tokenry.models import private

_lending = threading.Lock()


@contextmanager
def lent(model: PreTrainedModel, name: str, spared: Collection[Any] = ()) -> Iterator[None]:
    """The model and its parts, but for those whose configurations are spared, call the attention of this name.

    Models may share configurations, so the last block that is left gives the names back.
    """
    names: list[tuple[Any, Lent]] = []
    with ExitStack() as stack:
        stack.callback(_give_back, names)
        with _lending:
            before = [(config, private.attention_name(config)) for config in private.configurations(model)]
            try:
                model.set_attn_implementation(name)
            finally:
                for config, other in before:
                    if any(config is one for one in spared):
                        private.name_attention(config, other)
                    elif private.attention_name(config) == name:
                        now = other if isinstance(other, Lent) else Lent(name, other)
                        now.blocks += 1
                        names.append((config, now))
                        private.name_attention(config, now)
        yield


def _give_back(names: list[tuple[Any, Lent]]) -> None:
    with _lending:
        for config, name in names:
            name.blocks -= 1
            if not name.blocks:
                private.name_attention(config, name.instead)


class Hook:
    """A hook on a module. A copy of the module, in memory or in a file, gets one that does nothing."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)

    def __deepcopy__(self, _: Any) -> Callable[..., None]:
        return nothing

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _nothing, ()


class Lent(str):
    """A name in a configuration in place of another one, which is what its copies get."""

    instead: str | None
    blocks: int
    """In how many blocks it is needed."""

    def __new__(cls, name: str, instead: str | None) -> Lent:
        lent = super().__new__(cls, name)
        lent.instead, lent.blocks = instead, 0
        return lent

    def __deepcopy__(self, _: Any) -> str | None:
        return self.instead

    def __reduce__(self) -> tuple[Callable[[str | None], str | None], tuple[str | None]]:
        return _itself, (self.instead,)


def nothing(*_: Any) -> None:
    """A hook that does nothing."""


def _nothing() -> Callable[..., None]:
    return nothing


def _itself(name: str | None) -> str | None:
    return name

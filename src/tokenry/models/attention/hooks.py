"""What is lent to a model for the length of a block, and never given on to a copy of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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

    def __new__(cls, name: str, instead: str | None) -> Lent:
        lent = super().__new__(cls, name)
        lent.instead = instead
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

"""The base of every method and of its parts: a value whose fields are its configuration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar, Self

from tokenry.core import registry
from tokenry.core.budget import Budget
from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import settle


class Value(ABC):
    """A frozen, keyword-only dataclass whose fields are its configuration.

    The room's base class sets `room`.
    """

    room: ClassVar[str]
    _key: ClassVar[str]
    explicit: ClassVar[frozenset[str]] = frozenset()
    """Fields that its one-line form sets; it shows them also where they hold their defaults."""

    def __post_init__(self) -> None:
        settle(self)

    @classmethod
    @abstractmethod
    def name(cls) -> str:
        """The name under which it is known."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values for JSON, with its `room/name`."""
        return {self._key: f"{self.room}/{self.name()}"} | {
            f.name: _plain(getattr(self, f.name))
            for f in fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InvalidValue: an unknown field, or a value its rule forbids.
        """
        given = {k: _revive(v) for k, v in values.items() if k != cls._key}
        cls.check_fields(given)
        return cls(**given)

    @classmethod
    def check_fields(cls, given: Mapping[str, Any]) -> None:
        """Refuse fields that it does not have, naming those it has."""
        registry.refuse_unknown(cls.name(), [f.name for f in fields(cls)], given)  # type: ignore[arg-type]

    def keep_explicit(self, names: Iterable[str]) -> None:
        """Remember which fields somebody set, so that the one-line form shows them."""
        object.__setattr__(self, "explicit", frozenset(names))

    def __str__(self) -> str:
        changed = [
            f"{f.name}={_word(getattr(self, f.name))}"
            for f in fields(self)  # type: ignore[arg-type]
            if f.name in self.explicit or _plain(getattr(self, f.name)) != _plain(f.default)
        ]
        return f"{self.room}/{self.name()}" + (":" + ",".join(changed) if changed else "")


class Method(Value):
    """One published system, with a card."""

    _key = "method"
    card: ClassVar[Card]

    @classmethod
    def name(cls) -> str:
        """The name under which it is known: its file, or its class in a notebook."""
        file = cls.__module__.rpartition(".")[2]
        return registry.snake(cls.__name__) if file == "__main__" else file


class Part(Value):
    """A piece of a method that may be exchanged for another of its kind: the value of a field made by `part`.

    The room's `parts/` has a file for each kind, with the kind and all that are of it; their cards are called `part`,
    so that they are listed under no method's name.
    """

    _key = "part"
    part: ClassVar[Card]

    @classmethod
    def name(cls) -> str:
        """The name under which it is known: its class in snake case, unless its card says otherwise."""
        card = getattr(cls, "part", None)
        return (card and card.name) or registry.snake(cls.__name__)


def _plain(value: Any) -> Any:
    if isinstance(value, Value):
        return value.to_dict()
    if isinstance(value, Budget):
        return {"budget": asdict(value)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "name", None) or str(value)


def _revive(value: Any) -> Any:
    if isinstance(value, Mapping) and "budget" in value and not value.keys() & {"method", "part"}:
        try:
            return Budget(**value["budget"])
        except TypeError as error:
            raise InvalidValue(f"budget: must be fields of a budget by name; got {value['budget']!r}.") from error
    if isinstance(value, Mapping) and "method" in value:
        return registry.load(str(value["method"])).from_dict(value)
    if isinstance(value, Mapping) and "part" in value:
        return registry.load_part(str(value["part"])).from_dict(value)
    if isinstance(value, list):
        return tuple(_revive(v) for v in value)
    return value


def _word(value: Any) -> str:
    if isinstance(value, Value):
        name, colon, settings = str(value).removeprefix(f"{value.room}/").partition(":")
        return f"{name}[{settings}]" if colon else name
    if value is None:
        return "none"
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)

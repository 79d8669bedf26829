"""Fields that know their limits and their meaning: `theta: float = between(-1, 1.01, default=0.9, doc="…")`."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from os import PathLike
from typing import Any, Literal, get_args, get_origin

from tokenry.core import registry
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule for one value: a test and the words that follow "must be"."""

    allows: Callable[[Any], bool]
    words: str


def positive(default: int, *, doc: str) -> Any:
    """A whole number of at least 1."""
    return _field(default, doc, Limit(lambda v: v >= 1, "at least 1"))


def natural(default: int, *, doc: str) -> Any:
    """A whole number of at least 0."""
    return _field(default, doc, Limit(lambda v: v >= 0, "at least 0"))


def natural_or(word: str, *, default: int | str, doc: str) -> Any:
    """A whole number of at least 0, or one word; its type is `int | str`."""

    def allows(value: int | str) -> bool:
        return value == word or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)

    return _field(default, doc, Limit(allows, f"a whole number of at least 0, or {word}"))


def odd(default: int, *, doc: str) -> Any:
    """The width of a window with a middle; where the default is 0, also none."""
    words = "an odd number of at least 1" if default else "0 or an odd number"
    return _field(default, doc, Limit(lambda v: (v >= 1 and v % 2 == 1) or v == default == 0, words))


def between(low: float, high: float, *, default: float, doc: str) -> Any:
    """A number in the closed interval [low, high]."""
    return _field(default, doc, Limit(lambda v: low <= v <= high, f"in [{low}, {high}]"))


def choice(*options: str, default: str, doc: str) -> Any:
    """One of a few words."""
    return _field(default, doc, Limit(lambda v: v in options, "one of " + ", ".join(options)))


def some_of(*options: str, default: tuple[str, ...] = (), doc: str) -> Any:
    """Any of a few words; in the one-line form they are joined by `+`."""
    return _field(default, doc, Limit(lambda v: set(v) <= set(options), "among " + ", ".join(options)))


def counts(low: int, high: int, *, product: int | None = None, default: tuple[int, ...], doc: str) -> Any:
    """Whole numbers in [low, high], perhaps with a bounded product; `+` joins them in the one-line form.

    At least one, but where the default is none.
    """

    def allows(values: tuple[int, ...]) -> bool:
        fits = bool(values or not default) and all(low <= v <= high for v in values)
        return fits and (product is None or math.prod(values) <= product)

    words = f"{'one' if default else 'none'} or more whole numbers in [{low}, {high}]"
    return _field(default, doc, Limit(allows, words + (f" whose product is at most {product}" if product else "")))


def numbers(low: float, high: float, *, default: tuple[float, ...], doc: str) -> Any:
    """One or more numbers in [low, high]; `+` joins them in the one-line form."""
    rule = Limit(lambda values: bool(values) and all(low <= v <= high for v in values), f"numbers in [{low}, {high}]")
    return _field(default, doc, rule)


def size(default: Budget, *, doc: str) -> Any:
    """A budget; a bare number keeps the default's sink and recent in proportion."""
    return _field(default, doc, None)


def folder(default: str | None, *, doc: str) -> Any:
    """The path of a folder, or none."""
    return _field(default, doc, Limit(lambda v: v is None or bool(v), "the path of a folder, or none"))


def setting(default: Any, *, doc: str) -> Any:
    """A field whose type is its only limit."""
    return _field(default, doc, None)


def part(default: Any, *, doc: str) -> Any:
    """A part of the method, such as `DecompX()`, or another method of the room; in the one-line form its name, as in
    `decompx[field=value]`.
    """
    return _field(default, doc, None, part=True)


def _field(default: Any, doc: str, limit: Limit | None, **more: Any) -> Any:
    return field(default=default, metadata={"doc": doc, "limit": limit, **more})


# Resolving annotations compiles each of them, and methods are made in passing, some for every text.
_hints: Callable[[Any], dict[str, Any]] = lru_cache(maxsize=512)(typing.get_type_hints)


def settle(owner: Any) -> None:
    """Bring every field of a dataclass to its declared type and check its limit.

    Raises:
        InvalidValue: naming the owner, the field, the value and the rule.
    """
    who, hints = type(owner).__name__, _hints(type(owner))
    for f in fields(owner):
        value, kind = getattr(owner, f.name), hints[f.name]
        if f.metadata.get("part"):
            value = _read_part(value, kind, who, f.name)
        else:
            value = read(value, kind, who, f.name, default=f.default)
        limit: Limit | None = f.metadata.get("limit")
        if limit is not None and not limit.allows(value):
            raise InvalidValue(f"{who}: {f.name} must be {limit.words}; got {value!r}.")
        object.__setattr__(owner, f.name, value)


def at_least_one(value: Any, who: str, name: str) -> int | None:
    """A whole number that somebody may give, or none.

    Raises:
        InvalidValue: anything else.
    """
    if value is None:
        return None
    number = _read_int(value, who, name)
    if number < 1:
        raise InvalidValue(f"{who}: {name} must be at least 1; got {value!r}.")
    return number


def read(value: Any, kind: Any, who: str, name: str, default: Any = None) -> Any:
    """`value`, possibly written as text, as the type `kind`."""
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(value, get_args(kind), who, name, default)
    if origin is Literal:
        return value
    if origin is tuple:
        return _read_tuple(value, get_args(kind), who, name)
    if kind is Budget:
        return Budget.of(value, like=default if isinstance(default, Budget) else None)
    reader = _READERS.get(kind)
    return reader(value, who, name) if reader else value


def _read_union(value: Any, kinds: tuple[Any, ...], who: str, name: str, default: Any) -> Any:
    if value is None or (value == "none" and type(None) in kinds):
        return None
    concrete = [k for k in kinds if k is not type(None)]
    if set(concrete) == {int, str}:
        return int(value) if isinstance(value, str) and value.isdigit() else value
    return read(value, concrete[0], who, name, default) if len(concrete) == 1 else value


def _read_tuple(value: Any, kinds: tuple[Any, ...], who: str, name: str) -> tuple[Any, ...]:
    """Values of one kind, possibly written as text and joined by `+`; a single number is a tuple of one."""
    if isinstance(value, str):
        value = value.split("+") if value else ()
    elif isinstance(value, int | float):
        value = (value,)
    elif not isinstance(value, list | tuple):
        raise InvalidValue(f"{who}: {name} must be values joined by +, or a tuple of them; got {value!r}.")
    return tuple(read(v, kinds[0], who, name) for v in value)


def _read_part(value: Any, kind: Any, who: str, name: str) -> Any:
    """A part from its one-line form, or as it is; parts of another kind are refused."""
    known = registry.held(kind)
    if isinstance(value, str) and value.partition("[")[0] in known:
        value = registry.parse_part(value, kind)
    if isinstance(value, kind):
        return value
    read = registry.load if kind._key == "method" else registry.load_part
    fits = [short for short, entry in known.items() if issubclass(read(entry.full_name), kind)]
    raise InvalidValue(f"{who}: {name} must be one of {', '.join(fits)}; got {_said(value)}.")


def _said(value: Any) -> str:
    return str(value) if hasattr(value, "to_dict") else repr(value)


def _read_bool(value: Any, who: str, name: str) -> bool:
    words: Mapping[Any, bool] = {True: True, False: False, "true": True, "false": False, "yes": True, "no": False}
    # Python writes its own words with a capital letter.
    known = value.lower() if isinstance(value, str) else value
    if isinstance(known, bool) or (isinstance(known, str) and known in words):
        return words[known]
    raise InvalidValue(f"{who}: {name} must be true or false; got {value!r}.")


def _read_int(value: Any, who: str, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidValue(f"{who}: {name} must be a whole number; got {value!r}.")
    try:
        return int(value)
    except ValueError:
        raise InvalidValue(f"{who}: {name} must be a whole number; got {value!r}.") from None


def _read_float(value: Any, who: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidValue(f"{who}: {name} must be a number; got {value!r}.")
    try:
        return float(value)
    except ValueError:
        raise InvalidValue(f"{who}: {name} must be a number; got {value!r}.") from None


def _read_text(value: Any, who: str, name: str) -> str:
    if not isinstance(value, str | PathLike):
        raise InvalidValue(f"{who}: {name} must be text; got {value!r}.")
    return str(value)


_READERS: Mapping[Any, Callable[[Any, str, str], Any]] = {
    bool: _read_bool, int: _read_int, float: _read_float, str: _read_text,
}  # fmt: skip

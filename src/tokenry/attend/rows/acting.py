"""The layers that a method acts in: those that it names must be there."""

from __future__ import annotations

from tokenry.core.errors import InvalidValue
from tokenry.core.method import Method
from tokenry.models.attention.adapter import ModelAdapter


def refuse_missing(method: Method, adapter: ModelAdapter, field: str, last: int) -> None:
    """Refuse a field that names a layer which a model does not have, or leaves it none.

    Args:
        last: the highest number in the field, which must be that of a layer.

    Raises:
        InvalidValue: naming the field, its rule and the number.
    """
    if last >= adapter.depth:
        raise InvalidValue(
            f"{method.name()}: {field} must be below {adapter.depth}, the layers that {type(adapter.model).__name__} "
            f"has; got {last}."
        )

"""A tokenizer that others stand in front of: its pieces must spell the text."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain

from tokenry.core.errors import InvalidValue
from tokenry.segment.base import FromFile, Tokenizer
from tokenry.segment.engines.encoding import runner
from tokenry.segment.engines.opening import open_tokenizer

PARTS = ("x=", "12", ";y ", "5", " z\n", "6")
"""What a tokenizer must spell alone as it does inside of a text."""


@lru_cache(maxsize=8)
def spelling_base(name: str, who: str, field: str) -> Tokenizer:
    """The tokenizer of a name, whose pieces stand side by side in every text, and which spells any part of one alike.

    Args:
        who, field: the method, and the field that holds the name.

    Raises:
        UnknownModel: no tokenizer has this name.
        InvalidValue: its pieces do not spell the text, or parts of it otherwise than the whole.
    """
    found = open_tokenizer(name)
    spells = isinstance(found, FromFile) and runner(found.opened, found.special).original.byte_level
    if not (found.lossless or spells):
        raise InvalidValue(
            f"{who}: {field} must be a tokenizer whose pieces spell the text; {name} is {found.lossless}; use one of "
            "bytes, such as smollm2."
        )
    alone = chain.from_iterable(found.encode(part).ids.tolist() for part in PARTS)
    if found.decode(alone) != found.decode(found.encode("".join(PARTS))):
        raise InvalidValue(
            f"{who}: {field} must spell the parts of a text as the text, without a space more or less; {name} does "
            "not; use another one of bytes, such as smollm2."
        )
    return found

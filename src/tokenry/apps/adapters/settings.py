"""What an adapter is told once, and how it shortens without ever standing in the way."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from tokenry.pipeline.messages.compressing import FLOOR, OLDER, USE, Use, compress_messages
from tokenry.pipeline.messages.originals import Originals

log = logging.getLogger("tokenry")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See `compress_messages`.

    Args:
        use: compressors, one after the other.
        tokenizer: whose tokens are counted.
        floor: results of fewer tokens stay.
        keep: names of tools whose results stay.
        older_every: tokens between two points at which older turns shrink, and `older_use` by what.
        originals: where originals are kept; requests then carry the tool that brings them back.
    """

    use: Use = USE
    tokenizer: Any = "o200k_base"
    floor: int = FLOOR
    keep: tuple[str, ...] = ()
    older_every: int | None = None
    older_use: Use = OLDER
    originals: Originals | None = None

    def shortened(self, messages: Any, tools: Any = None, style: str = "chat") -> tuple[Any, Any]:
        """Messages and tools as they go on; as they came where anything goes wrong, which is logged."""
        if not isinstance(messages, list):
            return messages, tools
        offers = self.originals if tools is None or isinstance(tools, list) else None
        try:
            found = compress_messages(
                messages, tools=tools if isinstance(tools, list) else None, use=self.use, tokenizer=self.tokenizer,
                floor=self.floor, keep=self.keep, older_every=self.older_every, older_use=self.older_use,
                originals=offers, style=style,
            )  # fmt: skip
        except Exception as error:
            log.warning("passed on as it came: %s", error)
            return messages, tools
        return found.messages, tools if offers is None else found.tools

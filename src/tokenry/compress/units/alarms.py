"""Lines that say that something went wrong."""

from __future__ import annotations

import re

_ALARM = re.compile(
    r"""\b(?:ERROR|FATAL|CRITICAL|SEVERE|EMERG|PANIC|FAILED|FAILURE|Traceback|Segmentation\sfault|core\sdumped)\b
    | \b(?:[A-Z]\w*)?(?:Error|Exception)\b(?!\s*=)
    | ^\s*(?:[^\s:]+:\d+(?::\d+)?:\s*)?(?:fatal\s)?error\b
    | \b(?:panic(?:ked)?|fatal|failed|failure|denied|refused|timed\sout|out\sof\smemory|oom-?kill\w*|killed)\b
    | \b(?:exit(?:ed)?|return(?:ed)?)\s(?:with\s)?(?:code|status)\s[1-9]
    | "(?:level|severity)"\s*:\s*"(?:error|fatal|critical)" | \blevel=(?:error|fatal|critical)\b""",
    re.VERBOSE | re.MULTILINE,
)
_NONE = re.compile(r"\b(?:0|no|without)\s(?:errors?|failures?|failed)\b|\bPASSED\b|\s\.{2,}\s?ok\s*$", re.IGNORECASE)


def alarming(text: str) -> bool:
    """Whether a line, or lines that belong together, report an error."""
    return _ALARM.search(text) is not None and _NONE.search(text) is None

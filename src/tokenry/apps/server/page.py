"""The page of a gateway: what it saved, live, and nothing of what was said."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def page() -> str:
    """One page that needs nothing else; it asks `/savings.json` every few seconds."""
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")

"""Seeds of which every bit counts: torch's generator on a processor looks at the last 32 alone."""

from __future__ import annotations

_PRIME = 0x9E3779B1


def mixed(seed: int) -> int:
    """A seed of 32 bits for any number from 0 on; those below 2^32 stay as they are."""
    return (seed ^ ((seed >> 32) * _PRIME)) & 0xFFFFFFFF
